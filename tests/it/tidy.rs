//! Rules of the source that no compiler checks: who may import whom, where `unsafe` lives, how long a file may be. And the shipped
//! examples, which must be accepted as they are.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::Site;
use super::support::peers::skipped;

/// Longest file in lines.
const LONGEST_FILE: usize = 650;

/// The table of `ARCHITECTURE.md`, "Who may import whom": a module, and what of ours it may name. A path allows everything
/// below it; `all` allows everything, `–` nothing.
fn may_import() -> Vec<(String, Vec<String>)> {
    let page = read(Path::new("ARCHITECTURE.md"));
    let (_, section) = page.split_once("## Who may import whom").expect("the section");
    let section = section.split("\n## ").next().expect("its text");
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let row = |line: &str| {
        let (module, allowed) = line.strip_prefix("| `")?.split_once("` | ")?;
        let is_all = allowed.starts_with("all ");
        Some((module.to_owned(), if is_all { vec![String::new()] } else { quoted(allowed) }))
    };
    section.lines().filter_map(row).collect()
}

const CLOCKS: &[&str] = &["Instant::now", "SystemTime::now", "UnixTime::now"];
const SOCKETS: &[&str] =
    &["mio::", "socket2::", "nix::", "TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener"];
const FILES: &[&str] = &["fs::", "File::open"];
const THREADS: &[&str] = &["thread::"];
const LOG: &[&str] = &["error!", "warn!", "info!", "debug!", "trace!"];
const RUSTLS: &[&str] = &["rustls::"];

/// What a module must not name at all.
const MUST_NOT_NAME: &[(&str, &[&[&str]])] = &[
    ("proto", &[CLOCKS, SOCKETS, FILES, THREADS, LOG]),
    ("tls", &[CLOCKS, SOCKETS, FILES, THREADS]),
    ("snapshot", &[CLOCKS, SOCKETS, FILES, THREADS]),
    ("conf", &[CLOCKS, SOCKETS, FILES, THREADS, LOG, RUSTLS]),
    ("event_loop", &[FILES, RUSTLS]),
    ("master", &[RUSTLS]),
];

/// A word, and the only file whose code may contain it.
const ONLY_IN: &[(&str, &str)] = &[
    ("unsafe", "src/sys.rs"),
    ("rustls_pemfile", "src/tls/pem.rs"),
    ("UnbufferedServerConnection", "src/tls/engine.rs"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files with this extension below `folder`, as paths relative to the repository.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.strip_prefix(root()).expect("below it").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).expect("a source file in UTF-8")
}

/// The text with comments, strings and characters blanked out, line by line the same.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if rest.starts_with('"') {
            quoted(rest, '"')
        } else if rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'') && rest.starts_with('\'') {
            quoted(rest, '\'')
        } else {
            0
        };
        if skipped == 0 {
            let next = rest.chars().next().expect("not at the end");
            code.push(next);
            at += next.len_utf8();
        } else {
            code.extend(rest[..skipped].chars().map(|c| if c == '\n' { c } else { ' ' }));
            at += skipped;
        }
    }
    code
}

/// Length of the raw string that `rest` starts with.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r').or_else(|| rest.strip_prefix("br"))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    if !after[hashes..].starts_with('"') {
        return None;
    }
    let start = rest.len() - after.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

/// Length of the literal that `rest` starts with.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    rest.len()
}

/// The code that ships: without the test module that ends a file.
fn without_tests(code: &str) -> &str {
    let Some(at) = code.find("#[cfg(test)]\nmod ") else {
        return code;
    };
    let line = code[at..].lines().nth(1).unwrap_or_default();
    if line.trim_end().ends_with('{') { &code[..at] } else { code }
}

/// The files that ship: all below `src` but those whose module is declared under `#[cfg(test)]`, and what lies below those.
fn shipping_sources() -> Vec<PathBuf> {
    let sources = files("src", "rs");
    let tests: Vec<PathBuf> = sources.iter().flat_map(|path| test_modules(path, &read(path))).collect();
    let is_test = |path: &PathBuf| tests.iter().any(|test| path.starts_with(test));
    sources.into_iter().filter(|path| !is_test(path)).collect()
}

/// Files and folders of the modules that `text`, the file at `path`, declares for tests alone.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let folder = path.parent().expect("a folder");
    let is_root = ["mod.rs", "lib.rs", "main.rs"].iter().any(|name| path.ends_with(name));
    let children = if is_root { folder.to_owned() } else { path.with_extension("") };
    let mut found = Vec::new();
    for declaration in text.split("#[cfg(test)]\n").skip(1) {
        let (other, declaration) = match declaration.strip_prefix("#[path = \"") {
            Some(rest) => rest.split_once("\"]\n").map(|(name, rest)| (Some(name), rest)).expect("a name"),
            None => (None, declaration),
        };
        let declaration = declaration.lines().next().unwrap_or_default();
        let Some(name) = declaration.strip_suffix(';').and_then(|words| words.rsplit_once("mod ")) else { continue };
        match other {
            Some(other) => found.push(folder.join(other)),
            None => found.extend([children.join(name.1), children.join(format!("{}.rs", name.1))]),
        }
    }
    found
}

