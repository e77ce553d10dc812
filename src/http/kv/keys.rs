//! Keys and values in requests, the conditions and names of writes.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, IF_MATCH, IF_NONE_MATCH};
use serde::Deserialize;

use crate::defaults::{LIST_LIMIT, MAX_CLIENT_BYTES, MAX_KEY_BYTES, MAX_LIST_LIMIT, MAX_VALUE_BYTES};
use crate::http::reply::Refusal;
use crate::http::request::{Parameters, decoded, from_json};
use crate::kv::command::{Condition, SessionId};

/// The header that names a write, so that it may be sent again.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The key, the value and the condition of a write in a body; the headers may state the condition, too.
pub(in crate::http) fn set_in(
    body: &[u8],
    in_headers: Option<Condition>,
) -> Result<(Bytes, Bytes, Option<Condition>), Refusal> {
    let SetBody { key, value, if_value } = from_json(body)?;
    let key = checked_key(&key)?;
    let value = checked_value(&value)?;
    let condition = match (in_headers, if_value) {
        (condition, None) => condition,
        (None, Some(None)) => Some(Condition::Absent),
        (None, Some(Some(expected))) => Some(Condition::Value(checked_value(&expected)?)),
        (Some(_), Some(_)) => return Err(two_conditions()),
    };
    Ok((key, value, condition))
}

fn two_conditions() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "give one condition: if_value, If-Match or If-None-Match")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    /// Absent: no condition. Null: the key must be absent.
    #[serde(borrow, default, deserialize_with = "present")]
    if_value: Option<Option<Cow<'a, str>>>,
}

/// Tells a null from a field that is not there.
fn present<'de: 'a, 'a, D>(deserializer: D) -> Result<Option<Option<Cow<'a, str>>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Deserialize::deserialize(deserializer).map(Some)
}

/// How many keys a listing has at most.
pub(in crate::http) fn limit_of(parameters: &Parameters<'_>) -> Result<usize, Refusal> {
    match parameters.get("limit").map(str::parse::<usize>) {
        None => Ok(LIST_LIMIT),
        Some(Ok(limit @ 1..=MAX_LIST_LIMIT)) => Ok(limit),
        Some(_) => {
            let message = format!("limit must be a number from 1 to {MAX_LIST_LIMIT}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, &message))
        }
    }
}

fn checked_key(key: &str) -> Result<Bytes, Refusal> {
    match key.len() {
        1..=MAX_KEY_BYTES => Ok(Bytes::from(key.to_owned())),
        len => {
            let message = format!("a key has 1 to {MAX_KEY_BYTES} bytes, this one has {len}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, &message))
        }
    }
}

fn checked_value(value: &str) -> Result<Bytes, Refusal> {
    if value.len() > MAX_VALUE_BYTES {
        let message = format!("a value has at most {MAX_VALUE_BYTES} bytes, this one has {}", value.len());
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, &message));
    }
    Ok(Bytes::from(value.to_owned()))
}

pub(in crate::http) fn key_in_path(encoded: &str) -> Result<Bytes, Refusal> {
    checked_key(&decoded("the key", encoded)?)
}

/// The condition that headers state (RFC 9110 §13.1). Versions are strong entity tags.
pub(in crate::http) fn condition_of(headers: &HeaderMap) -> Result<Option<Condition>, Refusal> {
    let refuse = |message| Err(Refusal::new(StatusCode::BAD_REQUEST, message));
    let all = |name| headers.get_all(name).iter().map(move |value| (name, value));
    let mut conditions = all(&IF_MATCH).chain(all(&IF_NONE_MATCH));
    let (first, second) = (conditions.next(), conditions.next());
    match first {
        _ if second.is_some() => Err(two_conditions()),
        None => Ok(None),
        Some((name, value)) if *name == IF_NONE_MATCH => {
            if value == "*" {
                Ok(Some(Condition::Absent))
            } else {
                refuse("If-None-Match takes only *")
            }
        }
        Some((_, value)) => {
            let version = value.to_str().ok().and_then(|text| text.trim().trim_matches('"').parse().ok());
            match version {
                Some(version) => Ok(Some(Condition::Version(version))),
                None => refuse("If-Match takes one version, such as \"7\""),
            }
        }
    }
}

/// The name that the header `Idempotency-Key: CLIENT:SEQ` gives a request.
pub(in crate::http) fn session_of(headers: &HeaderMap) -> Result<Option<SessionId>, Refusal> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let value = if values.next().is_none() { value.to_str() } else { Ok("") }; // two names are none
    let parts = value.ok().and_then(|text| text.trim().rsplit_once(':'));
    match parts.map(|(client, sequence)| (client, sequence.parse())) {
        Some((client, Ok(sequence))) if (1..=MAX_CLIENT_BYTES).contains(&client.len()) => {
            Ok(Some(SessionId { client: Bytes::from(client.to_owned()), sequence }))
        }
        Some(_) | None => {
            let message = format!(
                "Idempotency-Key takes CLIENT:SEQ, such as shop-17:4: a name of 1 to {MAX_CLIENT_BYTES} bytes that no other \
                 client has, and a number that rises with each of its requests"
            );
            Err(Refusal::new(StatusCode::BAD_REQUEST, &message))
        }
    }
}
