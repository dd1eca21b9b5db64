use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::conf::certificate_files::ExtraFiles;
use crate::conf::ciphers::{Group, Suite12, Suite13};
use crate::conf::model::{
    Backend, Bind, BindTls, Crt, CrtKind, Frontend, ListenOptions, Location, Server, ServerAddress, SniPolicy, Source,
    Spread, TcpOptions, TlsVersion, UnixPermissions, Verify,
};

use crate::conf::verify_errors::IgnoredErrors;

fn location() -> Location {
    Location { file: "test.cfg".into(), line: 1, column: 1 }
}

fn at<T>(value: T) -> At<T> {
    At { value, at: location() }
}

fn model(crt: &[&Path], ca_file: Option<&Path>, server: Option<&str>) -> Model {
    let tls = BindTls {
        crt: crt.iter().map(|path| Crt { file: at(path.to_path_buf()), kind: CrtKind::Plain }).collect(),
        entries: Vec::new(),
        verify: Verify::None,
        ca_file: ca_file.map(|path| at(path.to_path_buf())),
        ca_verify_file: None,
        ca_names: true,
        ignored_of_leaf: IgnoredErrors::default(),
        ignored_of_ca: IgnoredErrors::default(),
        crl_file: None,
        alpn: Vec::new(),
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
        suites12: Suite12::DEFAULT.to_vec(),
        suites13: Suite13::DEFAULT.to_vec(),
        groups: Group::DEFAULT.to_vec(),
        prefer_client_ciphers: false,
        tickets: true,
        ticket_keys: None,
        sni: SniPolicy::Lenient,
        last_crt_wins: false,
    };
    let bind = Bind {
        at: location(),
        addresses: Vec::new(),
        name: None,
        accept_proxy: false,
        backlog: None,
        maxconn: None,
        unix: UnixPermissions::default(),
        socket: ListenOptions::default(),
        spread: Spread::default(),
        tls: Some(tls),
    };
    let frontend = Frontend {
        name: "f".into(),
        at: location(),
        binds: vec![bind],
        default_backend: at("b".into()),
        maxconn: None,
        backlog: None,
        timeout_client: None,
        timeout_client_hs: None,
        timeout_client_fin: None,
        audits: Vec::new(),
        logs: Vec::new(),
        tcplog: false,
        dontlognull: false,
        dontlog_normal: false,
        log_separate_errors: false,
        logasap: false,
        log_tag: None,
        session_rate: None,
        independent_streams: false,
        accept_tls_eof: false,
    };
    let server = server.map(|host| Server {
        name: "s".into(),
        at: location(),
        address: at(ServerAddress::Name { host: host.into(), port: 80, family: None }),
        proxy: None,
        disabled: false,
        port_offset: None,
        source: Source::default(),
        init_addr: Vec::new(),
        resolve_interval: None,
        tcp: TcpOptions::default(),
    });
    let backend = Backend {
        name: "b".into(),
        at: location(),
        servers: server.into_iter().collect(),
        timeout_connect: None,
        timeout_server: None,
        timeout_server_fin: None,
        timeout_tunnel: None,
        retries: 0,
        abort_on_close: false,
        independent_streams: false,
    };
    Model { frontends: vec![frontend], backends: vec![backend], ..Model::default() }
}

fn bytes_of<'a>(files: &'a Files, path: &Path) -> &'a [u8] {
    match files.entry(path) {
        Some(Entry::File(file)) => &file.bytes,
        Some(Entry::Unreadable(reason)) => panic!("{}: {reason}", path.display()),
        _ => panic!("{} is no file", path.display()),
    }
}

fn unreadable<'a>(files: &'a Files, path: &Path) -> &'a str {
    match files.entry(path) {
        Some(Entry::Unreadable(reason)) => reason,
        _ => panic!("{} was read", path.display()),
    }
}

