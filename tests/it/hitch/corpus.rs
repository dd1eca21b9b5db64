//! `tests/corpus/hitch/`: what Hitch and Bowline say about the same files. The first line of each tells the exit codes, and the
//! code of what Bowline finds.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::super::support::peers::skipped;
use super::super::support::{Leaf, Site, pki};
use super::{run, text};

/// `# hitch 0, bowline 1 E301`
struct Expected {
    hitch: i32,
    bowline: i32,
    /// The beginning of a code, if something is to be said.
    code: Option<String>,
}

impl Expected {
    fn of(content: &str) -> Option<Self> {
        let line = content.lines().next()?.strip_prefix("# hitch ")?;
        let (hitch, bowline) = line.split_once(", bowline ")?;
        let mut words = bowline.split(' ');
        let (code, found) = (words.next()?, words.next().map(str::to_owned));
        Some(Self { hitch: hitch.parse().ok()?, bowline: code.parse().ok()?, code: found })
    }
}

/// What the files of the corpus name.
fn site() -> Site {
    let site = Site::new();
    let second = pki().server_ca.issue(&Leaf::server(&["second.test"]));
    site.write("second.pem", second.pem());
    let (key, certificates): (Vec<_>, Vec<_>) =
        pem_blocks(&second.pem()).into_iter().partition(|block| block.contains("PRIVATE KEY"));
    site.write("alone.pem", certificates.concat());
    site.write("alone.key", key.concat());
    for directory in ["certificates", "links"] {
        fs::create_dir(site.path(directory)).expect("a directory");
    }
    fs::copy(site.path("second.pem"), site.path("certificates/second.pem")).expect("a certificate");
    fs::copy(site.path("second.pem"), site.path("links/second.pem")).expect("a certificate");
    std::os::unix::fs::symlink(site.path("server.pem"), site.path("links/server.pem")).expect("a link");
    // It stays when the listener goes.
    drop(std::os::unix::net::UnixListener::bind(site.path("backend.sock")).expect("a socket"));
    site
}

fn pem_blocks(pem: &str) -> Vec<String> {
    pem.split_inclusive("-----\n").collect::<Vec<_>>().chunks(2).map(<[&str]>::concat).collect()
}

fn corpus() -> Vec<(String, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/hitch");
    let files = fs::read_dir(directory).expect("the corpus").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> =
        files.map(|path| (path.display().to_string(), fs::read_to_string(path).expect("text"))).collect();
    files.sort();
    assert!(files.len() > 90, "{} files", files.len());
    files
}

#[test]
fn bowline_says_what_the_corpus_says() {
    let site = site();
    let mut wrong = Vec::new();
    for (name, content) in corpus() {
        let expected = Expected::of(&content).unwrap_or_else(|| panic!("{name}: a first line"));
        site.write("hitch.conf", site.fill_in(&content));
        let output = run(&site, &["--test", "--config={dir}/hitch.conf"]);
        let said = text(&output.stderr);
        let silent = !["[E", "[H", "[W", "[N"].iter().any(|code| said.contains(code));
        let fits = output.status.code() == Some(expected.bowline)
            && match &expected.code {
                Some(code) => said.contains(&format!("[{code}")),
                None => silent && said.ends_with("hitch configuration looks ok.\n"),
            };
        if !fits {
            wrong.push(format!("{name}: {:?}\n{said}", output.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn hitch_says_what_the_corpus_says() {
    if skipped() {
        return;
    }
    let site = site();
    let mut wrong = Vec::new();
    for (name, content) in corpus() {
        let expected = Expected::of(&content).unwrap_or_else(|| panic!("{name}: a first line"));
        let path = site.write("hitch.conf", site.fill_in(&content));
        let output = Command::new("hitch")
            .arg("--test")
            .arg(format!("--config={}", path.display()))
            .stdin(Stdio::null())
            .output()
            .expect("hitch runs: install it, or set BOWLINE_SKIP_PEERS=1");
        // An assertion that does not hold ends it with a signal.
        if output.status.code().unwrap_or(1) != expected.hitch {
            wrong.push(format!("{name}: {:?}\n{}", output.status, text(&output.stderr)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_accepted_is_accepted_as_a_dump_too() {
    let site = site();
    for (name, content) in corpus() {
        if Expected::of(&content).is_none_or(|expected| expected.bowline != 0) {
            continue;
        }
        site.write("hitch.conf", site.fill_in(&content));
        let dump = run(&site, &["--dump", "--config={dir}/hitch.conf"]);
        let checked = site.check(&text(&dump.stdout));
        assert_eq!(checked.code, Some(0), "{name}:\n{}\n{}", text(&dump.stdout), checked.text);
    }
}
