//! `vtep-agent doctor`: what is wrong with this host and its agent, and what to do about it.
//!
//! [`Facts`] are gathered first, then judged: [`host`] knows the machine, [`nics`] its devices,
//! [`agent`] what the agent says of itself, [`sessions`] its
//! BGP peers. The agent need not run.

mod agent;
mod clock;
mod facts;
mod host;
mod nics;
mod sessions;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub use facts::{AgentFacts, Facts, HostFacts};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Traffic does not flow as configured.
    Error,
    /// It flows, and something threatens it or costs speed.
    Warning,
    /// Worth knowing.
    Note,
}

/// Something that `doctor` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which check: a stable name in lower case with underscores.
    pub check: &'static str,
    /// What it is about: a device, a peer, a map; `null` for the host.
    pub subject: Option<String>,
    /// What is the matter.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// Judges the facts; the worst findings come first.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = host::examine(&facts.host);
    findings.extend(nics::examine(facts));
    match &facts.agent {
        Ok(agent) => findings.extend(agent::examine(agent)),
        Err(error) => findings.push(Finding::error(
            "agent",
            None,
            format!("the agent does not answer: {error}"),
            "start it (systemctl start vtep-agent), or name its socket with --socket",
        )),
    }
    findings.sort_by_key(|finding| finding.severity);
    findings
}

impl Finding {
    fn new(
        severity: Severity,
        check: &'static str,
        subject: Option<&str>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            check,
            subject: subject.map(str::to_owned),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    fn error(
        check: &'static str,
        subject: Option<&str>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Error, check, subject, problem, remedy)
    }

    fn warning(
        check: &'static str,
        subject: Option<&str>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Warning, check, subject, problem, remedy)
    }

    fn note(
        check: &'static str,
        subject: Option<&str>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Note, check, subject, problem, remedy)
    }
}

/// Two lines: what is the matter, and what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        write!(f, "{severity}: ")?;
        if let Some(subject) = &self.subject {
            write!(f, "{subject}: ")?;
        }
        write!(f, "{}\n  -> {}", self.problem, self.remedy)
    }
}
