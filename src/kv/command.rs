//! Requests to change the replicated state, and their form in a log entry.
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | format, [`FORMAT`] |
//! | 1 | length of the session's client, 0 without a session |
//! | n, 8 | the client and the sequence, with a session |
//! | 1 | 1 set, 2 delete, 3 init cluster, 4 init cluster and keep forgotten names |
//!
//! then, of a set or a delete,
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | condition: 0 none, 1 absent, 2 value, 3 version |
//! | 4 + n | key, its length first |
//! | 4 + n | value (set only) |
//! | 4 + n, or 8 | the condition's value, or its version |
//!
//! and of an init cluster the cluster's id, 8 bytes. Numbers are big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use thiserror::Error;

use crate::defaults::{MAX_CLIENT_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::wire::{put_sized, take, take_sized};

/// The first byte of every encoded request.
pub const FORMAT: u8 = 2;

// The kinds of operations in bytes.
const SET: u8 = 1;
const DELETE: u8 = 2;
const INIT_CLUSTER: u8 = 3;
const INIT_CLUSTER_KEEP_FORGOTTEN: u8 = 4;

/// An operation, with the name under which it is carried out at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    /// The name, when it has one: then it may be sent again, through any node.
    pub session: Option<SessionId>,
    /// What is to be done.
    pub operation: Operation,
}

/// Names one request of one client (thesis §6.3). A client gives each request a sequence of its own, higher than those
/// before, and has at most [`SESSION_WINDOW`](crate::defaults::SESSION_WINDOW) of them under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// 1 to [`MAX_CLIENT_BYTES`] bytes that no other client has.
    pub client: Bytes,
    /// The request's number.
    pub sequence: u64,
}

/// A change of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
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
    /// Gives the cluster its id, unless it has one.
    InitCluster {
        /// The id, drawn at random by the first leader.
        cluster: u64,
        /// From now on, the names of clients that are [forgotten](super::forgotten) are kept. A netbelt that does not know
        /// how goes no further.
        keep_forgotten: bool,
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
    /// A request that was sent again: its condition did not hold when it first came, and nothing changed then or now.
    /// What the key held then is not remembered.
    FailedEarlier,
    /// A request whose sequence is at or below one whose outcome is not remembered any more: it may have been carried
    /// out long ago, and is not carried out now.
    Forgotten,
    /// A request of a client that may have been forgotten: the same holds for it.
    NameForgotten,
    /// A request whose name was that of another command before: it is not carried out.
    NameTaken,
    /// The cluster has this id.
    ClusterInitialized {
        /// That of the first [`Operation::InitCluster`].
        cluster: u64,
    },
}

impl Outcome {
    /// Whether it can be that of an operation of this kind.
    const fn is_of(&self, kind: u8) -> bool {
        match self {
            Self::Set { .. } => kind == SET,
            Self::Deleted { .. } => kind == DELETE,
            Self::ClusterInitialized { .. } => matches!(kind, INIT_CLUSTER | INIT_CLUSTER_KEEP_FORGOTTEN),
            Self::ConditionFailed { .. }
            | Self::FailedEarlier
            | Self::Forgotten
            | Self::NameForgotten
            | Self::NameTaken => true,
        }
    }
}

/// Bytes that are no request.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Written by another version of netbelt.
    #[error("a request of format {0}, this netbelt knows format {FORMAT}: run the same version on all nodes")]
    Format(u8),
    /// Ends too early, or too late.
    #[error("a request of the wrong length")]
    Length,
    /// A kind that does not exist.
    #[error("a request of unknown kind {0}")]
    Kind(u8),
    /// A key or value outside its limits.
    #[error("a key of {key} or a value of {value} bytes is outside the limits")]
    Limit {
        /// Length of the key.
        key: usize,
        /// Length of the value.
        value: usize,
    },
    /// A client's name outside its limits.
    #[error("a client's name of {0} bytes is outside the limits")]
    Client(usize),
}

impl From<TryGetError> for DecodeError {
    fn from(_: TryGetError) -> Self {
        Self::Length
    }
}

