use super::*;
use crate::conf;

fn model(server: &str, global: &str) -> Model {
    let text = format!("global\n    {global}\nbackend b\n    server s {server}\n");
    let parsed = conf::parse(&[("test.cfg".into(), text.into_bytes())], &BTreeMap::new());
    parsed.model.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))
}

fn works(_: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(["192.0.2.7", "2001:db8::7"].map(|address| SocketAddr::new(address.parse().unwrap(), port)).into())
}

fn fails(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
    Err(io::Error::other("no such name"))
}

fn is_empty(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(Vec::new())
}

fn key() -> Name {
    ("db.example".into(), 80)
}

#[test]
fn a_name_that_does_not_resolve_keeps_what_it_had_and_is_an_error_otherwise() {
    let model = model("db.example:80", "");
    let (names, diagnostics) = resolve_with(&model, None, &works);
    assert_eq!((names[&key()].len(), diagnostics.len()), (2, 0));

    let previous = Material { names, ..Material::default() };
    for broken in [&fails as Resolve<'_>, &is_empty] {
        let (names, diagnostics) = resolve_with(&model, Some(&previous), broken);
        assert_eq!(names, previous.names);
        assert!(diagnostics[0].message.contains("keeping 192.0.2.7"), "{}", diagnostics[0].message);

        let (names, diagnostics) = resolve_with(&model, None, broken);
        assert!(names.is_empty());
        assert_eq!(diagnostics[0].code, "E601");
    }
}

#[test]
fn init_addr_says_what_to_do_without_an_address() {
    let found = |init_addr: &str| {
        let model = model(&format!("db.example:80 init-addr {init_addr}"), "");
        let (names, diagnostics) = resolve_with(&model, None, &fails);
        assert!(names.is_empty());
        diagnostics.into_iter().map(|found| (found.code, found.message)).next()
    };
    let (code, message) = found("last,libc,none").unwrap();
    assert!(code == "W601" && message.contains("turned away"), "{message}");
    let (code, message) = found("libc,192.0.2.9").unwrap();
    assert!(code == "W601" && message.contains("going to 192.0.2.9"), "{message}");
    assert_eq!(found("libc").unwrap().0, "E601");
    assert_eq!(found("none"), None, "it is not asked for");
    assert_eq!(found("192.0.2.9,libc"), None);
    let model = model("db.example:80 init-addr libc,none", "");
    assert_eq!(resolve_with(&model, None, &works).0[&key()].len(), 2, "an address is better than none");
}

#[test]
fn families_that_do_not_count_are_left_out() {
    let names = |global: &str| resolve_with(&model("db.example:80", global), None, &works);
    let addresses = |global: &str| -> Vec<String> {
        names(global).0[&key()].iter().map(|address| address.ip().to_string()).collect()
    };
    assert_eq!(addresses("dns-accept-family ipv4"), ["192.0.2.7"]);
    assert_eq!(addresses("dns-accept-family ipv6"), ["2001:db8::7"]);
    assert_eq!(addresses("dns-accept-family ipv4,ipv6"), ["192.0.2.7", "2001:db8::7"]);
    let only = |_: &str, port: u16| Ok(vec![SocketAddr::new("192.0.2.7".parse().unwrap(), port)]);
    let model = model("db.example:80", "dns-accept-family ipv6");
    let (_, diagnostics) = resolve_with(&model, None, &only);
    assert!(diagnostics[0].message.contains("it has no IPv6 address"), "{}", diagnostics[0].message);
}

#[test]
fn servers_choose_by_family_and_source() {
    let chosen = |server: &str| {
        let model = model(server, "");
        let addresses = works("", 80).unwrap();
        model.backends[0].servers[0].choose(&addresses).map(|address| address.ip().to_string())
    };
    assert_eq!(chosen("db.example:80").as_deref(), Some("192.0.2.7"), "the first");
    assert_eq!(chosen("ipv6@db.example:80").as_deref(), Some("2001:db8::7"));
    assert_eq!(chosen("db.example:80 source 2001:db8::1").as_deref(), Some("2001:db8::7"));
    assert_eq!(chosen("ipv4@db.example:80 source 2001:db8::1"), None);
}
