//! `raft-ctl set`, `cas`, `get`, `del` and `list`.

use std::io::{IsTerminal, Read};

use hyper::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::cluster::{Ask, Cluster, cell, encoded, expect_done, expect_ok};
use super::name::write;
use crate::cli::escape::{escaped, harmless};
use crate::cli::{Failure, Kind, Output};
use crate::defaults::{LIST_LIMIT, MAX_LIST_LIMIT, MAX_VALUE_BYTES};

/// Bytes of a value that is too large which are read to tell how large it is.
const MAX_COUNTED: u64 = 1 << 30;

/// Sets `key`, on conditions of its present value or version.
pub(super) async fn set(
    cluster: &Cluster,
    key: &str,
    value: String,
    if_value: Option<Value>,
    if_version: Option<u64>,
    output: &Output,
) -> Result<(), Failure> {
    let mut body = json!({ "key": key, "value": from_argument(value)? });
    if let Some(if_value) = if_value {
        body["if_value"] = if_value;
    }
    let item = expect_done(&write(cluster, Ask::set(&body).if_version(if_version)).await?, key)?;
    output.result(&item, || format!("ok, version {}", item["version"]))
}

/// Prints the value of `key`.
pub(super) async fn get(cluster: &Cluster, key: &str, stale: bool, output: &Output) -> Result<(), Failure> {
    let answer = cluster.ask(Ask::get(&format!("/kv/{}", encoded(key)), stale)).await?;
    let item = expect_ok(&answer, key)?;
    let value = item["value"].as_str().unwrap_or_default();
    let to_person = std::io::stdout().is_terminal();
    output.result(&item, || if to_person { harmless(value).into_owned() } else { value.to_owned() })
}

/// Deletes `key`, on the condition that it has that version.
pub(super) async fn delete(
    cluster: &Cluster,
    key: &str,
    if_version: Option<u64>,
    output: &Output,
) -> Result<(), Failure> {
    let path = format!("/kv/{}", encoded(key));
    let ask = Ask::write(Method::DELETE, path, Bytes::new()).if_version(if_version);
    let answer = expect_done(&write(cluster, ask).await?, key)?;
    if answer["deleted"] == json!(true) {
        output.result(&answer, || format!("deleted {}", escaped(key)))
    } else {
        Err(Failure::new(Kind::No, format!("key not found: {}", escaped(key))))
    }
}

/// Prints the pages of a listing as they come.
pub(super) async fn list(
    cluster: &Cluster,
    prefix: &str,
    limit: Option<usize>,
    keys: bool,
    stale: bool,
    output: &Output,
) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut after = None::<String>;
    let page = if limit.is_some() { LIST_LIMIT } else { MAX_LIST_LIMIT };
    while left > 0 {
        let mut path = format!("/kv?prefix={}&limit={}", encoded(prefix), left.min(page));
        if let Some(after) = &after {
            path += &format!("&after={}", encoded(after));
        }
        let answer = expect_ok(&cluster.ask(Ask::get(&path, stale)).await?, prefix)?;
        let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        for item in items {
            let key = item["key"].as_str().unwrap_or_default();
            if keys {
                output.result(&json!({ "key": key, "version": item["version"] }), || escaped(key).into_owned())?;
            } else {
                output.result(item, || format!("{}\t{}", escaped(key), cell(&item["value"])))?;
            }
        }
        left -= items.len().min(left);
        match answer["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    Ok(())
}

/// A value from the command line, or from stdin for `-`.
fn from_argument(value: String) -> Result<String, Failure> {
    if value != "-" {
        return Ok(value);
    }
    let (mut bytes, mut stdin) = (Vec::new(), std::io::stdin());
    let read = stdin.by_ref().take(MAX_VALUE_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format!("cannot read the value from stdin: {error}")))?;
    if bytes.len() > MAX_VALUE_BYTES {
        // How much it is, unless it does not end.
        let rest = std::io::copy(&mut stdin.take(MAX_COUNTED), &mut std::io::sink()).unwrap_or_default();
        let (more, size) = (if rest == MAX_COUNTED { "more than " } else { "" }, bytes.len() as u64 + rest);
        let message = format!("a value has at most {MAX_VALUE_BYTES} bytes (1 MiB), and stdin has {more}{size}");
        return Err(Failure::new(Kind::Peer, message)); // as if the node had been asked
    }
    String::from_utf8(bytes).map_err(|error| {
        Failure::usage(format!("cannot read the value from stdin: {}; values are UTF-8 text", error.utf8_error()))
    })
}
