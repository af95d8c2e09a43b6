//! `cargo xtask test`: every test.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    process::{Command, ExitStatus},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
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
    shell::build_for_labs()?;

    let packages = arguments
        .iter()
        .any(|argument| argument.starts_with("-p") || argument == "--package");
    let everything = (!packages).then_some("--workspace");
    let mut list = cargo(["test", "--no-run", "--message-format=json"])?;
    let selection = arguments.iter().take_while(|argument| *argument != "--");
    list.args(everything).args(selection);
    let executables = Executables::from_messages(&output(&mut list)?, workspace()?);
    let mut test = cargo(["test", "--no-fail-fast"])?;
    test.args(everything);
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
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for text in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&text).into_owned();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    let mut held = Vec::new();
    loop {
        let text = match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(text) => text,
            Err(RecvTimeoutError::Disconnected) => break,
            // A process that a test left behind has the pipe, and nobody waits for it.
            Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_some() => break,
            Err(RecvTimeoutError::Timeout) => continue,
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Both streams in their order, the closing lines apart, and an end although somebody holds the
    /// pipe.
    #[test]
    fn closing_lines_are_held_back() {
        let script = "echo '  Running a' >&2; echo 'test one ... ok'; echo 'test result: ok. 1'; \
                      echo '  Running b' >&2; echo 'test two ... FAILED'; echo 'test result: bad'; \
                      echo; echo 'error: 1 target failed' >&2; sleep 20 & exit 3";
        let mut seen = Vec::new();
        let began = std::time::Instant::now();
        let mut command = Command::new("sh");
        let (status, closing) = follow(command.args(["-c", script]), |line| {
            seen.push(line.trim().to_owned());
        })
        .unwrap();
        assert!(began.elapsed() < Duration::from_secs(15));
        assert_eq!(status.code(), Some(3));
        assert_eq!(closing, ["test result: bad", "", "error: 1 target failed"]);
        let tests = [
            "Running a",
            "test one ... ok",
            "test result: ok. 1",
            "Running b",
        ];
        assert_eq!(seen[..4], tests);
        assert_eq!(seen.len(), 8);
    }
}
