//! Names that a pattern means.

/// fnmatch(3) without flags: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` in front of a character that means itself.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut position) = (0, 0);
    // Behind the last star, and up to where it reaches so far.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at + 1, position));
            at += 1;
        } else if let Some(length) = name.get(position).and_then(|byte| one(&pattern[at..], *byte)) {
            at += length;
            position += 1;
        } else if at == pattern.len() && position == name.len() {
            return true;
        } else if let Some((behind, reached)) = star.filter(|(_, reached)| *reached < name.len()) {
            star = Some((behind, reached + 1));
            (at, position) = (behind, reached + 1);
        } else {
            return false;
        }
    }
}

/// Bytes of the pattern that match this byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [b'[', rest @ ..] => set(rest, byte).unwrap_or((byte == b'[').then_some(1)),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

/// `abc]`, `!a-z]`: bytes of the pattern with both brackets, if the byte is meant. The outer `None`: the set has no end.
#[expect(clippy::option_option, reason = "no set, and no match, are two things")]
fn set(rest: &[u8], byte: u8) -> Option<Option<usize>> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let members = &rest[usize::from(negated)..];
    // A bracket that comes first is a member.
    let end = members.iter().skip(1).position(|member| *member == b']')? + 1;
    let mut found = false;
    let mut inside = &members[..end];
    while let [first, after @ ..] = inside {
        (found, inside) = match after {
            [b'-', last, after @ ..] => (found || (*first..=*last).contains(&byte), after),
            _ => (found || *first == byte, after),
        };
    }
    Some((found != negated).then_some(1 + usize::from(negated) + end + 1))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs_are_those_of_fnmatch() {
        for (pattern, yes, no) in [
            ("*.pem", &["a.pem", ".pem", "a.b.pem"][..], &["a.pem.key", "pem", ""][..]),
            ("?b", &["ab"], &["b", "aab"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x", "-x"]),
            ("[!a-c]x", &["dx"], &["ax"]),
            ("[]]x", &["]x"], &["x", "[]]x"]),
            ("[a", &["[a"], &["a"]),
            (r"\*", &["*"], &["a", r"\*"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a"]),
            ("", &[""], &["a"]),
            ("*", &["", "x"], &[]),
        ] {
            for name in yes {
                assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
            }
        }
    }
}
