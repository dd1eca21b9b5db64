//! Manual pages in the language of man(7), from text with a little markup: `'word'` is to be typed as it is (bold), `<name>`
//! is to be replaced (italic).

/// A page under construction.
pub(crate) struct Roff {
    text: String,
}

impl Roff {
    /// Starts the page `name`(`section`); `title` stands in the middle of its head.
    pub(crate) fn new(name: &str, section: u8, title: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let head = format!(
            ".TH {} {section} \"\" \"bowline {version}\" \"{}\"\n",
            escaped(&name.to_uppercase()),
            escaped(title)
        );
        // Words are not broken: what is to be typed must be readable as one.
        Self { text: head + ".nh\n.ad l\n" }
    }

    /// The section NAME, in the form that whatis(1) understands.
    pub(crate) fn name(&mut self, name: &str, about: &str) {
        self.section("NAME");
        self.text += &format!("{} \\- {}\n", escaped(name), escaped(about));
    }

    /// A heading, in capitals by custom.
    pub(crate) fn section(&mut self, title: &str) {
        self.text += &format!(".SH {}\n", quoted(title));
    }

    /// A heading below a section.
    pub(crate) fn subsection(&mut self, title: &str) {
        self.text += &format!(".SS {}\n", quoted(title));
    }

    /// Paragraphs; an empty line parts them.
    pub(crate) fn paragraphs(&mut self, text: &str) {
        for paragraph in text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
            self.text += &format!(".PP\n{}\n", inline(paragraph));
        }
    }

    /// A term and, indented, what is said about it. Both may have markup.
    pub(crate) fn item(&mut self, term: &str, text: &str) {
        self.text += &format!(".TP\n{}\n{}\n", inline(term), inline(text));
    }

    /// A further paragraph of the item before.
    pub(crate) fn item_continues(&mut self, text: &str) {
        self.text += &format!(".IP\n{}\n", inline(text));
    }

    /// Lines as they are.
    pub(crate) fn example(&mut self, lines: &str) {
        self.text += ".PP\n.RS 4\n.nf\n";
        for line in lines.trim_end().lines() {
            self.text += &format!("{}\n", guarded(escaped(line)));
        }
        self.text += ".fi\n.RE\n";
    }

    /// The page.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// Text without markup: nothing in it means anything to the formatter, and it is ASCII.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out += "\\e",
            '-' => out += "\\-",
            '\'' => out += "\\(aq",
            '`' => out += "\\(ga",
            '^' => out += "\\(ha",
            '~' => out += "\\(ti",
            '"' => out += "\\(dq",
            '…' => out += "...",
            character if character.is_ascii() => out.push(character),
            character => out += &format!("\\[u{:04X}]", u32::from(character)),
        }
    }
    out
}

/// An argument of a macro.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// A line that begins like a request is text all the same.
fn guarded(line: String) -> String {
    if line.starts_with('.') { format!("\\&{line}") } else { line }
}

/// Text with markup, on one line.
fn inline(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::new();
    let mut rest = text.as_str();
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let marked = match first {
            // An apostrophe stands behind a letter, an opening quote does not.
            '\'' if !before.is_alphanumeric() => closing_quote(rest).map(|end| (&rest[1..end], 'B', end + 1)),
            '<' => rest.find('>').filter(|end| is_name(&rest[1..*end])).map(|end| (&rest[1..end], 'I', end + 1)),
            _ => None,
        };
        match marked {
            Some((inside, font, length)) => {
                out += &format!("\\f{font}{}\\fR", escaped(inside));
                before = '\'';
                rest = &rest[length..];
            }
            None => {
                out += &escaped(&rest[..first.len_utf8()]);
                before = first;
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    guarded(out)
}

/// Where a quote that opens at the start ends: at the next one that no letter follows.
fn closing_quote(text: &str) -> Option<usize> {
    let mut from = 1;
    loop {
        let end = from + text[from..].find('\'')?;
        match text[end + 1..].chars().next() {
            Some(next) if next.is_alphanumeric() => from = end + 1,
            _ if end > 1 => return Some(end),
            _ => return None,
        }
    }
}

/// What may stand in angle brackets to be replaced: words, not operators.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && text.chars().all(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_' | '/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_fonts() {
        for (text, expected) in [
            ("write 'crt <file>' here", r"write \fBcrt <file>\fR here"),
            ("the client's <name>s", r"the client\(aqs \fIname\fRs"),
            ("'a'b' and 'c'", r"\fBa\(aqb\fR and \fBc\fR"),
            ("('no-alpn')", r"(\fBno\-alpn\fR)"),
            ("a < b > c", "a < b > c"),
            ("an open ' quote", r"an open \(aq quote"),
            (".if 'x'", r"\&.if \fBx\fR"),
            (r"a \n …", r"a \en ..."),
            ("ü", r"\[u00FC]"),
            ("two\n   lines", "two lines"),
        ] {
            assert_eq!(inline(text), expected, "{text}");
        }
    }

    #[test]
    fn a_page_is_ascii_and_no_line_of_it_is_a_request_by_accident() {
        let mut page = Roff::new("bowline.cfg", 5, "File formats");
        page.section("NAME");
        page.paragraphs("one – 'two'\n\nthree");
        page.item("'-f' <FILE>", "reads it");
        page.example(".if 1\n'quoted'\n    \\x\n");
        let text = page.finish();
        assert!(text.is_ascii());
        assert!(text.starts_with(".TH BOWLINE.CFG 5 \"\" \"bowline "), "{text}");
        assert!(text.contains("\n\\&.if 1\n\\(aqquoted\\(aq\n    \\ex\n.fi\n"), "{text}");
    }
}
