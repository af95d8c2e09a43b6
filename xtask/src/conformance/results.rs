//! What the test runner says, line by line.

use std::path::{Path, PathBuf};

/// Results of all tests so far.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Source file of the executable that runs, from the root of the tree.
    target: PathBuf,
    pub(super) tests: Vec<TestResult>,
}

/// The end of a test.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TestResult {
    /// Source file that its executable was built from, from the root of the tree.
    pub(super) target: PathBuf,
    /// Modules and function.
    pub(super) name: String,
    pub(super) passed: bool,
}

impl Results {
    /// Takes a line.
    pub(crate) fn take(&mut self, line: &str, executables: &Executables) {
        if let Some(target) = executables.target(line) {
            self.target = target.to_owned();
            return;
        }
        let Some((name, end)) = line
            .strip_prefix("test ")
            .and_then(|test| test.split_once(" ... "))
        else {
            return;
        };
        // Ignored tests show nothing.
        let passed = match end {
            "ok" => true,
            "FAILED" => false,
            _ => return,
        };
        // `test name - should panic ... ok`
        let name = name.split(" - ").next().unwrap_or(name).to_owned();
        self.tests.push(TestResult {
            target: self.target.clone(),
            name,
            passed,
        });
    }
}

#[cfg(test)]
impl Results {
    /// All tests that cite something, passed.
    pub(super) fn of(citations: &super::Citations) -> Self {
        let passed = |citation: &super::citations::Citation| TestResult {
            target: citation.file.clone(),
            name: citation.test.clone(),
            passed: true,
        };
        Self {
            target: PathBuf::new(),
            tests: citations.0.iter().map(passed).collect(),
        }
    }
}

/// Which source file an executable of tests was built from.
#[derive(Debug, Default)]
pub(crate) struct Executables(Vec<(String, PathBuf)>);

impl Executables {
    /// From the messages of `cargo test --no-run --message-format=json`.
    pub(crate) fn from_messages(messages: &str, root: &Path) -> Self {
        let artifacts = messages.lines().filter_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let executable = message.get("executable")?.as_str()?;
            let source = Path::new(message.pointer("/target/src_path")?.as_str()?);
            let name = Path::new(executable).file_name()?.to_str()?.to_owned();
            Some((name, source.strip_prefix(root).unwrap_or(source).to_owned()))
        });
        Self(artifacts.collect())
    }

    /// The source file of the executable that a line such as
    /// `Running tests/lab_bgp.rs (target/debug/deps/lab_bgp-0123)` announces.
    fn target(&self, line: &str) -> Option<&Path> {
        let executable = line
            .trim_start()
            .strip_prefix("Running ")?
            .strip_suffix(')')?
            .rsplit('/')
            .next()?;
        let (_, source) = self.0.iter().find(|(name, _)| name == executable)?;
        Some(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_is_understood() {
        let messages = r#"{"reason":"compiler-artifact","target":{"src_path":"/root/tests/tests/lab_bgp.rs"},"executable":"/root/target/debug/deps/lab_bgp-01ab"}
{"reason":"compiler-artifact","target":{"src_path":"/root/xtask/src/main.rs"},"executable":null}"#;
        let executables = Executables::from_messages(messages, Path::new("/root"));
        let mut results = Results::default();
        for line in [
            "     Running tests/lab_bgp.rs (target/debug/deps/lab_bgp-01ab)",
            "running 4 tests",
            "test bgp_001_opens ... ok",
            "test part::bgp_002 ... FAILED",
            "test slow ... ignored, takes long",
            "test wrong - should panic ... ok",
            "test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured",
        ] {
            results.take(line, &executables);
        }
        let names: Vec<_> = results
            .tests
            .iter()
            .map(|test| (&test.name[..], test.passed))
            .collect();
        assert_eq!(
            names,
            [
                ("bgp_001_opens", true),
                ("part::bgp_002", false),
                ("wrong", true)
            ]
        );
        assert_eq!(results.tests[0].target, Path::new("tests/tests/lab_bgp.rs"));
    }
}
