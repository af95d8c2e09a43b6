//! `cargo xtask test`: every test.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Command, ExitStatus},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    conformance::{Citations, Executables, Report, Results, Table},
    setup,
    shell::{self, cargo, is_root, line, output, workspace},
};

/// Builds everything, runs the tests and prints what they say of each row of the conformance list;
/// the runner's closing lines come last.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    ensure!(
        is_root(),
        "the labs make network namespaces and load BPF programs: run this as root"
    );
    setup::run(false)?;
    // The labs run the binaries that `cargo test` alone would not build.
    shell::run(&mut cargo(["build", "--workspace"])?)?;

    let mut list = cargo(["test", "--workspace", "--no-run", "--message-format=json"])?;
    let executables = Executables::from_messages(&output(&mut list)?, workspace()?);
    let mut test = cargo(["test", "--no-fail-fast"])?;
    if !arguments
        .iter()
        .any(|argument| argument.starts_with("-p") || argument == "--package")
    {
        test.arg("--workspace");
    }
    let mut results = Results::default();
    let (status, closing) = follow(test.args(arguments), |line| {
        results.take(line, &executables);
    })?;

    let (table, citations) = (Table::read()?, Citations::read()?);
    let report = Report::new(&table, &citations, &results);
    println!("\n{report}\n{}", closing.join("\n"));
    ensure!(status.success(), "{} failed ({status})", line(&test));
    if arguments.is_empty() {
        let problems = report.problems();
        ensure!(
            problems.is_empty(),
            "docs/conformance.md and the tests don't agree:\n  {}",
            problems.join("\n  ")
        );
    }
    Ok(())
}

/// Runs a command and passes on what it prints, line by line. The last test result and what follows
/// are held back and returned.
fn follow(command: &mut Command, mut each: impl FnMut(&str)) -> Result<(ExitStatus, Vec<String>)> {
    eprintln!("+ {}", line(command));
    // One pipe for both, so that their order is kept.
    let (reader, writer) = io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {}", line(command)))?;
    // The command keeps our ends of the pipe open, and the pipe would never end.
    command.stdout(io::stdout()).stderr(io::stderr());
    let mut held = Vec::new();
    for text in BufReader::new(reader).split(b'\n') {
        let text = String::from_utf8_lossy(&text?).into_owned();
        each(&text);
        let start = text.trim_start();
        if start.starts_with("Running ") || start.starts_with("Doc-tests ") {
            held.drain(..).for_each(|text: String| println!("{text}"));
        }
        if !held.is_empty() || text.starts_with("test result: ") {
            held.push(text);
        } else {
            println!("{text}");
            io::stdout().flush()?;
        }
    }
    Ok((child.wait()?, held))
}
