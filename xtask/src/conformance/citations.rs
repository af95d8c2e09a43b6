//! Which tests cite which ids: in their names (`err_001_…`, `bgp_002_005_to_010_…`), or in their
//! documentation (`BGP-016`, `BGP-005 to BGP-010`).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::shell::workspace;

/// Directories with tests, from the root of the tree.
const SOURCES: [&str; 4] = ["tests", "vtep-agent", "vtep-common", "xtask"];

/// Every test that cites something.
#[derive(Debug)]
pub(crate) struct Citations(pub(super) Vec<Citation>);

/// A test and what it cites.
#[derive(Debug)]
pub(super) struct Citation {
    /// Source file, from the root of the tree.
    pub(super) file: PathBuf,
    /// The function.
    pub(super) test: String,
    /// Such as `BGP-001`.
    pub(super) ids: Vec<String>,
}

impl Citations {
    /// Reads all sources.
    pub(crate) fn read() -> Result<Self> {
        let root = workspace()?;
        let mut all = Vec::new();
        for directory in SOURCES {
            scan(root, &root.join(directory), &mut all)?;
        }
        Ok(Self(all))
    }
}

impl Citation {
    /// Whether a test of the runner is this one: `target` is the source file that its executable was
    /// built from, `name` the path of modules and function in it.
    pub(super) fn is(&self, target: &Path, name: &str) -> bool {
        // The crate's directory, with `src` or `tests`, has the modules of all its sources.
        let Some(directory) = target.parent() else {
            return false;
        };
        let directory = match target.file_stem().and_then(|stem| stem.to_str()) {
            Some("lib" | "main") | None => directory.to_owned(),
            Some(_) => target.to_owned(),
        };
        let Ok(path) = self.file.strip_prefix(&directory) else {
            return false;
        };
        let modules = path.with_extension("");
        let modules = modules
            .iter()
            .filter_map(|module| module.to_str())
            .filter(|module| !matches!(*module, "mod" | "lib" | "main"));
        let mut segments = name.split("::");
        modules
            .into_iter()
            .all(|module| segments.next() == Some(module))
            && segments.last() == Some(&self.test)
    }
}

fn scan(root: &Path, directory: &Path, all: &mut Vec<Citation>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            scan(root, &path, all)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let file = path.strip_prefix(root).unwrap_or(&path);
            all.extend(in_source(&text).into_iter().map(|(test, ids)| Citation {
                file: file.to_owned(),
                test,
                ids,
            }));
        }
    }
    Ok(())
}

/// Tests of a source file that cite ids.
fn in_source(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let (mut documentation, mut is_test) = (String::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(line) = line.strip_prefix("///") {
            documentation += line;
            documentation.push(' ');
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        } else {
            let function = line.trim_start_matches("async ").strip_prefix("fn ");
            if let Some(function) = function.filter(|_| is_test) {
                let name = function.split(['(', '<']).next().unwrap_or_default();
                let mut ids = in_name(name);
                ids.extend(in_documentation(&documentation));
                ids.sort();
                ids.dedup();
                if !ids.is_empty() {
                    found.push((name.to_owned(), ids));
                }
            }
            documentation.clear();
            is_test = false;
        }
    }
    found
}

/// Ids at the beginning of a name: a prefix, then numbers of three digits, `to` and `and`.
fn in_name(name: &str) -> Vec<String> {
    let mut words = name.split('_');
    let prefix = words.next().unwrap_or_default().to_uppercase();
    let mut ids = Ids::default();
    for word in words {
        match (word, number(word)) {
            (_, Some(number)) => ids.push(&prefix, number),
            ("to", None) => ids.range = true,
            ("and", None) => {}
            _ => break,
        }
    }
    ids.found
}

/// Ids anywhere in a text, with `A to B` for all between.
fn in_documentation(text: &str) -> Vec<String> {
    let mut ids = Ids::default();
    for word in text.split_whitespace() {
        let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let id = word.split_once('-').and_then(|(prefix, rest)| {
            let upper = prefix.len() >= 2 && prefix.bytes().all(|byte| byte.is_ascii_uppercase());
            Some((prefix, number(rest)?)).filter(|_| upper)
        });
        match id {
            Some((prefix, number)) => ids.push(prefix, number),
            None => ids.range = word == "to" && !ids.found.is_empty(),
        }
    }
    ids.found
}

/// Ids as they are met.
#[derive(Default)]
struct Ids {
    found: Vec<String>,
    last: u32,
    /// The next one ends a range.
    range: bool,
}

impl Ids {
    fn push(&mut self, prefix: &str, number: u32) {
        let first = match std::mem::take(&mut self.range) {
            true => self.last + 1,
            false => number,
        };
        self.found
            .extend((first..=number).map(|number| format!("{prefix}-{number:03}")));
        self.last = number;
    }
}

fn number(word: &str) -> Option<u32> {
    let digits = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_names_and_documentation() {
        let source = "
            /// BGP-016, and GR-001 to GR-003: back, RFC 4271 §8.
            #[test]
            fn back_again() {}

            #[tokio::test(start_paused = true)]
            async fn bgp_002_005_to_007_and_015_mistakes_123() {}

            /// BGP-001: no test.
            fn helper() {}

            /// What a peer of 10.0.0.1 does.
            #[test]
            fn nothing() {}
        ";
        let ids = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            in_source(source),
            [
                (
                    "back_again".to_owned(),
                    ids(&["BGP-016", "GR-001", "GR-002", "GR-003"])
                ),
                (
                    "bgp_002_005_to_007_and_015_mistakes_123".to_owned(),
                    ids(&["BGP-002", "BGP-005", "BGP-006", "BGP-007", "BGP-015"])
                ),
            ]
        );
    }

    #[test]
    fn tests_are_found_by_target_and_path() {
        let citation = |file: &str, test: &str| Citation {
            file: file.into(),
            test: test.to_owned(),
            ids: Vec::new(),
        };
        let unit = citation("vtep-agent/src/bgp/wire/tests/errors.rs", "err_001");
        let agent = Path::new("vtep-agent/src/lib.rs");
        assert!(unit.is(agent, "bgp::wire::tests::errors::err_001"));
        assert!(!unit.is(agent, "bgp::rib::tests::errors::err_001"));
        assert!(!unit.is(Path::new("tests/tests/errors.rs"), "err_001"));
        // A module `tests` inside of a file, and a directory's own file.
        let inline = citation("vtep-agent/src/types/rt.rs", "formats");
        assert!(inline.is(agent, "types::rt::tests::formats"));
        let parent = citation("vtep-agent/src/core/tests/mod.rs", "mac");
        assert!(parent.is(agent, "core::tests::mac"));
        let lab = citation("tests/tests/lab_bgp.rs", "bgp_001");
        assert!(lab.is(Path::new("tests/tests/lab_bgp.rs"), "bgp_001"));
        assert!(!lab.is(Path::new("tests/tests/lab_frr.rs"), "bgp_001"));
        let part = citation("tests/tests/dataplane/encap.rs", "flood");
        assert!(part.is(Path::new("tests/tests/dataplane/main.rs"), "encap::flood"));
    }
}
