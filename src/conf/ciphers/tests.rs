use std::process::Command;

use super::*;

/// Strings as they stand in configurations, and those that show one rule each.
const STRINGS: &[&str] = &[
    // Mozilla's intermediate list.
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
     ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:\
     DHE-RSA-CHACHA20-POLY1305",
    // Hitch's default, and Debian's for HAProxy of old.
    "EECDH+AESGCM:EDH+AESGCM",
    "ECDH+AESGCM:DH+AESGCM:ECDH+AES256:DH+AES256:ECDH+AES128:DH+AES:RSA+AESGCM:RSA+AES:!aNULL:!MD5:!DSS",
    "kEECDH+aRSA+AES:kRSA+AES:+AES256:!RC4-SHA:!kEDH:!LOW:!EXP:!MD5:!aNULL:!eNULL",
    "HIGH:!aNULL:!MD5",
    "HIGH:!aNULL:!kRSA:!PSK:!SRP:!MD5:!RC4",
    "ALL",
    "ALL:COMPLEMENTOFALL:eNULL",
    "COMPLEMENTOFDEFAULT:CHACHA20",
    "DEFAULT",
    "DEFAULT:!CHACHA20",
    "DEFAULT!CHACHA20",
    "DEFAULT@SECLEVEL=2",
    "DEFAULT:+AES256:@SECLEVEL=0",
    "HIGH:DEFAULT",
    "AES:DEFAULT",
    "DEFAULTX",
    "AES128:AES256:CHACHA20",
    "AES128:CHACHA20:AES256:@STRENGTH",
    "AES128:CHACHA20:@STRENGTH:AES256",
    "CHACHA20:AES128:+aECDSA:@STRENGTH",
    "ECDHE+AESGCM:ECDHE+CHACHA20",
    "CHACHA20:ECDHE+AESGCM",
    "ECDSA:aRSA",
    "aECDSA+AES128:aRSA+AES256",
    "AESGCM:-aRSA:aRSA",
    "HIGH:-AES:-CHACHA20:ALL",
    "HIGH:-CHACHA20:CHACHA20",
    "HIGH:+ECDSA",
    "HIGH:+aRSA:+CHACHA20",
    "HIGH:!AES128:AES128",
    "!AES128:HIGH",
    ":-HIGH:AES256",
    "+HIGH:AES256",
    "HIGH!AES128!aRSA",
    "HIGH@STRENGTH",
    "AES128@STRENGTH:CHACHA20",
    "FIPS",
    "TLSv1.2+AES128",
    "TLSv1:SSLv3:AES128+TLSv1.2",
    "HIGH, !aRSA;!AES128 :+AES256",
    "::HIGH::",
    "NOSUCH:AES128",
    "NOSUCH+AES256:AES128",
    "AES256+NOSUCH:AES128",
    "NOSUCH!AES128:AES128",
    "DHE!AES128:HIGH",
    "!NOSUCH:AES128",
    "AES128-SHA:AES256-SHA256:ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384+aRSA",
    "ECDHE-RSA-AES256-GCM-SHA384+aECDSA:CHACHA20",
    "SHA256:SHA384:CHACHA20",
    "kECDHE+AES128:kEECDH",
    "PSK:SRP:ARIA:CAMELLIA:aRSA+CHACHA20",
];

/// Strings of which nothing is left.
const NOTHING: &[&str] =
    &["", ":", "AES128-SHA", "RSA", "DHE+AESGCM", "NOSUCH", "high", "!HIGH", "HIGH:!ALL", "SHA256"];

/// Strings that OpenSSL does not read.
const BROKEN: &[&str] = &["HIGH:@FOO", "HIGH:@SECLEVEL=9", "HIGH:#x", "AES+", "ECDHE+ :HIGH", "HIGH:!", "@", "HIGH:é"];

fn names(text: &str) -> Result<Vec<&'static str>, ListError> {
    suites12(text).map(|selection| selection.kept.into_iter().map(Suite12::name).collect())
}

/// What the OpenSSL of this machine makes of it, without the suites that do not exist here. `None`: it can not read it.
fn openssl(text: &str) -> Option<Vec<String>> {
    let output = Command::new("openssl").args(["ciphers", text]).output().expect("openssl is installed");
    let list = String::from_utf8(output.stdout).expect("names");
    let is_ours = |name: &&str| Suite12::ALL.iter().any(|suite| suite.name() == *name);
    output.status.success().then(|| list.trim().split(':').filter(is_ours).map(str::to_owned).collect())
}

