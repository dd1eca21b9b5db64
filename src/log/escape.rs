//! Peer-chosen bytes on their way into a line. The form is HAProxy's (manual, 8.6): `#XX` for every byte that is not
//! printable ASCII, for `#` itself and for `"`. What comes out cannot end a line, close a quote or colour a terminal.

/// Longest escaped field in bytes, the mark of a cut not counted.
pub const FIELD_LIMIT: usize = 256;

/// Appended to a field that was cut. Not ASCII, so no peer can forge it: its bytes would have been escaped.
pub const CUT_MARK: char = '…';

/// Appends `bytes` for use between double quotes.
pub fn push_quoted(out: &mut String, bytes: &[u8]) {
    out.push('"');
    push_escaped(out, bytes, |byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'#');
    out.push('"');
}

/// Appends `bytes` as one word: a blank is escaped too.
pub fn push_word(out: &mut String, bytes: &[u8]) {
    push_escaped(out, bytes, |byte| matches!(byte, b'!'..=b'~') && byte != b'"' && byte != b'#');
}

fn push_escaped(out: &mut String, bytes: &[u8], plain: impl Fn(u8) -> bool) {
    let start = out.len();
    for &byte in bytes {
        let length = if plain(byte) { 1 } else { 3 };
        if out.len() - start + length > FIELD_LIMIT {
            out.push(CUT_MARK);
            return;
        }
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push('#');
            push_hex(out, byte);
        }
    }
}

/// Appends two upper-case hex digits.
pub(super) fn push_hex(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// The last line of defence, applied to every text before framing: control characters as `#XX` (all bytes of their
/// UTF-8 form), everything else as it is.
pub(super) fn without_controls(text: String) -> String {
    if !text.chars().any(char::is_control) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if character.is_control() {
            let mut utf8 = [0; 4];
            for byte in character.encode_utf8(&mut utf8).bytes() {
                out.push('#');
                push_hex(&mut out, byte);
            }
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(bytes: &[u8]) -> String {
        let mut out = String::new();
        push_quoted(&mut out, bytes);
        out
    }

    fn word(bytes: &[u8]) -> String {
        let mut out = String::new();
        push_word(&mut out, bytes);
        out
    }

    #[test]
    fn printable_ascii_stays() {
        assert_eq!(quoted(b"/C=DE/CN=a b (c)~!"), "\"/C=DE/CN=a b (c)~!\"");
        assert_eq!(word(b"www.example.org"), "www.example.org");
    }

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        assert_eq!(quoted(b"a\n<0>b\r\0\x1b[31m\x7f"), "\"a#0A<0>b#0D#00#1B[31m#7F\"");
        assert_eq!(quoted(b"\" alert=none"), "\"#22 alert=none\"");
        assert_eq!(quoted("é#".as_bytes()), "\"#C3#A9#23\"");
        assert_eq!(word(b"x subject=y"), "x#20subject=y");
    }

    #[test]
    fn a_long_field_is_cut_and_marked() {
        let exact = vec![b'a'; FIELD_LIMIT];
        assert_eq!(word(&exact).len(), FIELD_LIMIT);
        let long = vec![b'a'; FIELD_LIMIT + 1];
        assert_eq!(word(&long), format!("{}…", "a".repeat(FIELD_LIMIT)));
        // An escape is never cut in half: 85 of three bytes each, and no room for another.
        assert_eq!(word(&[0; 100_000]), format!("{}…", "#00".repeat(85)));
    }

    #[test]
    fn the_mark_cannot_be_forged() {
        assert_eq!(word("…".as_bytes()), "#E2#80#A6");
    }

    #[test]
    fn control_characters_of_any_width_go() {
        assert_eq!(without_controls("/etc/ünï\n\u{9b}x".into()), "/etc/ünï#0A#C2#9Bx");
        assert_eq!(without_controls("plain".into()), "plain");
    }
}