#[test]
fn a_list_brings_all_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text =
        "a.pem [key k.pem]\nb.pem [verify required ca-file ca.pem crl-file crl.pem] x\nmissing.pem\nc.pem [nonsense]\n";
    std::fs::write(path("list"), text).unwrap();
    for name in ["a.pem", "a.pem.key", "b.pem", "ca.pem", "crl.pem", "c.pem", "k.pem"] {
        std::fs::write(path(name), name).unwrap();
    }
    let mut model = model(&[&path("list")], None, None);
    let bases = &mut model.process.certificate_files;
    for base in [&mut bases.crt_base, &mut bases.ca_base, &mut bases.key_base] {
        *base = Some(folder.path().into());
    }

    let mut report = Vec::new();
    // Without the word 'crt-list' it is a file like any other.
    let files = read_files(&model, Path::new("/"), &mut report);
    assert_eq!(files.entries.len(), 1);
    model.frontends[0].binds[0].tls.as_mut().unwrap().crt[0].kind = CrtKind::List;
    let files = read_files(&model, Path::new("/"), &mut report);
    assert_eq!(bytes_of(&files, &path("list")), text.as_bytes());
    for name in ["a.pem", "a.pem.key", "b.pem", "ca.pem", "crl.pem", "k.pem"] {
        assert_eq!(bytes_of(&files, &path(name)), name.as_bytes());
    }
    assert_eq!(unreadable(&files, &path("missing.pem")), "No such file or directory");
    assert!(files.entry(&path("c.pem")).is_none(), "its line has an error, which is told elsewhere");
    assert!(report.is_empty());
}

#[test]
fn a_certificate_brings_its_key_and_staple_and_its_mode() {
    let folder = tempfile::tempdir().unwrap();
    let crt = folder.path().join("site.pem");
    std::fs::write(&crt, "chain").unwrap();
    std::fs::set_permissions(&crt, PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::write(folder.path().join("site.pem.key"), "key").unwrap();
    std::fs::write(folder.path().join("site.pem.ocsp"), "staple").unwrap();

    let mut report = Vec::new();
    let files = read_files(&model(&[&crt], None, None), Path::new("/"), &mut report);
    assert_eq!(bytes_of(&files, &crt), b"chain");
    assert!(matches!(files.entry(&crt), Some(Entry::File(file)) if file.mode == 0o640));
    assert_eq!(bytes_of(&files, &folder.path().join("site.pem.key")), b"key");
    assert_eq!(bytes_of(&files, &folder.path().join("site.pem.ocsp")), b"staple");
    assert_eq!(files.entries.len(), 3);
    assert!(report.is_empty());
}

#[test]
fn only_what_global_asks_for_is_read_beside_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["a.crt", "a.crt.key", "a.key", "a.crt.issuer", "b.ecdsa", "b.rsa", "b.rsa.key", "chains/i.pem"] {
        std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        std::fs::write(path(name), name).unwrap();
    }
    let names = |change: &dyn Fn(&mut CertificateFiles)| {
        let mut model = model(&[&path("a.crt"), &path("b")], None, None);
        change(&mut model.process.certificate_files);
        let files = read_files(&model, Path::new("/"), &mut Vec::new());
        let names = files.entries.keys().map(|name| name.strip_prefix(folder.path()).unwrap().display().to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&|_| ()), ["a.crt", "a.crt.issuer", "a.crt.key", "b", "b.ecdsa", "b.rsa", "b.rsa.key"]);
    assert_eq!(names(&|files| files.extra = ExtraFiles::NONE), ["a.crt", "b"]);
    assert_eq!(
        names(&|files| {
            files.extra = ExtraFiles { key: true, ..ExtraFiles::NONE };
            files.replaces_extension = true;
            files.issuers = Some(at(path("chains")));
        }),
        ["a.crt", "a.key", "b", "chains", "chains/i.pem"]
    );
}

#[test]
fn the_bundle_of_the_system_has_a_name_of_its_own() {
    let files = read_files(&model(&[], Some(Path::new(SYSTEM_CA)), None), Path::new("/nowhere"), &mut Vec::new());
    match SYSTEM_CA_FILES.iter().find(|path| Path::new(path).exists()) {
        Some(path) => assert_eq!(bytes_of(&files, Path::new(SYSTEM_CA)), std::fs::read(path).unwrap()),
        None => assert!(unreadable(&files, Path::new(SYSTEM_CA)).contains("install ca-certificates")),
    }
    assert_eq!(files.entries.len(), 1);
}

