//! Rows, citations and results put together.

use std::fmt;

use super::{
    Citations, Results, Table,
    results::TestResult,
    table::{Gap, Priority, Row},
};

/// The result of every row.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    lines: Vec<(&'a Row, Verdict)>,
    /// Ids that tests cite and the table lacks.
    unknown: Vec<String>,
}

/// What the tests of a row say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// All of them passed.
    Pass,
    /// One of them failed.
    Fail,
    /// None of them ran.
    NotRun,
    /// None cites the row.
    NoTest,
}

impl<'a> Report<'a> {
    pub(crate) fn new(table: &'a Table, citations: &Citations, results: &Results) -> Self {
        let verdict = |row: &Row| {
            let mut verdict = Verdict::NoTest;
            for citation in citations.0.iter().filter(|test| test.ids.contains(&row.id)) {
                let is = |result: &&TestResult| citation.is(&result.target, &result.name);
                let ran = match results.tests.iter().find(is) {
                    Some(test) if test.passed => Verdict::Pass,
                    Some(_) => Verdict::Fail,
                    None => Verdict::NotRun,
                };
                verdict = match (verdict, ran) {
                    (Verdict::Fail, _) | (_, Verdict::Fail) => Verdict::Fail,
                    (Verdict::Pass, _) | (_, Verdict::Pass) => Verdict::Pass,
                    _ => Verdict::NotRun,
                };
            }
            verdict
        };
        let cited = citations.0.iter().flat_map(|test| &test.ids);
        let ours = |id: &&String| {
            let prefix = id.split('-').next().unwrap_or_default();
            table.knows(prefix) && table.0.iter().all(|row| row.id != **id)
        };
        Self {
            lines: table.0.iter().map(|row| (row, verdict(row))).collect(),
            unknown: cited.filter(ours).cloned().collect(),
        }
    }

    /// What is wrong with table and tests, after a run of all tests.
    pub(crate) fn problems(&self) -> Vec<String> {
        let row = |(row, verdict): &(&Row, Verdict)| match (&row.gap, verdict) {
            (Gap::NotBuilt(_), Verdict::NoTest | Verdict::NotRun) | (_, Verdict::Pass) => None,
            (_, Verdict::Fail) => Some(format!("{} failed", row.id)),
            _ if row.priority == Priority::P2 => None,
            (_, Verdict::NotRun) => Some(format!("{}: its tests did not run", row.id)),
            (_, Verdict::NoTest) => Some(format!("{}: no test cites it", row.id)),
        };
        let unknown = |id: &String| format!("a test cites {id}, which is no row");
        self.lines
            .iter()
            .filter_map(row)
            .chain(self.unknown.iter().map(unknown))
            .collect()
    }

    fn count(&self, priority: Priority, wanted: impl Fn(&Row, Verdict) -> bool) -> usize {
        let lines = self.lines.iter();
        lines
            .filter(|(row, verdict)| row.priority == priority && wanted(row, *verdict))
            .count()
    }
}

/// A line for each row, and the sums.
impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "conformance (docs/conformance.md):")?;
        for (row, verdict) in &self.lines {
            let result = match (&row.gap, verdict) {
                (Gap::NotBuilt(_), Verdict::NoTest) => "not built",
                (_, Verdict::Pass) => "pass",
                (_, Verdict::Fail) => "FAIL",
                (_, Verdict::NotRun) => "not run",
                (_, Verdict::NoTest) => "NO TEST",
            };
            write!(f, "{} {:?} {result:9} {}", row.id, row.priority, row.title)?;
            match &row.gap {
                Gap::None => writeln!(f)?,
                Gap::Partly(missing) => writeln!(f, " (partly: {missing})")?,
                Gap::NotBuilt(reason) if *verdict == Verdict::NoTest => {
                    writeln!(f, " (not built: {reason})")?;
                }
                Gap::NotBuilt(_) => writeln!(f, " (the table says that it is not built)")?,
            }
        }
        for priority in [Priority::P0, Priority::P1, Priority::P2] {
            let not_built = |row: &Row, _| matches!(row.gap, Gap::NotBuilt(_));
            writeln!(
                f,
                "{priority:?}: {} of {} pass, {} not built",
                self.count(priority, |_, verdict| verdict == Verdict::Pass),
                self.count(priority, |_, _| true),
                self.count(priority, not_built),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::conformance::citations::Citation;

    fn table() -> Table {
        "| GR-001 | P0 | a | | |\n| GR-002 | P1 | b | | |\n| GR-003 | P0 | c | | |\n\
         | GR-004 | P2 | d | | |\n| GR-005 | P1 | e | | not built: no time |\n\
         | GR-006 | P1 | f | | not built: no time |"
            .parse()
            .unwrap()
    }

    fn citations(tests: &[(&str, &[&str])]) -> Citations {
        let citation = |(test, ids): &(&str, &[&str])| Citation {
            file: "a/src/lib.rs".into(),
            test: (*test).to_owned(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        Citations(tests.iter().map(citation).collect())
    }

    fn results(tests: &[(&str, bool)]) -> Results {
        let mut results = Results::default();
        results.tests = tests
            .iter()
            .map(|(name, passed)| TestResult {
                target: Path::new("a/src/lib.rs").to_owned(),
                name: format!("tests::{name}"),
                passed: *passed,
            })
            .collect();
        results
    }

    /// One failure among several tests is a failure; what is built has a test.
    #[test]
    fn what_is_wrong_is_said() {
        let table = table();
        let cites = citations(&[
            ("one", &["GR-001"]),
            ("two", &["GR-001", "GR-002"]),
            ("six", &["GR-006", "GR-007", "DP-001"]),
        ]);
        let results = results(&[("one", true), ("two", false), ("six", true)]);
        let report = Report::new(&table, &cites, &results);
        assert_eq!(
            report.problems(),
            [
                "GR-001 failed",
                "GR-002 failed",
                "GR-003: no test cites it",
                "a test cites GR-007, which is no row",
            ]
        );
        let text = report.to_string();
        assert!(text.contains("GR-003 P0 NO TEST   c\n"), "{text}");
        assert!(text.contains("GR-005 P1 not built e (not built: no time)\n"));
        assert!(text.contains("GR-006 P1 pass      f (the table says that it is not built)\n"));
        assert!(text.ends_with("P2: 0 of 1 pass, 0 not built\n"));
    }

    #[test]
    fn a_passing_test_is_enough() {
        let table: Table = "| GR-001 | P0 | a | | |".parse().unwrap();
        let cites = citations(&[("one", &["GR-001"]), ("other", &["GR-001"])]);
        let report = Report::new(&table, &cites, &results(&[("one", true)]));
        assert_eq!(report.problems(), [""; 0]);
        let report = Report::new(&table, &cites, &results(&[]));
        assert_eq!(report.problems(), ["GR-001: its tests did not run"]);
    }

    /// The real table and the real tests: each row that is built is cited, and nothing else.
    #[test]
    fn every_row_that_is_built_has_a_test() {
        let (table, citations) = (Table::read().unwrap(), Citations::read().unwrap());
        let everything = Results::of(&citations);
        let report = Report::new(&table, &citations, &everything);
        assert_eq!(report.problems(), [""; 0]);
    }
}