/// The module of ours that a file belongs to: `src/tls/pem.rs` is `tls`.
fn module(path: &Path) -> String {
    let below = path.strip_prefix("src").expect("a source file");
    let first = below.components().next().expect("a name").as_os_str();
    let first = first.to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The paths inside the crate that a file names: `conf::model::Bind`, `tls`.
fn imports(path: &Path, code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut roots = vec!["crate::", "bowline::"];
    // One level up from the module's own file is the crate.
    let below = path.strip_prefix("src").expect("a source file");
    let depth = below.components().count();
    let is_mod = path.file_name().is_some_and(|name| name == "mod.rs");
    match depth - usize::from(is_mod) {
        1 => roots.push("super::"),
        2 => roots.push("super::super::"),
        _ => {}
    }
    for prefix in roots {
        for (at, _) in code.match_indices(prefix) {
            let inside_longer =
                code[..at].ends_with("super::") || code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if inside_longer {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            if prefix == "super::" && rest.starts_with("super::") {
                continue;
            }
            expand(rest, "", &mut found);
        }
    }
    found
}

/// Takes a use tree apart: `{a::b, c::{d, e}}` names `a::b`, `c::d` and `c::e`.
fn expand(tree: &str, above: &str, found: &mut BTreeSet<String>) {
    let Some(inner) = tree.strip_prefix('{') else {
        let end = tree.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        let path = &tree[..end.unwrap_or(tree.len())];
        let path_text = format!("{above}{}", path.trim_end_matches(':'));
        let rest = &tree[path.len()..];
        if path.ends_with("::") && rest.starts_with('{') {
            expand(rest, &format!("{above}{path}"), found);
        } else {
            found.insert(path_text);
        }
        return;
    };
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let part = inner[start..at].trim();
                if !part.is_empty() {
                    expand(part, above, found);
                }
                start = at + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// What of ours `path` names and may not.
fn forbidden_imports(path: &Path, code: &str) -> Vec<String> {
    let own = module(path);
    let table = may_import();
    let Some((_, allowed)) = table.iter().find(|(name, _)| *name == own) else {
        return vec![format!("anything, though `{own}` has no row in the table")];
    };
    let is_allowed = |import: &String| {
        let below = |parent: &str| {
            import
                .strip_prefix(parent)
                .is_some_and(|rest| rest.is_empty() || parent.is_empty() || rest.starts_with("::"))
        };
        below(&own) || allowed.iter().any(|parent| below(parent))
    };
    imports(path, code).into_iter().filter(|import| !is_allowed(import)).collect()
}

/// Whether `code` contains `word` as a word.
fn names(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].ends_with(is_part);
        let after = word.ends_with(is_part) && code[at + word.len()..].starts_with(is_part);
        !before && !after
    })
}

