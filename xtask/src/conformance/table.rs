//! The rows of docs/conformance.md.

use std::{fs, str::FromStr};

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::workspace;

/// Where the rows are, from the root of the tree.
const FILE: &str = "docs/conformance.md";

/// All rows, in the order of the file.
#[derive(Debug)]
pub(crate) struct Table(pub(super) Vec<Row>);

/// Something that must hold.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) priority: Priority,
    pub(super) title: String,
    pub(super) gap: Gap,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    P0,
    P1,
    P2,
}

/// What is missing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    None,
    Partly(String),
    NotBuilt(String),
}

impl Table {
    /// Reads the file.
    pub(crate) fn read() -> Result<Self> {
        let path = workspace()?.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {FILE}"))?;
        text.parse().context(FILE)
    }

    /// Whether ids with this prefix are in the table: those of other lists are not ours to judge.
    pub(super) fn knows(&self, prefix: &str) -> bool {
        self.0
            .iter()
            .any(|row| row.id.split('-').next() == Some(prefix))
    }
}

impl FromStr for Table {
    type Err = anyhow::Error;

    /// Rows are the table lines whose first cell is an id.
    fn from_str(text: &str) -> Result<Self> {
        let mut rows: Vec<Row> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let Some(line) = line
                .strip_prefix('|')
                .and_then(|line| line.strip_suffix('|'))
            else {
                continue;
            };
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let [id, priority, title, _rfc, gap] = cells[..] else {
                bail!("line {}: not five cells", number + 1);
            };
            if id == "id" || id.starts_with("---") {
                continue;
            }
            ensure!(
                rows.iter().all(|row| row.id != id),
                "line {}: {id} again",
                number + 1
            );
            let row = Row {
                id: id.to_owned(),
                priority: priority.parse().with_context(|| id.to_owned())?,
                title: title.to_owned(),
                gap: gap.parse().with_context(|| id.to_owned())?,
            };
            rows.push(row);
        }
        Ok(Self(rows))
    }
}

impl FromStr for Priority {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "P0" => Self::P0,
            "P1" => Self::P1,
            "P2" => Self::P2,
            _ => bail!("no priority: {text}"),
        })
    }
}

impl FromStr for Gap {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.split_once(": ") {
            None if text.is_empty() => Self::None,
            Some(("not built", reason)) => Self::NotBuilt(reason.to_owned()),
            Some(("partly", missing)) => Self::Partly(missing.to_owned()),
            _ => bail!("neither empty nor `not built: …` nor `partly: …`: {text}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_told_from_headings() {
        let table: Table = "text\n| id | priority | a | RFC | gap |\n|---|---|---|---|---|\n\
                            | GR-001 | P0 | stays | 4724 | |\n| GR-010 | P2 | b | | not built: c |\n"
            .parse()
            .unwrap();
        let [first, second] = &table.0[..] else {
            panic!("{table:?}")
        };
        assert_eq!((&first.id[..], &first.gap), ("GR-001", &Gap::None));
        assert_eq!(second.gap, Gap::NotBuilt("c".to_owned()));
        assert!(table.knows("GR") && !table.knows("DP"));
    }

    #[test]
    fn mistakes_are_found() {
        for text in [
            "| GR-001 | P3 | a | b | |",
            "| GR-001 | P0 | a | b | later |",
            "| GR-001 | P0 | a | |",
            "| GR-001 | P0 | a | b | |\n| GR-001 | P0 | a | b | |",
        ] {
            assert!(text.parse::<Table>().is_err(), "{text}");
        }
    }
}
