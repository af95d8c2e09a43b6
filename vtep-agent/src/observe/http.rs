//! Just enough of HTTP/1.1 for a scraper and a health probe: GET, no body, one request per
//! connection.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{metrics::Metrics, snapshot::Snapshot};

/// Connections at a time.
const MAX_CONNECTIONS: usize = 32;

/// Longest request line and headers together, bytes.
const MAX_HEADER: usize = 8 * 1024;

/// For reading the request, for the daemon's answer, and for writing the response.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the server asks the daemon.
#[derive(Debug)]
pub enum Query {
    /// For `/metrics`.
    Snapshot(oneshot::Sender<Snapshot>),
    /// For `/readyz`: why the agent is not ready; empty when it is. For `/healthz`, which is content
    /// with any answer.
    Unready(oneshot::Sender<Vec<String>>),
}

/// The metrics endpoint, bound.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

/// The endpoint cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve metrics on {address}: {cause}; set another vtep.metrics, or \"\" for none")]
pub struct HttpError {
    address: SocketAddr,
    cause: io::Error,
}

struct Response {
    status: &'static str,
    content_type: &'static str,
    body: String,
}

impl Server {
    /// Listens on `address`.
    ///
    /// # Errors
    ///
    /// The address is in use or not ours.
    pub async fn bind(address: SocketAddr) -> Result<Self, HttpError> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|cause| HttpError { address, cause })?;
        Ok(Self { listener })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The socket is gone.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the other end of `queries` is gone.
    pub async fn run(self, metrics: Metrics, queries: mpsc::Sender<Query>) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            // A full house waits in the backlog.
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = queries.closed() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (metrics, queries) = (metrics.clone(), queries.clone());
                    tokio::spawn(async move {
                        if let Err(error) = serve(stream, &metrics, &queries).await {
                            tracing::debug!("metrics connection: {error}");
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!("metrics endpoint: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    metrics: &Metrics,
    queries: &mpsc::Sender<Query>,
) -> io::Result<()> {
    let header = timeout(TIMEOUT, read_header(&mut stream)).await??;
    let (response, with_body) = match header.as_deref().map(request_line) {
        Some(Some((method, path))) => (
            timeout(TIMEOUT, respond(method, path, metrics, queries))
                .await
                .unwrap_or_else(|_| Response::unavailable("the agent does not answer")),
            method != "HEAD",
        ),
        Some(None) => (Response::text("400 Bad Request", "not HTTP/1\n"), true),
        None => {
            let status = "431 Request Header Fields Too Large";
            (Response::text(status, "at most 8 KiB\n"), true)
        }
    };
    let response = response.encode(with_body);
    timeout(TIMEOUT, stream.write_all(response.as_bytes())).await??;
    stream.shutdown().await
}

/// Everything up to the empty line; `None` when that is too much.
async fn read_header(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut header = Vec::with_capacity(1024);
    let mut searched: usize = 0;
    loop {
        if stream.read_buf(&mut header).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let unread = header.get(searched.saturating_sub(3)..).unwrap_or_default();
        if unread.windows(4).any(|window| window == b"\r\n\r\n") {
            return Ok(Some(header));
        }
        searched = header.len();
        if header.len() > MAX_HEADER {
            return Ok(None);
        }
    }
}

/// Method and path, the query cut off.
fn request_line(header: &[u8]) -> Option<(&str, &str)> {
    let end = header.iter().position(|&byte| byte == b'\r')?;
    let mut words = std::str::from_utf8(header.get(..end)?).ok()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !version.starts_with("HTTP/1.") {
        return None;
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    Some((method, path))
}

async fn respond(
    method: &str,
    path: &str,
    metrics: &Metrics,
    queries: &mpsc::Sender<Query>,
) -> Response {
    if !matches!(path, "/metrics" | "/healthz" | "/readyz") {
        return Response::text(
            "404 Not Found",
            "there are /metrics, /healthz and /readyz\n",
        );
    }
    if !matches!(method, "GET" | "HEAD") {
        return Response::text("405 Method Not Allowed", "only GET and HEAD\n");
    }
    if path == "/metrics" {
        return match ask(queries, Query::Snapshot).await {
            Some(snapshot) => match metrics.render(&snapshot) {
                Ok(body) => Response {
                    status: "200 OK",
                    content_type: "text/plain; version=0.0.4; charset=utf-8",
                    body,
                },
                Err(error) => Response::text("500 Internal Server Error", &format!("{error}\n")),
            },
            None => Response::unavailable("the agent is stopping"),
        };
    }
    match ask(queries, Query::Unready).await {
        None => Response::unavailable("the agent is stopping"),
        Some(reasons) if path == "/healthz" || reasons.is_empty() => {
            Response::text("200 OK", "ok\n")
        }
        Some(reasons) => Response::text(
            "503 Service Unavailable",
            &format!("{}\n", reasons.join("\n")),
        ),
    }
}

async fn ask<T>(
    queries: &mpsc::Sender<Query>,
    query: impl FnOnce(oneshot::Sender<T>) -> Query,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    queries.send(query(answer)).await.ok()?;
    answered.await.ok()
}

impl Response {
    fn text(status: &'static str, body: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: body.to_owned(),
        }
    }

    fn unavailable(reason: &str) -> Self {
        Self::text("503 Service Unavailable", &format!("{reason}\n"))
    }

    fn encode(&self, with_body: bool) -> String {
        let Self {
            status,
            content_type,
            body,
        } = self;
        let allow = match status.starts_with("405") {
            true => "Allow: GET, HEAD\r\n",
            false => "",
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}\
             Connection: close\r\n\r\n{}",
            body.len(),
            if with_body { body } else { "" }
        )
    }
}
