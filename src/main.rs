//! The `bowline` command; all of it is in the library.

fn main() -> std::process::ExitCode {
    bowline::cli::main()
}
