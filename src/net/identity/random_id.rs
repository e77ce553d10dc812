//! Random numbers that name data directories and clusters, and the addresses of members that may be for one of them only.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A number drawn at random that names a data directory or a cluster; 16 hexadecimal digits as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RandomId(pub u64);

impl fmt::Display for RandomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for RandomId {
    type Err = InvalidRandomId;

    fn from_str(text: &str) -> Result<Self, InvalidRandomId> {
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidRandomId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| InvalidRandomId)
    }
}

impl TryFrom<String> for RandomId {
    type Error = InvalidRandomId;

    fn try_from(text: String) -> Result<Self, InvalidRandomId> {
        text.parse()
    }
}

impl From<RandomId> for String {
    fn from(id: RandomId) -> Self {
        id.to_string()
    }
}

/// Not 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, Error)]
#[error("not 16 hexadecimal digits")]
pub struct InvalidRandomId;

/// What the members' configuration says of one of them: `HOST:PORT`, or `HOST:PORT#INCARNATION`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberAddr {
    /// Where it is; empty when that is not known.
    pub addr: String,
    /// The only one that may take it, if that is known.
    pub incarnation: Option<RandomId>,
}

impl MemberAddr {
    /// Reads it back.
    pub fn of(text: &str) -> Self {
        match text.rsplit_once('#').map(|(addr, id)| (addr, id.parse())) {
            Some((addr, Ok(incarnation))) => Self { addr: addr.to_owned(), incarnation: Some(incarnation) },
            Some((_, Err(InvalidRandomId))) | None => Self { addr: text.to_owned(), incarnation: None },
        }
    }
}

impl fmt::Display for MemberAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            Some(incarnation) => write!(f, "{}#{incarnation}", self.addr),
            None => f.write_str(&self.addr),
        }
    }
}
