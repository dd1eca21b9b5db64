//! `bowline-load run`: all products, all measurements, several rounds, one table.

use std::path::PathBuf;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::aead;
use crate::certificates::Certificates;
use crate::chart;
use crate::core;
use crate::install::{self, locate};
use crate::measure::{Finding, Stage};
use crate::offer::{Library, Named, Suite};
use crate::process::{allowed_cpus, pin};
use crate::product::Template;
use crate::report::{FLOOR, FLOORS, OWN, Report, number};
use crate::system_calls::STRACE;
use crate::workload::{self, Action, Scale, Workload};

pub(crate) const USAGE: &str = "\
usage: bowline-load run [options]
  --rounds N              rounds, all products in each (default 3)
  --quick                 one small round: is everything in order? Its numbers mean little
  --product NAME[=PATH]   measure this product, from this path; repeat (default: all in the peers directory that are found)
  --measure NAME[,NAME]   groups, names, or the start of names up to a hyphen (default: all); --list tells them
  --list                  tells the groups and names, and measures nothing
  --client LIBRARY        what the client speaks TLS with: rustls (default) or openssl, which must have been built in (feature
                          openssl-client) and leaves out resumed sessions and X25519MLKEM768
  --chart FILE            writes the rows as a page of HTML too
  --peers DIRECTORY       the products' templates (default bench/load/peers)
  --cpus PRODUCT,LOAD     CPU of the product and CPU of the load (default: the first two allowed ones); where a row
                          gives the product two CPUs, the other is the third allowed one, or else the load's
  --no-install            do not install missing packages
A variable with a product's name in capitals says where its program is without choosing it: HAPROXY=/opt/haproxy-3.4/haproxy
exit status: 0 every bar is met (or bowline was not measured), 1 a bar is missed or a row is void, 2 nothing could be measured";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    rounds: usize,
    quick: bool,
    products: Vec<(String, Option<String>)>,
    measure: Vec<String>,
    list: bool,
    library: Library,
    chart: Option<PathBuf>,
    peers: PathBuf,
    cpus: Option<(usize, usize)>,
    install: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 0,
            quick: false,
            products: Vec::new(),
            measure: Vec::new(),
            list: false,
            library: Library::Rustls,
            chart: None,
            peers: PathBuf::from("bench/load/peers"),
            cpus: None,
            install: true,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--rounds" => {
                    options.rounds =
                        value()?.parse().ok().filter(|&rounds| rounds > 0).ok_or("--rounds needs a number above 0")?;
                }
                "--quick" => options.quick = true,
                "--product" => {
                    let value = value()?;
                    options.products.push(match value.split_once('=') {
                        Some((name, path)) => (name.to_owned(), Some(path.to_owned())),
                        None => (value, None),
                    });
                }
                "--measure" => options.measure.extend(value()?.split(',').map(str::to_owned)),
                "--list" => options.list = true,
                "--client" => {
                    options.library = match value()?.as_str() {
                        "rustls" => Library::Rustls,
                        "openssl" if cfg!(feature = "openssl-client") => Library::OpenSsl,
                        "openssl" => return Err("this program was built without the feature openssl-client".to_owned()),
                        other => return Err(format!("--client {other}: there are rustls and openssl")),
                    }
                }
                "--chart" => options.chart = Some(PathBuf::from(value()?)),
                "--peers" => options.peers = PathBuf::from(value()?),
                "--cpus" => {
                    let value = value()?;
                    let pair = value
                        .split_once(',')
                        .and_then(|(product, load)| Some((product.parse().ok()?, load.parse().ok()?)));
                    options.cpus =
                        Some(pair.ok_or_else(|| format!("--cpus {value}: two numbers with a comma are needed"))?);
                }
                "--no-install" => options.install = false,
                _ => return Err(format!("unknown option {word}")),
            }
        }
        if options.rounds == 0 {
            options.rounds = if options.quick { 1 } else { 3 };
        }
        Ok(options)
    }

    /// The workloads that are asked for.
    fn workloads(&self, scale: &Scale) -> Result<Vec<Workload>, String> {
        let all = workload::all(scale);
        let unknown = |word: &&String| !all.iter().any(|workload| workload.is_called(word));
        if let Some(word) = self.measure.iter().find(unknown) {
            return Err(format!("there is no measurement '{word}'; --list tells them"));
        }
        let chosen =
            |workload: &Workload| self.measure.is_empty() || self.measure.iter().any(|word| workload.is_called(word));
        Ok(all.into_iter().filter(chosen).collect())
    }

    /// The templates that are asked for, Bowline first, each with the path that was given for its program.
    fn templates(&self) -> Result<Vec<(Template, Option<String>)>, String> {
        let fail = |error: std::io::Error| format!("{}: {error}", self.peers.display());
        let mut templates = Vec::new();
        for entry in std::fs::read_dir(&self.peers).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_some_and(|extension| extension == "in") {
                templates.push(Template::read(&path)?);
            }
        }
        let floor = |template: &Template| FLOORS.contains(&template.name.as_str());
        templates.sort_by_key(|template| (template.name != OWN, floor(template), template.name.clone()));
        if let Some((name, _)) =
            self.products.iter().find(|(name, _)| templates.iter().all(|template| template.name != *name))
        {
            return Err(format!("there is no template for '{name}' in {}", self.peers.display()));
        }
        let chosen = |template: Template| {
            let choice = self.products.iter().find(|(name, _)| *name == template.name);
            match choice {
                Some((_, path)) => Some((template, path.clone())),
                None => self.products.is_empty().then_some((template, None)),
            }
        };
        Ok(templates.into_iter().filter_map(chosen).collect())
    }
}