#[test]
fn what_is_not_there_is_reported_and_what_need_not_be_there_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (alone, missing) = (folder.path().join("alone.pem"), folder.path().join("missing.pem"));
    std::fs::write(&alone, "chain").unwrap();
    let files = read_files(&model(&[&alone, &missing], None, None), Path::new("/"), &mut Vec::new());
    assert_eq!(unreadable(&files, &missing), "No such file or directory");
    assert_eq!(files.entries.len(), 2);
}

#[test]
fn relative_names_are_below_the_directory_of_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.pem"), "chain").unwrap();
    let files = read_files(&model(&[Path::new("a.pem")], None, None), folder.path(), &mut Vec::new());
    assert_eq!(bytes_of(&files, Path::new("a.pem")), b"chain");
}

#[test]
fn a_directory_gives_its_regular_files_in_the_order_of_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("certs");
    std::fs::create_dir_all(certificates.join("sub")).unwrap();
    for name in ["b.pem", "a.pem", "B.pem", ".hidden"] {
        std::fs::write(certificates.join(name), name).unwrap();
    }
    // Kubernetes mounts secrets as links into a hidden directory.
    symlink("a.pem", certificates.join("link.pem")).unwrap();
    let files = read_files(&model(&[], Some(&certificates), None), Path::new("/"), &mut Vec::new());
    let Some(Entry::Directory(names)) = files.entry(&certificates) else {
        panic!("a directory was named");
    };
    assert_eq!(names, &["B.pem", "a.pem", "b.pem", "link.pem"]);
    assert_eq!(bytes_of(&files, &certificates.join("link.pem")), b"a.pem");
    assert_eq!(files.entries.len(), 5);
}

#[test]
fn pipes_devices_and_giants_are_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let giant = folder.path().join("giant");
    File::create(&giant).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let files =
        read_files(&model(&[&pipe, Path::new("/dev/zero"), &giant], None, None), Path::new("/"), &mut Vec::new());
    assert_eq!(unreadable(&files, &pipe), "not a regular file");
    assert_eq!(unreadable(&files, Path::new("/dev/zero")), "not a regular file");
    assert_eq!(unreadable(&files, &giant), "larger than 64 MiB");
}

#[test]
fn a_file_that_was_replaced_or_has_appeared_counts_as_changed() {
    let folder = tempfile::tempdir().unwrap();
    let crt = folder.path().join("a.pem");
    std::fs::write(&crt, "old").unwrap();
    let mut reading =
        FileReading { directory: folder.path(), files: Files::default(), stamps: BTreeMap::new(), skipped: Vec::new() };
    let model = model(&[&crt], None, None);

    reading.read_all(&model);
    assert_eq!(reading.find_changed(), None);
    std::fs::write(folder.path().join("new"), "new").unwrap();
    std::fs::rename(folder.path().join("new"), &crt).unwrap();
    assert_eq!(reading.find_changed(), Some(crt.as_path()));

    reading.read_all(&model);
    assert_eq!(bytes_of(&reading.files, &crt), b"new");
    assert_eq!(reading.find_changed(), None);
    let key = folder.path().join("a.pem.key");
    std::fs::write(&key, "key").unwrap();
    assert_eq!(reading.find_changed(), Some(key.as_path()));
}

#[test]
fn sources_are_files_and_the_cfg_files_of_directories() {
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("conf.d");
    std::fs::create_dir(&conf).unwrap();
    for name in ["20.cfg", "10.cfg", "note.txt"] {
        std::fs::write(conf.join(name), name).unwrap();
    }
    std::fs::write(folder.path().join("main"), "main").unwrap();
    let request = |sources: &[&str]| Request {
        hitch: None,
        sources: sources.iter().map(ToString::to_string).collect(),
        directory: folder.path().to_owned(),
    };
    let read = read_sources(&request(&["main", "conf.d/"]), true).unwrap();
    let names: Vec<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["main", "conf.d/10.cfg", "conf.d/20.cfg"]);
    assert_eq!(read[2].1, b"20.cfg");

    assert!(read_sources(&request(&["nothing"]), false).unwrap_err().contains("nothing"));
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(read_sources(&request(&["empty"]), false).unwrap_err().contains("no *.cfg"));
}
