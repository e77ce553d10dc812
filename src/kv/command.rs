//! Commands that change the store, and their form in a log entry.
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | format, [`FORMAT`] |
//! | 1 | 1 set, 2 delete |
//! | 1 | condition: 0 none, 1 absent, 2 value, 3 version |
//! | 4 + n | key, its length first |
//! | 4 + n | value (set only) |
//! | 4 + n, or 8 | the condition's value, or its version |
//!
//! Numbers are big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::defaults::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// The first byte of every encoded command.
pub const FORMAT: u8 = 1;

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sets a key to a value.
    Set {
        /// 1 to [`MAX_KEY_BYTES`] bytes.
        key: Bytes,
        /// At most [`MAX_VALUE_BYTES`] bytes.
        value: Bytes,
        /// Only if this holds.
        condition: Option<Condition>,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
        /// Only if this holds.
        condition: Option<Condition>,
    },
}

/// What must hold for a command to take effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key is not there.
    Absent,
    /// The key has this value.
    Value(Bytes),
    /// The key was last written at this version.
    Version(u64),
}

/// A value and the version at which it was written.
///
/// Versions count the changes of the whole store, from 1: each is used once, so that a key that was deleted and
/// written again never has an old version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Bytes,
    /// Its version.
    pub version: u64,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Set, at this version.
    Set {
        /// The key's version now.
        version: u64,
    },
    /// Deleted, if it was there.
    Deleted {
        /// Whether it was.
        existed: bool,
    },
    /// The condition did not hold; nothing changed.
    ConditionFailed {
        /// What the key holds.
        current: Option<Versioned>,
    },
}

/// Bytes that are no command.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Written by another version of netbelt.
    #[error("a command of format {0}, this netbelt knows format {FORMAT}: run the same version on all nodes")]
    Format(u8),
    /// Ends too early, or too late.
    #[error("a command of the wrong length")]
    Length,
    /// A kind that does not exist.
    #[error("a command of unknown kind {0}")]
    Kind(u8),
    /// A key or value outside its limits.
    #[error("a key of {key} or a value of {value} bytes is outside the limits")]
    Limit {
        /// Length of the key.
        key: usize,
        /// Length of the value.
        value: usize,
    },
}

impl Command {
    /// The key it concerns.
    pub const fn key(&self) -> &Bytes {
        match self {
            Self::Set { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// As bytes for a log entry.
    pub fn encode(&self) -> Bytes {
        let (kind, key, value, condition) = match self {
            Self::Set { key, value, condition } => (1, key, Some(value), condition),
            Self::Delete { key, condition } => (2, key, None, condition),
        };
        let mut out = BytesMut::with_capacity(24 + key.len() + value.map_or(0, Bytes::len));
        out.put_u8(FORMAT);
        out.put_u8(kind);
        out.put_u8(match condition {
            None => 0,
            Some(Condition::Absent) => 1,
            Some(Condition::Value(_)) => 2,
            Some(Condition::Version(_)) => 3,
        });
        put_bytes(&mut out, key);
        if let Some(value) = value {
            put_bytes(&mut out, value);
        }
        match condition {
            None | Some(Condition::Absent) => {}
            Some(Condition::Value(value)) => put_bytes(&mut out, value),
            Some(Condition::Version(version)) => out.put_u64(*version),
        }
        out.freeze()
    }

    /// From the bytes of a log entry, sharing their memory.
    ///
    /// # Errors
    /// When the bytes are no command of this format or are outside the limits.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() < 3 {
            return Err(DecodeError::Length);
        }
        let (format, kind, condition_kind) = (bytes.get_u8(), bytes.get_u8(), bytes.get_u8());
        if format != FORMAT {
            return Err(DecodeError::Format(format));
        }
        let key = take_bytes(&mut bytes)?;
        let value = match kind {
            1 => Some(take_bytes(&mut bytes)?),
            2 => None,
            other => return Err(DecodeError::Kind(other)),
        };
        let condition = match condition_kind {
            0 => None,
            1 => Some(Condition::Absent),
            2 => Some(Condition::Value(take_bytes(&mut bytes)?)),
            3 => Some(Condition::Version(bytes.try_get_u64().map_err(|_| DecodeError::Length)?)),
            other => return Err(DecodeError::Kind(other)),
        };
        if !bytes.is_empty() {
            return Err(DecodeError::Length);
        }
        let value_len = value.as_ref().map_or(0, Bytes::len);
        if key.is_empty() || key.len() > MAX_KEY_BYTES || value_len > MAX_VALUE_BYTES {
            return Err(DecodeError::Limit { key: key.len(), value: value_len });
        }
        Ok(match value {
            Some(value) => Self::Set { key, value, condition },
            None => Self::Delete { key, condition },
        })
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &Bytes) {
    out.put_u32(u32::try_from(bytes.len()).expect("keys and values are far below 4 GiB"));
    out.put_slice(bytes);
}

fn take_bytes(from: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = from.try_get_u32().map_err(|_| DecodeError::Length)? as usize;
    if from.len() < len {
        return Err(DecodeError::Length);
    }
    Ok(from.split_to(len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 1..max).prop_map(Bytes::from)
    }

    fn command() -> impl Strategy<Value = Command> {
        let condition = proptest::option::of(prop_oneof![
            Just(Condition::Absent),
            bytes(20).prop_map(Condition::Value),
            any::<u64>().prop_map(Condition::Version),
        ]);
        (bytes(30), proptest::option::of(bytes(50)), condition).prop_map(|(key, value, condition)| match value {
            Some(value) => Command::Set { key, value, condition },
            None => Command::Delete { key, condition },
        })
    }

    proptest! {
        #[test]
        fn a_command_survives_its_encoding(command in command()) {
            prop_assert_eq!(Command::decode(command.encode()), Ok(command));
        }

        #[test]
        fn a_shortened_or_lengthened_command_is_refused(command in command(), cut in 0usize..200) {
            let bytes = command.encode();
            if cut < bytes.len() {
                prop_assert!(Command::decode(bytes.slice(..cut)).is_err());
            }
            let longer = [&bytes[..], &[0]].concat();
            prop_assert_eq!(Command::decode(longer.into()), Err(DecodeError::Length));
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from(bytes);
            if let Ok(command) = Command::decode(bytes.clone()) {
                prop_assert_eq!(command.encode(), bytes);
            }
        }
    }
}
