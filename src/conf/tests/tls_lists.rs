//! `ciphers`, `ciphersuites`, `curves`, `ecdhe`, and their defaults in `global`.

use super::{HEAD, TAIL, codes, frontend, model, rendered};
use crate::conf::ciphers::{Group, Suite12, Suite13};
use crate::conf::model::BindTls;

fn on_bind(words: &str) -> String {
    frontend(&format!("    bind :1 ssl crt x {words}\n"))
}

fn with_global(lines: &str, words: &str) -> String {
    format!("global\n{lines}{HEAD}frontend fe\n    bind :1 ssl crt x {words}\n    default_backend app\n{TAIL}")
}

#[track_caller]
fn tls(text: &str) -> BindTls {
    model(text).frontends.remove(0).binds.remove(0).tls.expect("ssl")
}

#[test]
fn without_lists_everything_is_there() {
    let tls = tls(&on_bind(""));
    assert_eq!(tls.suites12, Suite12::DEFAULT);
    assert_eq!(tls.suites13, Suite13::DEFAULT);
    assert_eq!(tls.groups, Group::DEFAULT);
    assert!(!tls.prefer_client_ciphers);
}

#[test]
fn a_line_goes_before_global() {
    let global = "    ssl-default-bind-ciphers ECDHE+AES128\n    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n    \
                  ssl-default-bind-curves P-384\n    ssl-default-bind-options prefer-client-ciphers\n";
    let inherited = tls(&with_global(global, ""));
    assert_eq!(inherited.suites12, [Suite12::EcdsaAes128, Suite12::RsaAes128]);
    assert_eq!((inherited.suites13, inherited.groups), (vec![Suite13::Aes128], vec![Group::P384]));
    assert!(inherited.prefer_client_ciphers);
    let words =
        "ciphers aRSA+CHACHA20 ciphersuites TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384 curves x25519:p-256";
    let own = tls(&with_global(global, words));
    assert_eq!(own.suites12, [Suite12::RsaChaCha20]);
    assert_eq!(own.suites13, [Suite13::ChaCha20, Suite13::Aes256]);
    assert_eq!(own.groups, [Group::X25519, Group::P256]);
}

#[test]
fn ecdhe_is_the_last_to_be_asked() {
    assert_eq!(tls(&on_bind("ecdhe secp384r1")).groups, [Group::P384]);
    assert_eq!(codes(&on_bind("ecdhe secp384r1")), [""; 0]);
    assert_eq!(codes(&on_bind("ecdhe P-384 curves P-256")), ["W302"]);
    assert_eq!(tls(&on_bind("ecdhe P-384 curves P-256")).groups, [Group::P256]);
    let global = with_global("    ssl-default-bind-curves X25519\n", "ecdhe P-384");
    assert_eq!(codes(&global), ["W302"]);
    assert_eq!(tls(&global).groups, [Group::X25519], "as in HAProxy");
    assert_eq!(codes(&on_bind("ecdhe P-256:P-384")), ["E103"]);
    assert_eq!(codes(&on_bind("ecdhe P-521")), ["E302"]);
}

#[test]
fn groups_that_tls12_does_not_know_are_for_tls13() {
    assert_eq!(codes(&on_bind("curves X25519MLKEM768")), ["W303"]);
    assert_eq!(codes(&on_bind("curves X25519MLKEM768 ssl-min-ver TLSv1.3")), [""; 0]);
    assert_eq!(codes(&on_bind("curves MLKEM1024:X25519")), [""; 0]);
}

#[test]
fn the_list_of_the_system_is_the_built_in_one() {
    let text = with_global("    ssl-default-bind-ciphers PROFILE=SYSTEM\n", "");
    assert_eq!(codes(&text), ["N303"]);
    assert_eq!(tls(&text).suites12, Suite12::DEFAULT);
    assert_eq!(codes(&on_bind("ciphers PROFILE=SYSTEM")), ["N303"]);
}

#[test]
fn what_is_left_out_is_told_once_for_a_line() {
    let words = "ciphers HIGH:AES128-SHA curves X448:P-256 ciphersuites TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256";
    assert_eq!(codes(&on_bind(words)), ["N302"]);
    let said = rendered(&on_bind(words), &[]);
    let expected =
        "bowline.cfg:9:23: notice[N302]: not available here and left out: AES128-SHA X448 TLS_AES_128_CCM_SHA256\n";
    assert!(said.starts_with(expected), "{said}");
    assert_eq!(codes(&on_bind("ciphers HIGH:!aNULL:!MD5:!RC4")), [""; 0], "what is unwanted is not missed");
    let long = format!("ciphers HIGH{}", ":AES128-SHA".repeat(20));
    assert!(rendered(&on_bind(&long), &[]).contains(" AES128-SHA and 12 more\n"));
    let global = "    ssl-default-bind-ciphers HIGH:3DES\n    ssl-default-bind-curves P-521:P-256\n";
    assert_eq!(codes(&with_global(global, "")), ["N302", "N302"]);
}

#[test]
fn nothing_left_is_an_error() {
    for words in ["ciphers AES128-SHA", "ciphers NOSUCH-CIPHER", "ciphersuites TLS_AES_128_CCM_SHA256", "curves P-521"]
    {
        assert_eq!(codes(&on_bind(words)), ["E302"], "{words}");
    }
    assert_eq!(codes("global\n    ssl-default-bind-ciphers kRSA\n"), ["E302"]);
    let said = rendered(&on_bind("ciphers AES128-SHA"), &[]);
    let expected = "bowline.cfg:9:31: error[E302]: no usable TLS 1.2 suite left in 'AES128-SHA'\n";
    assert!(said.starts_with(expected), "{said}");
    let names = Suite12::DEFAULT.map(Suite12::name).into_iter().chain(Suite13::DEFAULT.map(Suite13::name));
    for name in names {
        assert!(said.contains(&format!(" {name}")), "{name} is one of the nine: {said}");
    }
}

#[test]
fn what_has_no_meaning_is_an_error() {
    assert_eq!(codes(&on_bind("ciphers HIGH:@NOSUCH")), ["E103"]);
    assert_eq!(codes(&on_bind("ciphers HIGH:@SECLEVEL=4")), ["E303"]);
    assert_eq!(codes(&on_bind("ciphersuites TLS_AES_128_GCM_SHA256:NOSUCH")), ["E103"]);
    assert_eq!(codes(&on_bind("curves P-256:NOSUCH")), ["E103"]);
    assert_eq!(codes("global\n    ssl-default-bind-curves NOSUCH\n"), ["E103"]);
    let said = rendered(&on_bind("curves X22519"), &[]);
    assert!(said.contains("there is no group 'X22519'") && said.contains("did you mean 'x25519'?"), "{said}");
    assert_eq!(codes(&frontend("    bind :1 ciphers HIGH\n")), ["E210"], "plaintext");
    assert_eq!(codes(&on_bind("ciphers HIGH ciphers HIGH")), ["E105"]);
}
