//! What this program was built from.

/// Of the program.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");

const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));

/// The version of a library that is linked in; `None` if it is not.
pub fn of_library(name: &str) -> Option<&'static str> {
    let (_, rest) = LOCK.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_build() {
        assert!(of_library("rustls").unwrap().starts_with("0.23."));
        assert_eq!(of_library("no-such-crate"), None);
    }
}
