//! Measures Bowline beside its peers. `bench/README.md` says how to run it and what its numbers mean.
//!
//! One program in several roles: `run` starts the products, the two others, and prints the table; `backend` and `client` are the
//! load; `core` runs Bowline's core in memory, for instruments that count; `relay` and `aead` are the floor under every product.

mod aead;
mod backend;
mod certificates;
mod chart;
mod client;
mod core;
mod install;
mod measure;
mod offer;
mod pattern;
mod pause;
mod process;
mod procfs;
mod product;
mod proxy_v1;
mod proxy_v2;
mod relay;
mod report;
mod run;
mod system_calls;
mod wire;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let outcome = match words.next().as_deref() {
        Some("run") => run::run(words),
        Some("backend") => backend(words).map(|()| true),
        Some("client") => client::run(words).map(|()| true),
        Some("relay") => relay::run(words).map(|()| true),
        Some("aead") => aead::run().map(|()| true),
        Some("core") => core::run(words).map(|()| true),
        Some("--version") => {
            println!("bowline-load {}", env!("CARGO_PKG_VERSION"));
            Ok(true)
        }
        Some("-h" | "--help") => {
            println!("{}", run::USAGE);
            Ok(true)
        }
        _ => Err(run::USAGE.to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bowline-load: {error}");
            ExitCode::from(2)
        }
    }
}

fn backend(mut words: impl Iterator<Item = String>) -> Result<(), String> {
    let parse_header = match words.next().as_deref() {
        Some("v1") => proxy_v1::parse,
        Some("v2") => proxy_v2::parse,
        _ => return Err("backend needs the version of the PROXY header: v1 or v2".to_owned()),
    };
    backend::run(parse_header).map_err(|error| error.to_string())
}