#[test]
fn strings_mean_what_they_mean_to_openssl() {
    for text in STRINGS {
        let expected = openssl(text).unwrap_or_else(|| panic!("OpenSSL does not read {text}"));
        assert!(!expected.is_empty(), "{text} belongs elsewhere");
        assert_eq!(names(text).unwrap(), expected, "{text}");
    }
    for text in NOTHING {
        assert_eq!(openssl(text).unwrap_or_default(), Vec::<String>::new(), "{text}");
        assert_eq!(names(text), Err(ListError::Nothing), "{text}");
    }
    for text in BROKEN {
        assert_eq!(openssl(text), None, "{text}");
        assert!(matches!(names(text), Err(ListError::Syntax(_))), "{text}");
    }
}

/// Every string of up to three rules over words that select different parts.
#[test]
fn rules_combine_as_in_openssl() {
    let rules = ["AES", "CHACHA20", "aRSA", "-aRSA", "+AES256", "!AES128", "-AES", "@STRENGTH"];
    let mut texts: Vec<String> = Vec::new();
    for first in ["HIGH", "AES128", "aECDSA"] {
        for second in rules {
            texts.extend(rules.map(|third| format!("{first}:{second}:{third}")));
        }
    }
    for text in texts {
        assert_eq!(names(&text).unwrap_or_default(), openssl(&text).unwrap_or_default(), "{text}");
    }
}

#[test]
fn every_word_selects_what_it_selects_in_openssl() {
    for word in words::all() {
        let expected = openssl(word).unwrap_or_default();
        assert_eq!(names(word).unwrap_or_default(), expected, "{word}");
    }
}

/// The order of `HIGH`, so that a machine with another OpenSSL does not change what is tested.
#[test]
fn the_order_is_openssls() {
    let expected = [
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
    ];
    assert_eq!(names("HIGH"), Ok(expected.to_vec()));
}

#[test]
fn what_does_not_exist_here_is_told() {
    let dropped = |text| suites12(text).map(|selection| selection.dropped);
    assert_eq!(dropped("HIGH:!aNULL:-RSA:+DHE"), Ok(vec![]));
    let text = "DHE+AESGCM:HIGH:AES128-SHA:HGIH!x,TLS_AES_128_GCM_SHA256";
    let expected = ["DHE+AESGCM", "AES128-SHA", "HGIH!x", "TLS_AES_128_GCM_SHA256"];
    assert_eq!(dropped(text), Ok(expected.map(str::to_owned).to_vec()));
}

#[test]
fn levels_that_can_not_be_kept_are_refused() {
    for text in ["HIGH:@SECLEVEL=3", "DEFAULT@SECLEVEL=5", "SUITEB128", "SUITEB128ONLY"] {
        assert!(matches!(suites12(text), Err(ListError::OpenSsl(_))), "{text}");
    }
}

#[test]
fn suites_of_tls13_are_names() {
    let Selection { kept, dropped } =
        suites13("TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256:TLS_AES_256_GCM_SHA384").unwrap();
    assert_eq!(kept, [Suite13::ChaCha20, Suite13::Aes256]);
    assert_eq!(dropped, ["TLS_AES_128_CCM_SHA256"]);
    assert_eq!(suites13("TLS_AES_128_CCM_8_SHA256"), Err(ListError::Nothing));
    assert_eq!(suites13(""), Err(ListError::Nothing));
    let near = Some("TLS_AES_256_GCM_SHA384");
    let typed = "TLS_AES_265_GCM_SHA384:TLS_AES_128_GCM_SHA256";
    assert_eq!(suites13(typed), Err(ListError::Unknown("TLS_AES_265_GCM_SHA384".to_owned(), near)));
    assert_eq!(suites13("tls_aes_256_gcm_sha384").map_err(|error| matches!(error, ListError::Unknown(..))), Err(true));
    assert!(matches!(suites13("HIGH"), Err(ListError::Unknown(_, None))));
}

#[test]
fn a_group_has_several_names() {
    for name in ["P-256", "prime256v1", "secp256r1", "p-256", "SECP256R1", "?P-256"] {
        assert_eq!(groups(name).unwrap().kept, [Group::P256], "{name}");
    }
    let Selection { kept, dropped } =
        groups("X448:P-384:x25519:P-521:ffdhe2048:secp384r1:X25519MLKEM768:?new").unwrap();
    assert_eq!(kept, [Group::P384, Group::X25519, Group::X25519MlKem768]);
    assert_eq!(dropped, ["X448", "P-521", "ffdhe2048", "?new"]);
    assert_eq!(groups("P-521:X448"), Err(ListError::Nothing));
    assert_eq!(groups("P-256:X22519"), Err(ListError::Unknown("X22519".to_owned(), Some("x25519"))));
}

/// No bytes make it panic, and it ends.
#[test]
fn strange_strings_are_answered() {
    for text in ["+", "-", "!!", "@@", "+++++", "A+B+C+", "é", "HIGH+é", "NOSUCHé:HIGH", "\0", "DEFAULTé", "=", "._-"]
    {
        let _ = (suites12(text), suites13(text), groups(text));
    }
    assert_eq!(names("NOSUCHé:CHACHA20").unwrap().len(), 2);
}
