//! The control socket: JSON lines, one request and one reply each. `docs/api.md` describes it for
//! orchestrators.

mod access;
mod client;
mod message;
mod request;
mod server;

pub use client::{ClientError, call, listen};
pub use message::{Clearable, Message, RouteFamily, Table};
pub use request::{InvalidRequest, MAX_TRACE_RATE, Request, TraceRequest};
pub use server::{Answer, BindError, Call, Server};

/// Version of the protocol. A change that a client of the version before would misunderstand raises
/// it; new commands, new optional fields and new fields of replies do not.
pub const VERSION: u32 = 1;

/// Longest request, bytes with the newline.
pub const MAX_REQUEST: usize = 64 * 1024;

/// A reply.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Reply {
    ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<Result<serde_json::Value, String>> for Reply {
    fn from(result: Result<serde_json::Value, String>) -> Self {
        match result {
            Ok(data) => Self {
                ok: true,
                data: Some(data),
                error: None,
            },
            Err(error) => Self {
                ok: false,
                data: None,
                error: Some(error),
            },
        }
    }
}

#[cfg(test)]
mod tests;
