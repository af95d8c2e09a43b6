//! The result of every row of docs/conformance.md, from the tests that cite its id.

mod citations;
mod report;
mod results;
mod table;

pub(crate) use citations::Citations;
pub(crate) use report::Report;
pub(crate) use results::{Executables, Results};
pub(crate) use table::Table;