/// Runs everything. `Ok`: whether every bar was met.
pub(crate) fn run(words: impl Iterator<Item = String>) -> Result<bool, String> {
    let options = Options::parse(words).map_err(|error| format!("{error}\n{USAGE}"))?;
    let scale = scale(options.quick)?;
    let mut workloads = options.workloads(&scale)?;
    if options.list {
        for Workload { group, name, .. } in &workloads {
            println!("{group:<14} {name}");
        }
        return Ok(true);
    }
    let cpus = allowed_cpus()?;
    let (product_cpu, load_cpu) = match (options.cpus, cpus.as_slice()) {
        (Some(cpus), _) => cpus,
        (None, &[product, load, ..]) => (product, load),
        (None, _) => {
            return Err("two CPUs are needed: one for the product, one for the load".to_owned());
        }
    };
    pin(&[load_cpu])?;
    let second_cpu = cpus.iter().copied().find(|cpu| ![product_cpu, load_cpu].contains(cpu)).unwrap_or(load_cpu);

    let mut notes: Vec<String> = Vec::new();
    let chosen = workloads.len();
    workloads.retain(|workload| options.library.can(&workload.offer));
    if workloads.len() < chosen {
        notes.push("not measured with the OpenSSL client: resumed sessions, X25519MLKEM768".to_owned());
    }
    let calls = |workload: &Workload| matches!(workload.action, Action::SystemCalls { .. });
    if workloads.iter().any(calls) {
        if let Err(reason) = install::tool(STRACE, options.install) {
            notes.push(format!("not measured: system calls: {reason}"));
            workloads.retain(|workload| !calls(workload));
        }
    }
    let mut products = Vec::new();
    for (template, path) in options.templates()? {
        match locate(&template, path.as_deref(), options.install) {
            Ok(program) => {
                notes.extend(template.notes.iter().cloned());
                let version = template.version(&program);
                products.push((template, program, version));
            }
            Err(reason) => notes.push(format!("not measured: {}: {reason}", template.name)),
        }
    }
    if products.is_empty() {
        return Err(format!("there is nothing to measure\n{}", notes.join("\n")));
    }

    let directory = tempfile::Builder::new()
        .prefix("bowline-load.")
        .tempdir()
        .map_err(|error| format!("temporary directory: {error}"))?;
    let mut certificates =
        Certificates::create(directory.path()).map_err(|error| format!("making certificates: {error}"))?;
    let mut stage = Stage {
        certificates: &mut certificates,
        scale,
        product_cpus: [product_cpu, second_cpu],
        load_cpu,
        library: options.library,
    };
    let mut report = Report::new(
        &workloads,
        products.iter().map(|(template, _, version)| (template.name.clone(), version.clone())).collect(),
    );
    if products.iter().any(|(template, ..)| template.name == FLOOR) {
        for &suite in Suite::ALL {
            let cost = aead::measure(suite.tls13(), 1 << 30)?;
            let [seal, open] = [cost.seal, cost.open].map(|time| number(time.as_secs_f64() * 1e3));
            notes.push(format!(
                "the AEAD alone, {}: {seal} ms per GiB to the client, {open} ms to the backend",
                suite.title()
            ));
        }
        if workloads.iter().any(|workload| workload.only == Some(FLOOR)) {
            let costs = ["full-mtls", "full", "resumed-mtls", "resumed"]
                .map(|name| core::cost(name).map(|time| format!("{name} {} µs", number(time.as_secs_f64() * 1e6))));
            let costs = costs.into_iter().collect::<Result<Vec<_>, _>>()?.join(", ");
            notes.push(format!("a connection in Bowline's core alone, in memory: {costs}"));
        }
    }
    let start = Instant::now();
    for round in 0..options.rounds {
        for (index, workload) in workloads.iter().enumerate() {
            // Another one begins in each round, so that none is always first after a pause.
            for turn in 0..products.len() {
                let place = (turn + round) % products.len();
                let (template, program, _) = &products[place];
                if workload.is_for(template) {
                    let outcome = stage.measure(workload, template, program);
                    let progress = progress(workload, &outcome);
                    eprintln!("round {} {:<24} {:<10} {progress}", round + 1, workload.name, template.name);
                    report.add(index, place, &outcome);
                }
            }
        }
    }

    let seconds = start.elapsed().as_secs();
    let quick = if options.quick { ", quick: the numbers mean little" } else { "" };
    let circumstances = [
        machine(product_cpu, load_cpu),
        format!("{} round(s) in {seconds} s{quick}; a load goes on for {} ms", options.rounds, scale.time),
        format!(
            "TLS 1.3, X25519, TLS_AES_128_GCM_SHA256, ECDSA P-256, where a row does not say otherwise; PROXY header to the backend; one worker each; the client is {}",
            options.library.name()
        ),
    ];
    println!("\n{}\n", circumstances.join("\n"));
    print!("{}", report.text());
    notes.iter().for_each(|note| println!("{note}"));
    if let Some(path) = options.chart {
        let names: Vec<&str> = products.iter().map(|(template, ..)| template.name.as_str()).collect();
        let rows = report.lines().iter().map(|line| chart::Row::new(line, &names)).collect();
        let versions = products.iter().map(|(template, _, version)| format!("{} {version}", template.name));
        let circumstances = [&circumstances[..], &[versions.collect::<Vec<_>>().join(", ")]].concat();
        let page = chart::html(&chart::Page { circumstances, rows, notes });
        std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("chart: {}", path.display());
    }
    Ok(report.passed())
}

