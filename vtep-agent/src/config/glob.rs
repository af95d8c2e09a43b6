//! Patterns of device names: `*` any text, `?` one character, `[a-z0]` one of a set, `[!…]` one that
//! is not in it.

/// A pattern that is more than a literal name.
pub(super) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// Why the pattern cannot be a glob; `None` when it can.
pub(super) fn fault(pattern: &str) -> Option<&'static str> {
    let foreign = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    if elements(pattern).is_none() {
        Some("a '[' has no ']'")
    } else if pattern.contains(foreign) {
        Some("no device name has '/', ':' or white space")
    } else {
        None
    }
}

/// The text before the first special character: patterns of which neither's prefix begins with the
/// other's have no name in common.
pub(super) fn prefix(pattern: &str) -> &str {
    let end = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    &pattern[..end]
}

/// Whether the whole `name` matches. An unclosed class matches nothing.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let Some(pattern) = elements(pattern) else {
        return false;
    };
    // Where in the pattern one may be after the characters so far.
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    skip_stars(&pattern, &mut reached);
    for c in name.chars() {
        let mut next = vec![false; pattern.len() + 1];
        for (at, element) in pattern.iter().enumerate().filter(|&(at, _)| reached[at]) {
            match element {
                Element::Star => next[at] = true,
                element if element.takes(c) => next[at + 1] = true,
                _ => {}
            }
        }
        skip_stars(&pattern, &mut next);
        reached = next;
    }
    reached[pattern.len()]
}

/// Whether some name may match both. Says yes rather than no where classes are concerned.
pub(super) fn may_overlap(a: &str, b: &str) -> bool {
    let (Some(a), Some(b)) = (elements(a), elements(b)) else {
        return false;
    };
    // `overlap[i][j]`: what follows `i` in `a` and `j` in `b` does.
    let mut overlap = vec![vec![false; b.len() + 1]; a.len() + 1];
    for i in (0..=a.len()).rev() {
        for j in (0..=b.len()).rev() {
            overlap[i][j] = match (a.get(i), b.get(j)) {
                (None, None) => true,
                (Some(Element::Star), other) => {
                    overlap[i + 1][j] || (other.is_some() && overlap[i][j + 1])
                }
                (other, Some(Element::Star)) => {
                    overlap[i][j + 1] || (other.is_some() && overlap[i + 1][j])
                }
                (Some(x), Some(y)) => x.may_equal(y) && overlap[i + 1][j + 1],
                _ => false,
            };
        }
    }
    overlap[0][0]
}

enum Element<'a> {
    Star,
    Any,
    One(char),
    Class(&'a str),
}

impl Element<'_> {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Star | Self::Any => true,
            Self::One(one) => *one == c,
            Self::Class(set) => in_class(set, c),
        }
    }

    fn may_equal(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(a), Self::One(b)) => a == b,
            (Self::One(c), class) | (class, Self::One(c)) => class.takes(*c),
            _ => true,
        }
    }
}

/// A star also takes nothing.
fn skip_stars(pattern: &[Element<'_>], reached: &mut [bool]) {
    for (at, element) in pattern.iter().enumerate() {
        if reached[at] && matches!(element, Element::Star) {
            reached[at + 1] = true;
        }
    }
}

/// `None` when a class is not closed.
fn elements(mut pattern: &str) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    while let Some(first) = pattern.chars().next() {
        pattern = &pattern[first.len_utf8()..];
        elements.push(match first {
            '*' => Element::Star,
            '?' => Element::Any,
            '[' => {
                // A `]` that comes first is a member.
                let set = pattern.strip_prefix('!').unwrap_or(pattern);
                let members = set.strip_prefix(']').unwrap_or(set);
                let close = pattern.len() - members.len() + members.find(']')?;
                let class = &pattern[..close];
                pattern = &pattern[close + 1..];
                Element::Class(class)
            }
            one => Element::One(one),
        });
    }
    Some(elements)
}

/// Whether a class takes `c`; `set` is what stands between its brackets.
fn in_class(set: &str, c: char) -> bool {
    let (negated, set) = match set.strip_prefix('!') {
        Some(set) => (true, set),
        None => (false, set),
    };
    let mut members = set.chars().peekable();
    let mut found = false;
    while let Some(low) = members.next() {
        let mut ahead = members.clone();
        let high = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(high)) => {
                members = ahead;
                high
            }
            _ => low,
        };
        found |= (low..=high).contains(&c);
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for (pattern, name, expected) in [
            ("tap-vm1", "tap-vm1", true),
            ("tap-vm1", "tap-vm10", false),
            ("tap*", "tap", true),
            ("tap*", "tap-vm1", true),
            ("tap*", "xtap", false),
            ("*vm*", "tap-vm1", true),
            ("tap?", "tap", false),
            ("tap?", "tap1", true),
            ("tap[0-9]", "tap7", true),
            ("tap[0-9]", "tapx", false),
            ("tap[!0-9]", "tapx", true),
            ("tap[!0-9]", "tap7", false),
            ("tap[-x]", "tap-", true),
            ("tap[]x]", "tap]", true),
            ("tap[x", "tap[x", false),
            ("vnet*.[12]", "vnet3.2", true),
            ("é?", "éü", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn overlaps() {
        for (a, b, expected) in [
            ("tap*", "tap-vm*", true),
            ("tap*", "vnet*", false),
            ("*1", "*2", false),
            ("*1", "tap*", true),
            ("tap?", "tap??", false),
            ("tap[0-9]", "tap*", true),
            ("tap[0-9]", "tapx", false),
            ("*", "*", true),
            ("a*b", "a*c", false),
        ] {
            assert_eq!(may_overlap(a, b), expected, "{a} {b}");
            assert_eq!(may_overlap(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn faults() {
        assert_eq!(fault("tap[0-9]*"), None);
        assert!(fault("tap[0-9").is_some());
        assert!(fault("tap *").is_some());
    }

    /// Linear in the name, however many stars there are.
    #[test]
    fn many_stars() {
        let stars = "*".repeat(200);
        assert!(!matches(&format!("{stars}x"), "tap-vm123456789"));
        assert!(!may_overlap(&format!("{stars}x"), &format!("{stars}y")));
    }

    proptest! {
        #[test]
        fn what_matches_both_overlaps(
            a in "[ab*?\\[\\]!-]{0,8}",
            b in "[ab*?\\[\\]!-]{0,8}",
            name in "[ab-]{0,6}",
        ) {
            if matches(&a, &name) && matches(&b, &name) {
                prop_assert!(may_overlap(&a, &b));
            }
        }

        #[test]
        fn a_name_matches_itself(name in "[a-z0-9.@-]{1,15}") {
            prop_assert!(matches(&name, &name));
            let longer = name.clone() + "x";
            prop_assert!(!matches(&name, &longer));
        }
    }
}