#[test]
fn modules_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for path in &shipping_sources() {
        let code = code_only(&read(path));
        for import in forbidden_imports(path, without_tests(&code)) {
            wrong.push(format!("{} imports {import}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_name_nothing_that_is_banned_there() {
    let mut wrong = Vec::new();
    for path in &shipping_sources() {
        let code = code_only(&read(path));
        let own = module(path);
        let banned = MUST_NOT_NAME.iter().find(|(name, _)| *name == own);
        for word in banned.map_or(&[][..], |(_, groups)| groups).iter().copied().flatten() {
            if names(without_tests(&code), word) {
                wrong.push(format!("{} names {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn some_words_live_in_one_file() {
    let mut wrong = Vec::new();
    for path in shipping_sources() {
        let code = code_only(&read(&path));
        for (word, home) in ONLY_IN {
            if path != Path::new(home) && names(without_tests(&code), word) {
                wrong.push(format!("{} names {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn all_sources() -> Vec<PathBuf> {
    ["src", "tests", "benches", "bench", "fuzz/fuzz_targets"].iter().flat_map(|folder| files(folder, "rs")).collect()
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = all_sources()
        .iter()
        .map(|path| (path, read(path).lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn nothing_is_left_to_do() {
    // Put together here, so that this file does not contain them.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimple", "mented!("]];
    let mut wrong = Vec::new();
    for path in all_sources() {
        let text = read(&path);
        for mark in marks.map(|parts| parts.concat()) {
            if text.contains(&mark) {
                wrong.push(format!("{}: {mark}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Words after which a file is named, and what to put there for a check.
const FILES_OF_EXAMPLES: &[&str] = &["crt", "ca-file", "crl-file", "-f", "tls-ticket-keys"];

/// Moves an example into a directory of its own: every file that it names is made, `/etc/bowline` becomes the site.
fn settle(site: &Site, text: &str) -> String {
    let dir = site.dir().to_str().expect("UTF-8").to_owned();
    let text = text.replace("/etc/bowline", &dir);
    let mut bases = [("crt", dir.clone()), ("ca-file", dir.clone())];
    let mut settled = String::new();
    for line in text.lines() {
        let statement = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = statement.split_whitespace().collect();
        match words.as_slice() {
            ["crt-base", base] => bases[0].1 = (*base).to_owned(),
            ["ca-base", base] => bases[1].1 = (*base).to_owned(),
            ["user" | "group" | "uid" | "gid" | "chroot", ..] => continue,
            _ => {}
        }
        for pair in words.windows(2) {
            if FILES_OF_EXAMPLES.contains(&pair[0]) && !pair[1].starts_with('@') {
                let base = if pair[0] == "crt" { &bases[0].1 } else { &bases[1].1 };
                make(&Path::new(base).join(pair[1]), pair[0]);
            }
        }
        settled.push_str(line);
        settled.push('\n');
    }
    settled
}

/// Makes a file that can stand after `keyword`.
fn make(path: &Path, keyword: &str) {
    use super::support::pki;
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    let is_folder = path.extension().is_none() && keyword == "crt";
    let (path, content) = match keyword {
        "crt" if is_folder => {
            fs::create_dir_all(path).expect("a folder");
            (path.join("server.pem"), pki().server.pem())
        }
        "crt" => (path.to_owned(), pki().server.pem()),
        "ca-file" => (path.to_owned(), pki().client_ca.pem()),
        "crl-file" => (path.to_owned(), pki().client_ca.crl(&[])),
        _ => (path.to_owned(), String::new()),
    };
    fs::write(&path, content).expect("a file");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a key that is nobody else's");
}

fn examples() -> Vec<PathBuf> {
    let examples = files("conf", "cfg");
    assert!(!examples.is_empty(), "no examples in conf/");
    examples
}

#[test]
fn every_example_is_accepted() {
    for path in examples() {
        let site = Site::new();
        let text = settle(&site, &read(&path));
        let checked = site.check(&text);
        assert_eq!(checked.code, Some(0), "{}:\n{}", path.display(), checked.text);
    }
}

/// Words that came to HAProxy after version 2.6, and Bowline's own.
const NEWER_WORDS: &[&str] = &[
    "client-hs",
    "set-proxy-v2-tlv-fmt",
    "accept-tls-eof",
    "cert-fingerprint",
    "client-cert",
    "ssl-group",
    "ssl-sig-scheme",
];

#[test]
fn haproxy_accepts_the_examples_without_newer_words() {
    if skipped() {
        return;
    }
    for path in examples() {
        let site = Site::new();
        let text = settle(&site, &read(&path));
        let is_newer = |line: &&str| NEWER_WORDS.iter().any(|word| line.contains(word));
        let dir = site.dir().to_str().expect("UTF-8");
        // HAProxy looks for the group even when it only checks.
        let text = text.replace(" group bowline", " group root");
        // Lines with one word too many for an old HAProxy are left out where they stand alone; a server loses its options.
        let plain: Vec<String> = text
            .lines()
            .filter(|line| !is_newer(line) || line.trim_start().starts_with("server"))
            .map(|line| {
                let cut = NEWER_WORDS.iter().filter_map(|word| line.find(word)).min();
                let cut = cut.and_then(|at| line[..at].rfind("proxy-v2-options").or(Some(at)));
                cut.map_or(line, |at| &line[..at]).to_owned()
            })
            .collect();
        let file = site.configure(&(plain.join("\n") + "\n"));
        let output = Command::new("haproxy")
            .arg("-c")
            .arg("-f")
            .arg(file)
            .output()
            .expect("haproxy is installed; or set BOWLINE_SKIP_PEERS=1");
        let said = String::from_utf8_lossy(&output.stderr).replace(dir, "");
        // The shipped file listens nowhere, which may be the only thing that HAProxy has against it.
        let listens = text.lines().any(|line| line.starts_with("frontend ") || line.starts_with("listen "));
        let accepted = if listens {
            output.status.success()
        } else {
            String::from_utf8_lossy(&output.stdout).contains("has no error but will not start (no listener)")
        };
        assert!(accepted, "{}: {}\n{said}", path.display(), output.status);
    }
}

mod self_test {
    use super::*;

    fn forbidden(path: &str, text: &str) -> Vec<String> {
        let code = code_only(text);
        forbidden_imports(Path::new(path), without_tests(&code))
    }

    #[test]
    fn imports_are_found_in_every_spelling() {
        let text = "use crate::{conf::{model, expr::Expr}, worker};\nuse crate::tls::engine::Engine;\n\
            fn f() { crate::master::run(); }\n// crate::stats\nconst S: &str = \"crate::log\";\n";
        let code = code_only(text);
        let found: Vec<_> = imports(Path::new("src/proto/pump.rs"), &code).into_iter().collect();
        let expected = ["conf::expr::Expr", "conf::model", "master::run", "tls::engine::Engine", "worker"];
        assert_eq!(found, expected);
    }

    #[test]
    fn one_level_up_from_a_module_is_the_crate() {
        let code = "use super::conf;";
        assert!(imports(Path::new("src/tls/mod.rs"), code).contains("conf"));
        assert!(imports(Path::new("src/tls/pem.rs"), code).is_empty());
        let code = "use super::super::conf;";
        assert!(imports(Path::new("src/tls/pem.rs"), code).contains("conf"));
    }

    #[test]
    fn the_table_is_enforced() {
        assert_eq!(forbidden("src/proto/a.rs", "use crate::tls::engine::E;"), [""; 0]);
        assert_eq!(forbidden("src/proto/a.rs", "use crate::tls::pem::P;"), ["tls::pem::P"]);
        assert_eq!(
            forbidden("src/event_loop/a.rs", "use crate::material::{ListenerKey, Material};"),
            ["material::Material"]
        );
        assert_eq!(forbidden("src/cli/a.rs", "use crate::{worker, master};"), [""; 0]);
        assert_eq!(forbidden("src/unheard_of.rs", "").len(), 1);
        assert_eq!(forbidden("src/proto/a.rs", "use crate::proto::b;"), [""; 0]);
        assert_eq!(forbidden("src/conf/a.rs", "use crate::sys;"), ["sys"]);
        assert_eq!(forbidden("src/worker/a.rs", "use crate::master;"), ["master"]);
        assert_eq!(forbidden("src/master/a.rs", "use crate::conf::x;"), [""; 0]);
        let tests = "#[cfg(test)]\nmod tests {\n use crate::worker;\n}\n";
        assert_eq!(forbidden("src/conf/a.rs", tests), [""; 0]);
        let elsewhere = "#[cfg(test)]\nmod tests;\nuse crate::worker;\n";
        assert_eq!(forbidden("src/conf/a.rs", elsewhere), ["worker"]);
    }

    #[test]
    fn test_files_are_known_by_their_declaration() {
        let text = "#[cfg(test)]\nmod a;\nmod b;\n#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;\n\
            #[cfg(test)]\npub(crate) mod c;\n#[cfg(test)]\nmod inside {\n}\n";
        let found = |path| test_modules(Path::new(path), text);
        let expected = ["src/t/x/a", "src/t/x/a.rs", "src/t/x_tests.rs", "src/t/x/c", "src/t/x/c.rs"];
        assert_eq!(found("src/t/x.rs"), expected.map(PathBuf::from));
        let expected = ["src/t/a", "src/t/a.rs", "src/t/x_tests.rs", "src/t/c", "src/t/c.rs"];
        assert_eq!(found("src/t/mod.rs"), expected.map(PathBuf::from));
    }

    #[test]
    fn words_are_found_in_code_only() {
        let code = code_only("fn f() { unsafe { } }");
        assert!(names(&code, "unsafe"));
        for text in [
            "// unsafe",
            "/* unsafe\n */",
            "\"unsafe \\\" unsafe\"",
            "r#\"unsafe \" unsafe\"#",
            "#![deny(unsafe_code)]",
        ] {
            assert!(!names(&code_only(text), "unsafe"), "{text}");
        }
        let lifetimes = code_only("fn f<'a>(x: &'a str) -> char { '\"' } unsafe");
        assert!(names(&lifetimes, "unsafe"));
        assert!(names("let s: TcpStream;", "TcpStream"));
        assert!(!names("let s: MyTcpStream;", "TcpStream"));
    }

    #[test]
    fn examples_find_their_files_made() {
        let site = Site::new();
        let text = "global\n    user bowline\n    crt-base /etc/bowline/certs\n\
            frontend fe\n    bind :443 ssl crt a.pem ca-file /etc/bowline/ca/b.pem\n";
        let settled = settle(&site, text);
        assert!(!settled.contains("/etc/bowline"), "{settled}");
        assert!(!settled.contains("user"), "{settled}");
        assert!(site.path("certs/a.pem").exists());
        assert!(site.path("ca/b.pem").exists());
    }
}