impl SessionRequest {
    /// An operation without a session.
    pub const fn once(operation: Operation) -> Self {
        Self { session: None, operation }
    }

    /// As bytes for a log entry.
    pub fn encode(&self) -> EncodedRequest {
        let client = self.session.as_ref().map_or(0, |session| session.client.len());
        let mut out = BytesMut::with_capacity(10 + client + self.operation.size());
        out.put_u8(FORMAT);
        out.put_u8(u8::try_from(client).expect("a client's name has at most 128 bytes"));
        if let Some(SessionId { client, sequence }) = &self.session {
            out.put_slice(client);
            out.put_u64(*sequence);
        }
        self.operation.encode(&mut out);
        EncodedRequest(out.freeze())
    }

    /// Whether these bytes begin as an [`Operation::InitCluster`] does that begins to keep forgotten names.
    pub const fn is_to_keep_forgotten(bytes: &[u8]) -> bool {
        matches!(bytes, [FORMAT, 0, INIT_CLUSTER_KEEP_FORGOTTEN, ..])
    }

    /// From the bytes of a log entry, sharing their memory.
    ///
    /// # Errors
    /// When the bytes are no request of this format or are outside the limits.
    pub fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let format = bytes.try_get_u8()?;
        if format != FORMAT {
            return Err(DecodeError::Format(format));
        }
        let session = match usize::from(bytes.try_get_u8()?) {
            0 => None,
            len @ 1..=MAX_CLIENT_BYTES => {
                Some(SessionId { client: take(&mut bytes, len)?, sequence: bytes.try_get_u64()? })
            }
            len => return Err(DecodeError::Client(len)),
        };
        Ok(Self { session, operation: Operation::decode(bytes)? })
    }
}

/// A [`SessionRequest`] as bytes, which can be decoded for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedRequest(Bytes);

impl EncodedRequest {
    /// Whether it has a session.
    pub fn has_session(&self) -> bool {
        self.0[1] > 0
    }

    /// Whether that can have become of it.
    pub fn can_have(&self, outcome: &Outcome) -> bool {
        let (client, sequence) = match usize::from(self.0[1]) {
            0 => (0, 0),
            client => (client, 8),
        };
        outcome.is_of(self.0[2 + client + sequence])
    }

    /// The bytes, for a log entry.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// From anywhere.
impl TryFrom<Bytes> for EncodedRequest {
    type Error = DecodeError;

