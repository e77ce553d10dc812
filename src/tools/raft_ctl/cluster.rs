//! The nodes of a cluster, asked in turn, and what their answers mean to a person.

use std::borrow::Cow;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::escape::escaped;
use crate::cli::{Failure, Kind};
use crate::http::client::{Client, ClientError, Response};
use crate::http::kv::IDEMPOTENCY_KEY;

/// What answers at the addresses of a cluster.
pub(super) const SERVER: &str = "raft-node";

/// Nodes that are all as good as each other.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<String>,
    pub(super) timeout: Duration,
    /// The time-out, where the command line names one.
    pub(super) given_timeout: Option<Duration>,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Bytes,
    /// The name of a write, under which it may be sent again.
    pub(super) name: Option<String>,
    pub(super) if_version: Option<u64>,
}

impl Ask {
    pub(super) fn get(path: &str, stale: bool) -> Self {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = if stale { format!("{path}{separator}consistency=stale") } else { path.to_owned() };
        Self { method: Method::GET, path, body: Bytes::new(), name: None, if_version: None }
    }

    pub(super) fn set(body: &Value) -> Self {
        Self::write(Method::POST, "/kv".to_owned(), Bytes::from(body.to_string()))
    }

    pub(super) fn write(method: Method, path: String, body: Bytes) -> Self {
        Self { method, path, body, name: None, if_version: None }
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let name = self.name.iter().map(|name| (IDEMPOTENCY_KEY, name.clone()));
        name.chain(self.if_version.map(|version| ("if-match", format!("\"{version}\"")))).collect()
    }

    /// Whether it may have done something even if nobody says so.
    fn is_change(&self) -> bool {
        self.method != Method::GET
    }

    pub(super) const fn if_version(mut self, version: Option<u64>) -> Self {
        self.if_version = version;
        self
    }
}

impl Cluster {
    /// The first answer that a node gives. The next node is asked when one cannot be reached or knows no leader, and
    /// when it does not tell what became of a request that has a name, under which it is carried out once.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Response, Failure> {
        let (mut last, mut unknown) = (None, None);
        let end = Instant::now() + self.timeout;
        for (place, node) in self.nodes.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() && (last.is_some() || unknown.is_some()) {
                break;
            }
            // One that is cut off from its cluster uses up its share of the time, and not that of the others.
            let share = left / (self.nodes.len() - place) as u32;
            match self.ask_node(node, &ask, share).await {
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => last = Some(Ok(answer)),
                Ok(answer) if answer.status == StatusCode::GATEWAY_TIMEOUT => unknown = unknown.or(Some(Ok(answer))),
                // A node before this one may have done it.
                Ok(answer) if unknown.is_some() && is_name_refused(&answer) => break,
                Ok(answer) => return Ok(answer),
                Err(error @ ClientError::Connect { .. }) => {
                    tracing::debug!("{error}");
                    last = last.or(Some(Err(error)));
                }
                Err(error @ ClientError::Protocol { .. }) if ask.is_change() => return Err(failure(&error, true)),
                Err(error) if ask.is_change() => unknown = unknown.or(Some(Err(error))),
                Err(error) => last = Some(Err(error)),
            }
        }
        if let Some(unknown) = unknown {
            return unknown.map_err(|error| failure(&error, true));
        }
        last.expect("there is a node to ask").map_err(|error| failure(&error, false))
    }

    pub(super) async fn ask_node(&self, node: &str, ask: &Ask, timeout: Duration) -> Result<Response, ClientError> {
        let mut client = Client::connect(node, SERVER).await?;
        // The node gives up a little earlier than this client, and can then say why.
        let separator = if ask.path.contains('?') { '&' } else { '?' };
        let path = if ["/kv", "/members", "/leader"].iter().any(|path| ask.path.starts_with(path)) {
            format!("{}{separator}timeout={}ms", ask.path, timeout.as_millis().max(1))
        } else {
            ask.path.clone()
        };
        let patience = timeout + Duration::from_millis(500);
        client.ask(ask.method.clone(), &path, ask.body.clone(), &ask.headers(), patience).await
    }
}

/// Whether a node refuses a write because of its name. Under a number that is used for the first time, it was not done.
pub(super) fn is_name_refused(answer: &Response) -> bool {
    matches!(answer.status, StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY)
}

/// The same as [`expect_ok`], of a write: a node that refuses one for want of a leader, or of room, has not begun with it.
pub(super) fn expect_done(answer: &Response, key: &str) -> Result<Value, Failure> {
    expect_ok(answer, key).map_err(|failure| match failure.kind {
        Kind::NoLeader => Failure::new(failure.kind, format!("{failure}; nothing was done")),
        _ => failure,
    })
}

/// The JSON of a good answer; what went wrong, of another.
pub(super) fn expect_ok(answer: &Response, key: &str) -> Result<Value, Failure> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let error = escaped(body["error"].as_str().unwrap_or("an answer without a reason"));
    let shown = escaped(key);
    match answer.status {
        StatusCode::OK => Ok(body),
        StatusCode::NOT_FOUND if error == "key not found" => {
            Err(Failure::new(Kind::No, format!("key not found: {}", escaped(key))))
        }
        StatusCode::PRECONDITION_FAILED => Err(Failure::new(
            Kind::No,
            match (body["value"].as_str(), body["version"].as_u64()) {
                (Some(value), Some(version)) => {
                    format!("condition failed: {shown} is '{}' at version {version}", escaped(value))
                }
                (None, Some(version)) => {
                    format!(
                        "condition failed: {shown} is at version {version}, and the node has no room to tell its value now"
                    )
                }
                _ if body["earlier"] == json!(true) => {
                    format!("condition failed: {shown} was something else when the request first came")
                }
                _ => format!("condition failed: {shown} does not exist"),
            },
        )),
        StatusCode::SERVICE_UNAVAILABLE => {
            Err(Failure::new(Kind::NoLeader, format!("{error} (raft-ctl status shows which nodes are up)")))
        }
        StatusCode::GATEWAY_TIMEOUT => Err(Failure::new(
            Kind::Deadline,
            format!("{error}: the write to {shown} may or may not take effect; read it back"),
        )),
        status => Err(Failure::new(Kind::Peer, format!("refused with {status}: {error}"))),
    }
}

pub(super) fn failure(error: &ClientError, is_change: bool) -> Failure {
    match error {
        ClientError::Connect { .. } => {
            Failure::new(Kind::Unreachable, format!("{error} (is raft-node running there? name others with --nodes)"))
        }
        ClientError::Lost { .. } | ClientError::TimedOut { .. } if is_change => Failure::new(
            Kind::Deadline,
            format!("{error}; the change may or may not take effect: look what came of it"),
        ),
        ClientError::Protocol { .. } if is_change => {
            Failure::new(Kind::Peer, format!("{error}; the change may or may not have taken effect"))
        }
        ClientError::TimedOut { .. } => Failure::new(Kind::Deadline, error.to_string()),
        ClientError::Lost { .. } => Failure::new(Kind::Unreachable, error.to_string()),
        ClientError::Protocol { .. } => Failure::new(Kind::Peer, error.to_string()),
    }
}

/// A text in a table, or a dash.
pub(super) fn cell(value: &Value) -> Cow<'_, str> {
    escaped(value.as_str().unwrap_or("-"))
}

pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
