//! What the agent says about itself: metrics, health, logs.

mod http;
mod logs;
mod metrics;
mod snapshot;

pub use http::{HttpError, Query, Server};
pub use logs::{InvalidFilter, LogFormat, init as init_logs};
pub use metrics::Metrics;
pub use snapshot::{
    BdMetrics, BfdMetrics, HostRouteMetrics, MapMetrics, Origins, PathMetrics, PeerMetrics,
    PortMetrics, Snapshot,
};

#[cfg(test)]
mod tests;
