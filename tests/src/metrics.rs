//! What Prometheus would read.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::Namespace;

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// Where agents of a lab serve metrics, each in its own namespace.
    pub const ADDRESS: &'static str = "127.0.0.1:9473";

    /// Scrapes the agent in a namespace.
    ///
    /// # Errors
    ///
    /// When it does not answer with status 200.
    pub fn scrape(ns: &Namespace) -> Result<Self> {
        let (status, text) = Self::get(ns, "/metrics")?;
        ensure!(status == 200, "GET /metrics: status {status}: {text}");
        Ok(Self { text })
    }

    /// Status and body of a GET request to the agent in a namespace.
    ///
    /// # Errors
    ///
    /// When it does not answer in HTTP.
    pub fn get(ns: &Namespace, path: &str) -> Result<(u16, String)> {
        let response = ns.enter(|| {
            let mut stream = TcpStream::connect(Self::ADDRESS)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
            )?;
            let mut response = String::new();
            stream.read_to_string(&mut response)?;
            Ok(response)
        })?;
        let (head, body) = response
            .split_once("\r\n\r\n")
            .context("no end of the header")?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Ok((
            status.with_context(|| format!("no status in {head}"))?,
            body.to_owned(),
        ))
    }

    /// The sum of all series of a metric that have all the given labels (`bd="blue"`).
    ///
    /// # Errors
    ///
    /// When there is no such series.
    pub fn value(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let values: Vec<f64> = self.series(name, labels).filter_map(value_of).collect();
        ensure!(
            !values.is_empty(),
            "no series {name} with {labels:?} in:\n{}",
            self.text
        );
        Ok(values.iter().sum())
    }

    /// Whether there is any series of a metric.
    pub fn has(&self, name: &str) -> bool {
        self.series(name, &[]).next().is_some()
    }

    /// The exposition as it came.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn series(&self, name: &str, labels: &[&str]) -> impl Iterator<Item = &str> {
        self.text.lines().filter(move |line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        })
    }
}

fn value_of(line: &str) -> Option<f64> {
    line.rsplit(' ').next()?.parse().ok()
}