/// The work of a measurement, as far as the descriptor limit carries it.
fn scale(quick: bool) -> Result<Scale, String> {
    let mut scale = if quick { Scale::QUICK } else { Scale::FULL };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| format!("getrlimit: {error}"))?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(|error| format!("setrlimit: {error}"))?;
    // The product has two descriptors for each connection, and some of its own.
    let carried = usize::try_from(hard.saturating_sub(500) / 2).unwrap_or(usize::MAX);
    scale.connections = scale.connections.min(carried);
    Ok(scale)
}

fn progress(workload: &Workload, outcome: &Result<Option<Finding>, String>) -> String {
    let finding = match outcome {
        Ok(Some(finding)) => finding,
        Ok(None) => return "cannot".to_owned(),
        Err(reason) => return format!("void: {reason}"),
    };
    let mut parts = Vec::new();
    for row in &workload.rows {
        if let Some((metric, value)) = finding.values.iter().find(|(metric, _)| *metric == row.metric) {
            parts.push(format!("{metric:?} {} {}", number(value * row.unit.factor), row.unit.name));
        }
    }
    if let Some(effort) = finding.effort {
        let [product, load] = [effort.product_busy * 100.0, effort.load_busy * 100.0];
        parts.push(format!("busy {product:.0} %, load {load:.0} %"));
    }
    if !finding.remark.is_empty() {
        parts.push(finding.remark.clone());
    }
    parts.join("; ")
}

