//! `GET /watch`: changes as they come, as server-sent events (WHATWG HTML, "Server-sent events").
//!
//! ```text
//! GET /watch?prefix=user/&after=41
//!
//! id: 41
//!
//! id: 42
//! event: set
//! data: {"key":"user/7","value":"ada","version":42}
//!
//! id: 44
//! event: delete
//! data: {"key":"user/7","version":44}
//! ```
//!
//! A change is told once it is committed, applied and durable here, in the order of versions, each once. Without `after` and
//! without the header `Last-Event-ID` (which wins), the stream begins after every write that was acknowledged before it
//! was asked for. Versions are the same on all nodes: whoever loses its stream goes on at any node after the last id it
//! has seen; ids without an event move it along while other keys change.
//!
//! A node keeps the latest changes only. Who asks for older ones, or takes so little that it falls behind them, gets
//! `event: gone` with `{"error","oldest"}`, and the end: it reads the keys anew and watches on from there. Behind that comes
//! `id: gone`: a browser's EventSource connects anew whenever a stream ends, with the last id, and to this one the answer is 204,
//! which stops it for good. Who falls behind in the middle of a large event is broken off, and hears of it when it comes again.
//!
//! Telling costs at most an eighth of the node's time (`http::kv::teller`), and a watcher's memory is bounded whatever it does:
//! three pages, and what [`WATCH_SEND_BUFFER`](crate::defaults::WATCH_SEND_BUFFER) lets the kernel keep. Its place is taken until
//! its connection is gone. Who closes the connection, or his half of it, has left, and his place is free at once.

use hyper::body::{Bytes, Incoming};
use hyper::{Request, StatusCode};

use super::node::Node;
use crate::http::events;
use crate::http::reply::{Refusal, Reply};
use crate::http::request::Parameters;
use crate::kv::raft_kv::Query;

/// Answers `GET /watch`.
pub(super) async fn start(node: &Node, request: &Request<Incoming>) -> Result<Reply, Refusal> {
    let parameters = Parameters::parse(request.uri().query(), &["prefix", "after", "timeout"])?;
    let slot = node.watchers.slot()?;
    if events::was_told_gone(request.headers()) {
        return Ok(events::enough());
    }
    let after = match events::resume_after(request.headers(), parameters.get("after"))? {
        Some(version) => version,
        None => node.read(Query::Version, &parameters).await??,
    };
    // A version of the future is of another cluster, or of this one before a restore: to wait for it would hide all until then.
    if after > node.watchers.announced() {
        let latest: u64 = node.read(Query::Version, &parameters).await??;
        if after > latest {
            let message =
                format!("version {after} is still to come, the latest is {latest}: list the keys and watch anew");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, &message));
        }
    }
    let prefix = Bytes::from(parameters.get("prefix").unwrap_or_default().to_owned());
    node.watchers.tell(prefix, after, slot).await
}
