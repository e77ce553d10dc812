//! What a request says beside its path: parameters, and JSON in its body.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use hyper::StatusCode;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::reply::Refusal;
use crate::defaults::{MAX_REQUEST_TIMEOUT, MIN_REQUEST_TIMEOUT, REQUEST_TIMEOUT};
use crate::node_id::{InvalidNodeId, NodeId};

/// The parameters behind the `?`, decoded.
pub(super) struct Parameters<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl<'a> Parameters<'a> {
    pub(super) fn parse(query: Option<&'a str>, known: &[&'a str]) -> Result<Self, Refusal> {
        let mut parameters = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(name) = known.iter().find(|known| **known == name) else {
                let message = format!("unknown parameter {name:?}: this request takes {}", known.join(", "));
                return Err(Refusal::new(StatusCode::BAD_REQUEST, &message));
            };
            if parameters.iter().any(|(given, _)| given == name) {
                let message = format!("{name} is given twice: which one counts nobody can tell");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, &message));
            }
            let value = decoded(name, &value.replace('+', " "))?.into_owned();
            parameters.push((*name, Cow::Owned(value)));
        }
        Ok(Self(parameters))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_ref())
    }

    pub(super) fn timeout(&self) -> Result<Duration, Refusal> {
        let Some(text) = self.get("timeout") else { return Ok(REQUEST_TIMEOUT) };
        match humantime::parse_duration(text) {
            Ok(timeout) if (MIN_REQUEST_TIMEOUT..=MAX_REQUEST_TIMEOUT).contains(&timeout) => Ok(timeout),
            Ok(_) | Err(_) => {
                let message = format!(
                    "timeout must be a duration such as 500ms, at least {MIN_REQUEST_TIMEOUT:?} and at most {MAX_REQUEST_TIMEOUT:?}"
                );
                Err(Refusal::new(StatusCode::BAD_REQUEST, &message))
            }
        }
    }
}

/// Text that was percent-encoded to stand in a path or a query; `what` it is.
pub(super) fn decoded<'a>(what: &str, encoded: &'a str) -> Result<Cow<'a, str>, Refusal> {
    let refuse = |why: &str| Refusal::new(StatusCode::BAD_REQUEST, &format!("{what} {why}"));
    let is_byte = |after: &str| after.len() >= 2 && after.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    if let Some((at, _)) = encoded.match_indices('%').find(|(at, _)| !is_byte(&encoded[at + 1..])) {
        let wrong: String = encoded[at..].chars().take(3).collect();
        return Err(refuse(&format!("has {wrong:?}, which encodes no byte: a percent sign itself is %25")));
    }
    percent_decode_str(encoded).decode_utf8().map_err(|_| refuse("is not UTF-8"))
}

/// The name of a node.
pub(super) fn node_id(text: &str) -> Result<NodeId, Refusal> {
    text.parse().map_err(|error: InvalidNodeId| Refusal::new(StatusCode::BAD_REQUEST, &error.to_string()))
}

/// What is said in JSON, in an object.
pub(super) fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    let refuse = |why: &dyn Display| Refusal::new(StatusCode::BAD_REQUEST, &format!("bad JSON: {why}"));
    // An array of the values in their order would do, too, for serde.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(refuse(&"an array, where an object with names is wanted"));
    }
    serde_json::from_slice(body).map_err(|error| refuse(&error))
}
