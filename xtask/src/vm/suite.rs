//! What the guest runs.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Kernel;
use crate::shell::{cargo, output, workspace};

/// Tests of one target.
struct Run<'a> {
    target: &'a str,
    arguments: Vec<&'a str>,
}

/// Test targets of `vtep-tests` with the names of tests, or all of them where there are none. The
/// first ones are about the programs and how they are attached; the labs are a selection, since they
/// take their time on an emulated processor.
const SUITE: &[(&str, &[&str])] = &[
    ("dataplane", &[]),
    ("dataplane_lifecycle", &[]),
    (
        "lab_agents",
        &[
            "flooding::flooding_reaches_every_vm_of_the_bd_once",
            "bds::ports_of_one_host_are_switched_locally",
            "traffic::traffic_of_tap_ports",
            "traffic::traffic_with_xdp_auto",
            "traffic::traffic_with_xdp_off",
            "bds::vlan_of_a_port_is_taken_off_and_put_on",
        ],
    ),
    (UPLINKS, &[]),
];

/// Targets whose tests are ignored elsewhere, which they say themselves.
const UPLINKS: &str = "guest_uplinks";

/// Of Debian's kernels only the newest has `CONFIG_TCP_AO`.
const TCP_AO: &str = "guest_tcp_ao";

/// A shell script that runs the suite, or the one test target that was asked for, and fails when a
/// test does.
pub(super) fn script(kernel: Kernel, asked: &[String]) -> Result<String> {
    let binaries = binaries()?;
    let binary = |target: &str| {
        let binary = binaries.get(target);
        binary.with_context(|| format!("vtep-tests has no test target {target}"))
    };
    let runs = match asked.split_first() {
        Some((target, arguments)) => vec![Run {
            target,
            arguments: arguments.iter().map(String::as_str).collect(),
        }],
        None => SUITE
            .iter()
            .chain((kernel == Kernel::Newest).then_some(&(TCP_AO, &[][..])))
            .map(|(target, tests)| usual(target, tests, binary(target)?))
            .collect::<Result<_>>()?,
    };
    let mut script = format!(
        "cd {}\nexport PATH={} TMPDIR=/run/tmp HOME=/root\nfailed=0\n",
        quote(&workspace()?.join("tests").display().to_string()),
        quote(&env::var("PATH").unwrap_or_default()),
    );
    // The guest's console always is a terminal.
    let color = if io::stdout().is_terminal() {
        "auto"
    } else {
        "never"
    };
    for Run { target, arguments } in runs {
        let arguments = arguments
            .into_iter()
            .map(quote)
            .collect::<Vec<_>>()
            .join(" ");
        // Writing into a String cannot fail.
        let _ = writeln!(
            script,
            "echo 'vm: {target}'\n{} --color={color} {arguments} || failed=1",
            quote(&binary(target)?.display().to_string()),
        );
    }
    script += "exit $failed\n";
    Ok(script)
}

/// One line of the suite. A test that is named there and does not exist is an error: the harness
/// would run one less, and succeed.
fn usual<'a>(target: &'a str, tests: &'a [&'a str], binary: &Path) -> Result<Run<'a>> {
    let list = output(Command::new(binary).args(["--list", "--format=terse"]))?;
    for test in tests {
        ensure!(
            list.lines()
                .any(|line| line.strip_suffix(": test") == Some(test)),
            "{target} has no test {test}"
        );
    }
    let mut arguments = Vec::new();
    if [UPLINKS, TCP_AO].contains(&target) {
        // Two NICs serve one test at a time.
        arguments.extend(["--ignored", "--test-threads=1"]);
    }
    if !tests.is_empty() {
        arguments.push("--exact");
        arguments.extend(tests);
    }
    Ok(Run { target, arguments })
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
