//! The HTTP API, row by row, as its page promises it.

mod keys;
mod members;
mod refusals;
mod reports;
mod requests;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::http::{Answer, Http};
use crate::common::{Node, node_in};

const MIB: usize = 1 << 20;

fn alone() -> (Node, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Node::alone(dir.path()), dir)
}

/// A member of two whose other one does not run.
fn without_leader() -> (Node, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--peer", "n2=127.0.0.1:1", "--peers-have-no-data"]);
    (Node::start(command), dir)
}

/// A request with headers on a connection of its own.
fn ask(node: &Node, method: &str, path: &str, headers: &[&str], body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    Http::connect(node.addr).unwrap().ask(method, path, headers, body.as_bytes()).unwrap()
}

fn post(node: &Node, body: &Value) -> Answer {
    ask(node, "POST", "/kv", &[], body)
}
