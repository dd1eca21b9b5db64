//! `--manual`: the manual pages. What is in a table comes from the table; the rest stands here.

mod configuration;
mod control;
mod hitch;
mod program;
mod roff;

use roff::Roff;

/// A page that can be printed.
#[derive(Debug)]
pub(super) struct Page {
    /// Its name, as man(1) knows it.
    name: &'static str,
    section: u8,
    /// What stands in the middle of its head.
    title: &'static str,
    /// One line: what it is about.
    about: &'static str,
    body: fn(&mut Roff),
}

impl PartialEq for Page {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Page {}

static PAGES: &[Page] = &[
    Page {
        name: "bowline",
        section: 8,
        title: "System administration",
        about: "terminate TLS, verify clients, relay to TCP backends",
        body: program::body,
    },
    Page {
        name: "bowline.cfg",
        section: 5,
        title: "File formats",
        about: "the configuration of bowline",
        body: configuration::body,
    },
    Page {
        name: "bowline-ctl",
        section: 1,
        title: "User commands",
        about: "give commands to a running bowline",
        body: control::body,
    },
    Page {
        name: "bowline-hitch",
        section: 8,
        title: "System administration",
        about: "run a configuration of Hitch",
        body: hitch::body,
    },
];

/// Names of the pages.
pub(super) fn names() -> Vec<&'static str> {
    PAGES.iter().map(|page| page.name).collect()
}

/// The page of a name.
///
/// # Errors
/// There is none; which there are.
pub(super) fn find(name: &str) -> Result<&'static Page, String> {
    let found = PAGES.iter().find(|page| page.name == name);
    found.ok_or_else(|| format!("there is no manual page '{name}'; there are {}", names().join(", ")))
}

/// The text of a page, for man(1).
pub(super) fn text(page: &Page) -> String {
    let mut roff = Roff::new(page.name, page.section, page.title);
    roff.name(page.name, page.about);
    (page.body)(&mut roff);
    let others: Vec<String> = PAGES
        .iter()
        .filter(|other| *other != page)
        .map(|other| format!("'{}'({})", other.name, other.section))
        .collect();
    roff.section("SEE ALSO");
    roff.paragraphs(&others.join(", "));
    roff.finish()
}