fn machine(product_cpu: usize, load_cpu: usize) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let siblings = read(&format!("/sys/devices/system/cpu/cpu{product_cpu}/topology/thread_siblings_list"));
    let shared = if siblings_include(siblings.trim(), load_cpu) { " (two threads of one core)" } else { "" };
    format!(
        "{model}, Linux {}; product on CPU {product_cpu}, load on CPU {load_cpu}{shared}; load average at the end {}",
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    )
}

/// Whether a list such as `0-1` or `0,4` names this CPU.
fn siblings_include(list: &str, cpu: usize) -> bool {
    list.split(',').any(|part| match part.split_once('-') {
        Some((first, last)) => {
            first.parse().is_ok_and(|first: usize| first <= cpu) && last.parse().is_ok_and(|last: usize| cpu <= last)
        }
        None => part.parse() == Ok(cpu),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options() {
        let options =
            parse("--rounds 5 --product bowline=/x/y --product hitch --measure full,reload --cpus 2,3 --no-install")
                .unwrap();
        assert_eq!(options.rounds, 5);
        assert_eq!(options.products, [("bowline".to_owned(), Some("/x/y".to_owned())), ("hitch".to_owned(), None)]);
        let names = |options: &Options| -> Vec<String> {
            options.workloads(&Scale::FULL).unwrap().into_iter().map(|workload| workload.name).collect()
        };
        assert_eq!(names(&options)[..2], ["full-mtls", "full-tls"]);
        assert_eq!(names(&options).last().unwrap(), "reload");
        assert_eq!(names(&parse("").unwrap()).len(), workload::all(&Scale::FULL).len());
        let unknown = parse("--measure all").unwrap().workloads(&Scale::FULL);
        assert!(unknown.unwrap_err().contains("'all'"));
        assert_eq!((options.cpus, options.install), (Some((2, 3)), false));
        assert_eq!((parse("").unwrap().rounds, parse("--quick").unwrap().rounds), (3, 1));
        assert_eq!(
            (parse("").unwrap().library, parse("--client rustls").unwrap().library),
            (Library::Rustls, Library::Rustls)
        );
        assert_eq!(parse("--chart x/y.html").unwrap().chart, Some(PathBuf::from("x/y.html")));
    }

    #[test]
    fn bad_options_are_named() {
        for (line, word) in [
            ("--fast", "--fast"),
            ("--rounds", "value"),
            ("--rounds 0", "--rounds"),
            ("--cpus 1", "--cpus"),
            ("--client gnutls", "gnutls"),
        ] {
            assert!(parse(line).unwrap_err().contains(word), "{line}");
        }
    }

    #[test]
    fn sibling_lists() {
        assert!(siblings_include("0-1", 1) && siblings_include("0,4", 4));
        assert!(!siblings_include("0", 1) && !siblings_include("0,4", 1) && !siblings_include("", 0));
    }
}
