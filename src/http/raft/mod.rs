//! The requests of a Raft key-value node.
//!
//! | request | answer |
//! |---|---|
//! | `POST /kv` `{"key","value","if_value"?}` | `{"key","value","version"}` |
//! | `GET /kv/KEY` | `{"key","value","version"}`, or 404 |
//! | `DELETE /kv/KEY` | `{"key","deleted"}` |
//! | `GET /kv?prefix=&after=&limit=` | `{"items":[{"key","value","version"}],"more","next"}` |
//! | `/members`, `/leader` | see `members` |
//! | `POST /snapshot` | writes a snapshot into this node's log, and forgets the entries it replaces: `{"snapshotIndex"}` |
//! | `GET /snapshot` | a backup, see [`backup`] |
//! | `GET /watch?prefix=&after=` | changes as they come, see `watch` |
//! | `GET /status`, `GET /debug`, `GET /health`, `GET /readyz`, `GET /metrics` | see `status` |
//! | `GET /livez` | 200 as long as the process answers |
//!
//! `Idempotency-Key: CLIENT:SEQ` names a write, so that it may be sent again, through any node, and is carried out once. A
//! CLIENT that ends in `;since=VERSION` says since which version of the store it has been in use.
//! Conditions of a write are `if_value` in the body, `If-Match: "VERSION"` or `If-None-Match: *`; 412 tells the current
//! value when one fails, or that it is `omitted` for want of `memory`. Errors are `{"error": ...}`: 4xx and 503 say that
//! nothing was done, 504 that nobody knows, and so does 409 of an Idempotency-Key that was forgotten. `?timeout=` says how long to try, `?consistency=stale` reads this node as it is.
//! Pages of other hosts get nothing, see `http::origin`.

mod answers;
pub mod backup;
mod keys;
mod member_rows;
mod members;
mod members_table;
mod node;
mod peers;
mod routes;
mod status;
mod subscribers;
#[cfg(test)]
mod tests;
mod watch;

pub use members_table::Members;
pub use peers::{Dialler, dial};
pub use routes::Api;
pub use status::NodeInfo;
pub use subscribers::Subscribers;
