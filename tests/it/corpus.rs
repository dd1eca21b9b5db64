//! Files of the language: those that both programs accept, and those that are refused with exactly these words.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::support::bowline::{Site, program};
use super::support::certs::Leaf;
use super::support::peers::skipped;
use super::support::pki;

/// The files of a folder of the corpus with this extension.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let entries = folder.read_dir().expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    assert!(!files.is_empty(), "nothing in {}", folder.display());
    files
}

/// A directory with the files that the corpus names.
fn site() -> Site {
    let site = Site::new();
    site.write("other.pem", pki().server_ca.issue(&Leaf::server(&["other.test"])).pem());
    fs::create_dir(site.path("issuers")).expect("a folder");
    fs::write(site.path("issuers/ca.pem"), pki().server_ca.pem()).expect("written");
    for file in files("good", "list").into_iter().chain(files("good", "pem")) {
        let name = file.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        site.write(name, fs::read(&file).expect("it"));
    }
    site
}

fn check(program: impl AsRef<std::ffi::OsStr>, site: &Site, file: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(program.as_ref());
    command.arg("-C").arg(site.dir()).args(options).arg("-c").arg("-f").arg(file).stdin(Stdio::null());
    // What tests/run was started with is not part of a test.
    command.env_remove("NO_COLOR");
    command.output().unwrap_or_else(|error| panic!("{:?}: {error}", program.as_ref()))
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[test]
fn the_good_files_are_accepted_without_a_warning() {
    let site = site();
    for file in files("good", "cfg") {
        let output = check(program(), &site, &file, &["-dW", "-V"]);
        assert!(output.status.success(), "{}:\n{}", file.display(), said(&output));
        for word in ["warning:", "warning["] {
            assert!(!said(&output).contains(word), "{}:\n{}", file.display(), said(&output));
        }
    }
}

#[test]
fn the_good_files_are_fit_for_haproxy() {
    let site = site();
    for file in files("good", "cfg") {
        let output = check(program(), &site, &file, &["--haproxy"]);
        assert!(output.status.success(), "{}:\n{}", file.display(), said(&output));
    }
}

/// `# newer than 2.6: word …` in the first line names what Debian 12's HAProxy does not know yet. Otherwise it must agree.
#[test]
fn haproxy_accepts_the_good_files_as_far_as_it_knows_the_words() {
    if skipped() {
        return;
    }
    let site = site();
    for file in files("good", "cfg") {
        let output = check("haproxy", &site, &file, &[]);
        let text = fs::read_to_string(&file).expect("UTF-8");
        match text.lines().next().and_then(|line| line.strip_prefix("# newer than 2.6: ")) {
            None => assert!(output.status.success(), "{}:\n{}", file.display(), said(&output)),
            Some(words) if !output.status.success() => {
                for word in words.split(' ') {
                    assert!(
                        said(&output).contains(&format!("'{word}")),
                        "{}: {word}\n{}",
                        file.display(),
                        said(&output)
                    );
                }
            }
            // A later HAProxy.
            Some(_) => {}
        }
    }
}

/// What is printed about each bad file stands beside it. `BOWLINE_BLESS=1` writes it anew, to be read before it is committed.
#[test]
fn the_bad_files_are_refused_in_these_words() {
    let bless = std::env::var_os("BOWLINE_BLESS").is_some();
    let site = site();
    let mut wrong = Vec::new();
    for file in files("bad", "cfg") {
        let name = file.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        fs::copy(&file, site.path(name)).expect("a copy");
        let mut command = Command::new(program());
        command.arg("-C").arg(site.dir()).args(["-c", "-f", name]).env_remove("BOWLINE_NOT_SET").stdin(Stdio::null());
        let output = command.output().expect("bowline runs");
        assert!(output.status.code().is_some_and(|code| code < 2), "{name}: {}\n{}", output.status, said(&output));
        let found = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success(), found.contains("Configuration file is valid"), "{name}:\n{found}");
        let expected = file.with_extension("expected");
        if bless {
            fs::write(&expected, &found).expect("written");
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        if found != wanted {
            wrong.push(format!("==== {name}, wanted:\n{wanted}---- found:\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What HAProxy makes of a word, by the notice that it prints.
fn haproxys_words(lines: &[String]) -> Vec<String> {
    let site = Site::new();
    let text: String = lines.iter().map(|line| format!(".notice {line}\n")).collect::<String>()
        + "global\nlisten l\n    bind 127.0.0.1:1\n    timeout client 1s\n    timeout connect 1s\n    timeout server 1s\n    server s 127.0.0.1:1\n";
    let file = site.configure(&text);
    let output = Command::new("haproxy")
        .args(["-c", "-f"])
        .arg(&file)
        .env("A", "a value")
        .env("E", "")
        .output()
        .expect("haproxy is installed; or set BOWLINE_SKIP_PEERS=1");
    let place = format!("parsing [{}:", file.display());
    let found = String::from_utf8_lossy(&output.stderr).into_owned();
    let words: Vec<String> = found
        .lines()
        .filter_map(|line| line.split_once(&place))
        .map(|(_, rest)| rest.split_once("]: '").map_or(rest, |(_, word)| word).trim_end_matches("'.").to_owned())
        .collect();
    assert_eq!(words.len(), lines.len(), "{found}");
    words
}

/// The tokenizer beside HAProxy's: words put together of all that means something to it.
#[test]
fn words_are_what_they_are_to_haproxy() {
    if skipped() {
        return;
    }
    const PIECES: &[&str] = &[
        "a",
        "b c",
        "'d e'",
        "\"f g\"",
        "\\ ",
        "\\#",
        "\\\\",
        "\\'",
        "\\\"",
        "\\x41",
        "\\q",
        "\\n",
        "\"$A\"",
        "\"${A}\"",
        "'$A'",
        "$A",
        "\"${NONE-x y}\"",
        "\"${E-z}\"",
        "\"\\$A\"",
        "\"\\ \"",
        "\"'\"",
        "'\"'",
        "\"\\x42\"",
        "\"#\"",
        "'#'",
        "\"${.LINE}\"",
        "%",
        "\"a\\\"b\"",
    ];
    // Two pieces each, in every order; what contains a bare blank is in quotes or escaped, so that it is one word.
    let pieces: Vec<&str> = PIECES.iter().copied().filter(|piece| *piece != "b c").collect();
    let mut lines = Vec::new();
    for first in &pieces {
        for second in &pieces {
            lines.push(format!("w{first}{second}"));
        }
    }
    let theirs = haproxys_words(&lines);
    let site = Site::new();
    let text: String = lines.iter().map(|line| format!(".notice {line}\n")).collect();
    let mut ours = Vec::new();
    // Notices of one file are limited.
    for part in text.lines().collect::<Vec<_>>().chunks(40) {
        let lines = part.join("\n");
        let file = site.configure(&format!("{lines}\nglobal\n"));
        let mut command = Command::new(program());
        let output =
            command.args(["-c", "-f"]).arg(file).env("A", "a value").env("E", "").output().expect("bowline runs");
        let found = String::from_utf8_lossy(&output.stderr).into_owned();
        let words = found.lines().filter_map(|line| line.split_once("notice[N012]: ")).map(|(_, word)| word.to_owned());
        let before = ours.len();
        ours.extend(words);
        assert_eq!(ours.len(), before + part.len(), "{found}");
    }
    for ((line, ours), theirs) in lines.iter().zip(&ours).zip(&theirs) {
        let number = |word: &str| word.replace(|c: char| c.is_ascii_digit(), "0");
        // The lines are numbered otherwise, and control characters are shown differently.
        if line.contains(".LINE") || line.contains("\\n") {
            assert_eq!(number(ours).chars().next(), number(theirs).chars().next(), "{line}");
            continue;
        }
        assert_eq!(ours, theirs, "{line}");
    }
}

/// Debian's own file, in front of a frontend of TCP: what most installations begin with.
#[test]
fn debians_file_with_a_frontend_has_no_errors() {
    if skipped() {
        return;
    }
    let site = site();
    let debians =
        fs::read_to_string("/etc/haproxy/haproxy.cfg").expect("HAProxy's package; or set BOWLINE_SKIP_PEERS=1");
    let frontend = "\nfrontend tls\n    mode tcp\n    bind :8443 ssl crt {dir}/server.pem\n    default_backend app\nbackend app\n    \
                    mode tcp\n    server s 127.0.0.1:80 send-proxy-v2\n";
    let checked = site.check(&site.fill_in(&(debians + frontend)));
    assert_eq!(checked.code, Some(0), "{}", checked.text);
    assert!(
        checked.text.contains("'errorfile' has no effect here") && checked.text.contains("(7 lines)"),
        "{}",
        checked.text
    );
}

/// HAProxy's meaning would win: a name of ours that it takes has to be given up.
#[test]
fn extensions_have_names_that_haproxy_does_not_use() {
    if skipped() {
        return;
    }
    let help = Command::new(program()).arg("--help-keywords").output().expect("bowline runs");
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let lines: Vec<&str> = help.lines().collect();
    let is_extension = |pair: &&[&str]| pair[1].trim_start().starts_with("Extension");
    let names = lines
        .windows(2)
        .filter(is_extension)
        .filter_map(|pair| pair[0].trim().split_once(" [").or(Some((pair[0].trim(), ""))));
    let names: Vec<&str> = names.map(|(name, _)| name.strip_prefix("option ").unwrap_or(name)).collect();
    assert!(names.contains(&"sni-nomatch-abort") && names.len() > 2, "{names:?}");
    let site = Site::new();
    let file = site.configure("listen l\n    bind :1\n    mode tcp\n    server s 127.0.0.1:1\n");
    let output = check("haproxy", &site, &file, &["-dKall", "-q"]);
    let theirs = said(&output);
    let words: std::collections::HashSet<&str> = theirs.split(|c: char| c.is_whitespace() || c == '(').collect();
    assert!(words.contains("accept-proxy") && words.len() > 500, "{theirs}");
    let taken: Vec<&&str> = names.iter().filter(|name| words.contains(**name)).collect();
    assert!(taken.is_empty(), "HAProxy has {taken:?}");
}