    fn try_from(bytes: Bytes) -> Result<Self, DecodeError> {
        SessionRequest::decode(bytes.clone()).map(|_| Self(bytes))
    }
}

impl Operation {
    /// The key it concerns.
    pub const fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Set { key, .. } | Self::Delete { key, .. } => Some(key),
            Self::InitCluster { .. } => None,
        }
    }

    /// What stands for its kind in bytes.
    const fn kind(&self) -> u8 {
        match self {
            Self::Set { .. } => SET,
            Self::Delete { .. } => DELETE,
            Self::InitCluster { keep_forgotten: false, .. } => INIT_CLUSTER,
            Self::InitCluster { keep_forgotten: true, .. } => INIT_CLUSTER_KEEP_FORGOTTEN,
        }
    }

    /// Whether that can have become of it.
    pub(super) fn can_have(&self, outcome: &Outcome) -> bool {
        outcome.is_of(self.kind())
    }

    /// Tells it from another command, but for a chance of one in four billion.
    pub(super) fn checksum(&self) -> u32 {
        let mut bytes = BytesMut::with_capacity(self.size());
        self.encode(&mut bytes);
        crc32c::crc32c(&bytes)
    }

    /// About how many bytes it takes.
    fn size(&self) -> usize {
        match self {
            Self::Set { key, value, .. } => 24 + key.len() + value.len(),
            Self::Delete { key, .. } => 24 + key.len(),
            Self::InitCluster { .. } => 9,
        }
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(self.kind());
        let (key, value, condition) = match self {
            Self::Set { key, value, condition } => (key, Some(value), condition),
            Self::Delete { key, condition } => (key, None, condition),
            Self::InitCluster { cluster, .. } => return out.put_u64(*cluster),
        };
        out.put_u8(match condition {
            None => 0,
            Some(Condition::Absent) => 1,
            Some(Condition::Value(_)) => 2,
            Some(Condition::Version(_)) => 3,
        });
        put_sized(out, key);
        if let Some(value) = value {
            put_sized(out, value);
        }
        match condition {
            None | Some(Condition::Absent) => {}
            Some(Condition::Value(value)) => put_sized(out, value),
            Some(Condition::Version(version)) => out.put_u64(*version),
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        let kind = bytes.try_get_u8()?;
        if matches!(kind, INIT_CLUSTER | INIT_CLUSTER_KEEP_FORGOTTEN) {
            let keep_forgotten = kind == INIT_CLUSTER_KEEP_FORGOTTEN;
            let found = Self::InitCluster { cluster: bytes.try_get_u64()?, keep_forgotten };
            return if bytes.is_empty() { Ok(found) } else { Err(DecodeError::Length) };
        }
        let condition_kind = bytes.try_get_u8()?;
        let key = take_sized(&mut bytes)?;
        let value = match kind {
            SET => Some(take_sized(&mut bytes)?),
            DELETE => None,
            other => return Err(DecodeError::Kind(other)),
        };
        let condition = match condition_kind {
            0 => None,
            1 => Some(Condition::Absent),
            2 => Some(Condition::Value(take_sized(&mut bytes)?)),
            3 => Some(Condition::Version(bytes.try_get_u64()?)),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 1..max).prop_map(Bytes::from)
    }

    fn request() -> impl Strategy<Value = SessionRequest> {
        let condition = proptest::option::of(prop_oneof![
            Just(Condition::Absent),
            bytes(20).prop_map(Condition::Value),
            any::<u64>().prop_map(Condition::Version),
        ]);
        let change = (bytes(30), proptest::option::of(bytes(50)), condition);
        let operation = prop_oneof![
            9 => change.prop_map(|(key, value, condition)| match value {
                Some(value) => Operation::Set { key, value, condition },
                None => Operation::Delete { key, condition },
            }),
            1 => any::<(u64, bool)>().prop_map(|(cluster, keep_forgotten)| Operation::InitCluster { cluster, keep_forgotten }),
        ];
        let session = proptest::option::of((bytes(MAX_CLIENT_BYTES + 1), any::<u64>()));
        (session, operation).prop_map(|(session, operation)| SessionRequest {
            session: session.map(|(client, sequence)| SessionId { client, sequence }),
            operation,
        })
    }

    proptest! {
        #[test]
        fn a_request_survives_its_encoding(request in request()) {
            let encoded = request.encode();
            prop_assert_eq!(encoded.has_session(), request.session.is_some());
            prop_assert_eq!(EncodedRequest::try_from(encoded.clone().into_bytes()), Ok(encoded.clone()));
            prop_assert_eq!(SessionRequest::decode(encoded.into_bytes()), Ok(request));
        }

        #[test]
        fn a_shortened_or_lengthened_request_is_refused(request in request(), cut in 0usize..400) {
            let bytes = request.encode().into_bytes();
            if cut < bytes.len() {
                prop_assert!(SessionRequest::decode(bytes.slice(..cut)).is_err());
            }
            let longer = [&bytes[..], &[0]].concat();
            prop_assert_eq!(SessionRequest::decode(longer.into()), Err(DecodeError::Length));
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from([&[FORMAT][..], &bytes].concat());
            if let Ok(request) = SessionRequest::decode(bytes.clone()) {
                prop_assert_eq!(request.encode().into_bytes(), bytes);
            }
        }
    }

    #[test]
    fn a_request_of_another_format_is_refused_naming_both() {
        let error = SessionRequest::decode(Bytes::from_static(&[1, 1, 0])).unwrap_err();
        assert_eq!(error, DecodeError::Format(1));
        assert!(error.to_string().contains("format 1") && error.to_string().contains("format 2"));
    }
}
