//! Patterns of device names: `*` any text, `?` one character, `[a-z0]` one of a set, `[!…]` one that
//! is not in it. Names are at most 15 bytes, hence plain backtracking.

/// A pattern that is more than a literal name.
pub(super) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// Why the pattern cannot be a glob; `None` when it can.
pub(super) fn fault(pattern: &str) -> Option<&'static str> {
    let mut rest = pattern;
    while let Some(open) = rest.find('[') {
        match class(&rest[open + 1..]) {
            Some((_, after)) => rest = after,
            None => return Some("a '[' has no ']'"),
        }
    }
    let foreign = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
    pattern
        .contains(foreign)
        .then_some("no device name has '/', ':' or white space")
}

/// Whether the whole `name` matches. An unclosed class matches nothing.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else {
        return name.is_empty();
    };
    let pattern_rest = &pattern[first.len_utf8()..];
    if first == '*' {
        return (0..=name.len())
            .filter(|&index| name.is_char_boundary(index))
            .any(|index| matches(pattern_rest, &name[index..]));
    }
    let Some(c) = name.chars().next() else {
        return false;
    };
    let name_rest = &name[c.len_utf8()..];
    match first {
        '?' => matches(pattern_rest, name_rest),
        '[' => class(pattern_rest)
            .is_some_and(|(set, after)| in_class(set, c) && matches(after, name_rest)),
        literal => literal == c && matches(pattern_rest, name_rest),
    }
}

/// Whether some name may match both. Says yes rather than no where classes are concerned.
pub(super) fn may_overlap(a: &str, b: &str) -> bool {
    match (next(a), next(b)) {
        (None, None) => true,
        (Some(('*', a_rest)), _) if may_overlap(a_rest, b) => true,
        (_, Some(('*', b_rest))) if may_overlap(a, b_rest) => true,
        (None, _) | (_, None) => false,
        (Some(('*', _)), Some(('*', _))) => false,
        (Some(('*', _)), Some((_, b_rest))) => may_overlap(a, b_rest),
        (Some((_, a_rest)), Some(('*', _))) => may_overlap(a_rest, b),
        (Some((x, a_rest)), Some((y, b_rest))) => {
            (x == y || x == '?' || y == '?') && may_overlap(a_rest, b_rest)
        }
    }
}

/// First element and the rest; a class stands as `?`.
fn next(pattern: &str) -> Option<(char, &str)> {
    let first = pattern.chars().next()?;
    let rest = &pattern[first.len_utf8()..];
    match (first, class(rest)) {
        ('[', Some((_, after))) => Some(('?', after)),
        _ => Some((first, rest)),
    }
}

/// Splits what follows `[` into the set and what follows its `]`, which may be the set's first
/// character.
fn class(text: &str) -> Option<(&str, &str)> {
    let set = text.strip_prefix('!').unwrap_or(text);
    let members = set.strip_prefix(']').unwrap_or(set);
    let close = text.len() - members.len() + members.find(']')?;
    Some((&text[..close], &text[close + 1..]))
}

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
}
