//! What the guest runs.

use std::{collections::BTreeMap, env, fmt::Write as _, io::IsTerminal as _, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::shell::{cargo, output, workspace};

/// Test targets of `vtep-tests` and what they are called with. The first ones are about the
/// programs and how they are attached; the labs are a selection, since they take their time here.
const SUITE: &[(&str, &[&str])] = &[
    ("dataplane", &[]),
    ("dataplane_lifecycle", &["--test-threads=1"]),
    ("kernel_monitor", &["--test-threads=1"]),
    (
        "lab_agents",
        &[
            "--test-threads=1",
            "--exact",
            "traffic_with_xdp_auto",
            "traffic_with_xdp_off",
            "traffic_of_tap_ports",
            "flooding_reaches_every_vm_of_the_bd_once",
            "arp_and_nd_are_suppressed",
        ],
    ),
    // They say themselves that they are ignored elsewhere.
    ("guest_uplinks", &["--test-threads=1", "--ignored"]),
];

/// A shell script that runs the suite, or the one test target that was asked for, and fails when a
/// test does.
pub(super) fn script(asked: &[String]) -> Result<String> {
    let binaries = binaries()?;
    let directory = workspace()?.join("tests");
    let mut script = format!(
        "cd {}\nexport PATH={} TMPDIR=/run/tmp HOME=/root\nfailed=0\n",
        quote(&directory.display().to_string()),
        quote(&env::var("PATH").unwrap_or_default()),
    );
    let runs: Vec<(&str, Vec<&str>)> = match asked.split_first() {
        Some((target, arguments)) => {
            vec![(target, arguments.iter().map(String::as_str).collect())]
        }
        None => SUITE
            .iter()
            .map(|(target, arguments)| (*target, arguments.to_vec()))
            .collect(),
    };
    // The guest's console always is a terminal.
    let color = if std::io::stdout().is_terminal() {
        ""
    } else {
        " --color=never"
    };
    for (target, arguments) in runs {
        let binary = binaries
            .get(target)
            .with_context(|| format!("vtep-tests has no test target {target}"))?;
        let arguments: String = arguments
            .iter()
            .map(|word| format!(" {}", quote(word)))
            .collect();
        // Writing into a String cannot fail.
        let _ = writeln!(
            script,
            "echo 'vm: {target}'\n{}{color}{arguments} || failed=1",
            quote(&binary.display().to_string())
        );
    }
    script += "exit $failed\n";
    Ok(script)
}

/// Test targets and their executables, which are built if need be.
fn binaries() -> Result<BTreeMap<String, PathBuf>> {
    let mut build = cargo(["test", "--package=vtep-tests", "--tests", "--no-run"])?;
    let messages = output(build.arg("--message-format=json"))?;
    let binary = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let executable = message["executable"].as_str()?;
        let name = message["target"]["name"].as_str()?;
        let is_test = message["target"]["kind"][0] == "test";
        is_test.then(|| (name.to_owned(), PathBuf::from(executable)))
    };
    Ok(messages.lines().filter_map(binary).collect())
}

/// A word for a shell.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
