//! The control plane, against FRR. A speaker made for the purpose tells either of a large fabric; what is
//! timed is when the tables that forward are so.

mod changes;
mod look;
mod restart;
mod side;
mod table;
mod traffic;
mod trial;

use anyhow::Result;
use serde_json::Value;

pub(crate) use self::side::Speaker;

/// The rows that compare vtep with FRR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// Large tables, and changes of them.
    Routes = 6,
    /// Processes that are killed and start again.
    Restart = 11,
}

impl Row {
    pub(crate) const ALL: [Self; 2] = [Self::Routes, Self::Restart];

    /// Its number on the command line.
    pub(crate) fn number(self) -> usize {
        self as usize
    }
}

/// Measures both sides in turn; prints the tables and returns them for the file.
///
/// # Errors
///
/// When a side does not get to the end.
pub(crate) fn run(rows: &[Row], quick: bool) -> Result<Value> {
    let mut lines = Vec::new();
    for row in rows {
        match row {
            Row::Routes => {
                lines.extend(table::run(quick)?);
                lines.push(changes::run(quick)?);
            }
            Row::Restart => lines.push(restart::run(quick)?),
        }
    }
    println!("medians; FRR is bgpd + zebra with the kernel's bridge and vxlan devices");
    Ok(lines.into())
}

/// Of the rounds that came to an end.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
    crate::report::quantile(&values, share).unwrap_or(f64::NAN)
}
