//! The replicated state as bytes: what goes into a snapshot, to a follower that is too far behind, and into a backup.
//!
//! It is a sequence of records, cut into chunks between them. The same state makes the same chunks. First the header:
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | format, [`FORMAT`]; 1 as long as forgotten names are not kept |
//! | 8 | version of the store |
//! | 1, 8 | 0; or 1 and the cluster's id |
//! | 8 | clock of the sessions |
//! | 4 | how many clients follow |
//! | 8 | how many keys follow |
//! | 1, 8 | from format 2 on: 0; or 1 and the latest version since which a forgotten name had been in use |
//! | 4 | from format 2 on: how many forgotten names follow |
//!
//! then each client, the one that has not been heard for longest first,
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 + n | name, its length first |
//! | 8 | when it was last heard |
//! | 1, 8 | 0; or 1 and the highest sequence that is forgotten |
//! | 1 | how many sequences follow, ascending |
//! | 21 each | sequence; the command's checksum; 1 set, 2 deleted, 3 condition failed; its version, or whether it existed, or 0 |
//!
//! then 8 bytes for each [forgotten name](super::forgotten), ascending within each full generation and the youngest, then each
//! key, ascending,
//!
//! | bytes | meaning |
//! |---|---|
//! | 2 + n | key, its length first |
//! | 8 | its version |
//! | 4 + n | value, its length first |
//!
//! Numbers are big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use thiserror::Error;

use super::command::Versioned;
use super::sessions::{Answered, Client, Remembered, Sessions};
use super::store::Store;
use crate::defaults::{
    FORGOTTEN_GENERATION, FORGOTTEN_GENERATIONS, MAX_CLIENT_BYTES, MAX_CLIENTS, MAX_KEY_BYTES, MAX_VALUE_BYTES,
    SESSION_WINDOW,
};
use crate::wire::take;

/// The first byte of every snapshot, the newest that is known.
pub const FORMAT: u8 = 2;

/// The format without forgotten names.
const WITHOUT_FORGOTTEN: u8 = 1;

/// The youngest generation is sealed when it is full.
const MAX_FORGOTTEN: usize = FORGOTTEN_GENERATION * (FORGOTTEN_GENERATIONS + 1) - 1;

/// What a header takes.
pub(super) const HEADER_BYTES: usize = 1 + 8 + 9 + 8 + 4 + 8;

/// What a client takes at most.
pub(super) const CLIENT_BYTES: usize = 1 + MAX_CLIENT_BYTES + 8 + 9 + 1 + 21 * SESSION_WINDOW;

/// What a key takes beside its name and value.
pub(super) const ITEM_BYTES: usize = 2 + 8 + 4;

/// Chunks that are no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// Written by another version of netbelt.
    #[error(
        "a snapshot of format {0}, this netbelt knows format {FORMAT}: use the netbelt that wrote it, or a newer one"
    )]
    Format(u8),
    /// A chunk ends within a record.
    #[error("a chunk of the snapshot ends too early")]
    Truncated,
    /// More follows than the header says.
    #[error("{0} bytes follow the snapshot's last key")]
    TooLong(usize),
    /// A field that no snapshot has.
    #[error("bad {0} in the snapshot")]
    Bad(&'static str),
    /// The chunks end too early.
    #[error("the snapshot ends after {keys} of {all} keys")]
    Incomplete {
        /// Keys that came.
        keys: u64,
        /// Keys that the header promised.
        all: u64,
    },
}

impl From<TryGetError> for SnapshotError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

/// Reads chunks, an item at a time. It keeps the clients and the forgotten names, and of the items only the last key.
#[derive(Debug, Default)]
pub struct Reader {
    header: Option<Header>,
    pub(super) clients: Vec<(Bytes, Client)>,
    pub(super) forgotten: Vec<u64>,
    keys: u64,
    last_key: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) version: u64,
    pub(super) cluster: Option<u64>,
    pub(super) clock: u64,
    pub(super) clients: usize,
    keys: u64,
    pub(super) forgotten: Option<ForgottenHeader>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ForgottenHeader {
    pub(super) since: Option<u64>,
    names: usize,
}

impl Header {
    fn forgotten_names(&self) -> usize {
        self.forgotten.map_or(0, |forgotten| forgotten.names)
    }
}

impl Reader {
    /// Reads the next chunk, and hands each key in it to `take`.
    ///
    /// # Errors
    /// When the chunk cannot follow what came before. The reader is of no use after that.
    pub fn read(&mut self, mut chunk: Bytes, mut take: impl FnMut(Bytes, Versioned)) -> Result<(), SnapshotError> {
        let header = match self.header {
            Some(header) => header,
            None => *self.header.insert(take_header(&mut chunk)?),
        };
        while !chunk.is_empty() {
            if self.clients.len() < header.clients {
                let client = take_client(&mut chunk, header.clock)?;
                if self.clients.last().is_some_and(|(_, before)| before.heard >= client.1.heard) {
                    return Err(SnapshotError::Bad("order of clients"));
                }
                self.clients.push(client);
            } else if self.forgotten.len() < header.forgotten_names() {
                let fingerprint = chunk.try_get_u64()?;
                let is_first = self.forgotten.len().is_multiple_of(FORGOTTEN_GENERATION);
                if !is_first && self.forgotten.last().is_some_and(|before| *before >= fingerprint) {
                    return Err(SnapshotError::Bad("order of forgotten names"));
                }
                self.forgotten.push(fingerprint);
            } else if self.keys < header.keys {
                let (key, versioned) = take_item(&mut chunk, header.version)?;
                if *key <= *self.last_key {
                    return Err(SnapshotError::Bad("order of keys"));
                }
                self.keys += 1;
                self.last_key.clear();
                self.last_key.extend_from_slice(&key);
                take(key, versioned);
            } else {
                return Err(SnapshotError::TooLong(chunk.len()));
            }
        }
        Ok(())
    }

    /// How many keys there are, once all chunks have been read.
    ///
    /// # Errors
    /// When some have not.
    pub fn finish(&self) -> Result<u64, SnapshotError> {
        self.whole().map(|header| header.keys)
    }

    pub(super) fn whole(&self) -> Result<Header, SnapshotError> {
        let header = self.header.ok_or(SnapshotError::Truncated)?;
        let has_all = self.clients.len() == header.clients && self.forgotten.len() == header.forgotten_names();
        if !has_all || self.keys < header.keys {
            return Err(SnapshotError::Incomplete { keys: self.keys, all: header.keys });
        }
        Ok(header)
    }
}

/// Appends the header of `state`.
pub(super) fn put_header(out: &mut BytesMut, store: &Store, sessions: &Sessions, cluster: Option<u64>) {
    out.put_u8(if sessions.keeps_forgotten() { FORMAT } else { WITHOUT_FORGOTTEN });
    out.put_u64(store.version());
    put_option(out, cluster);
    out.put_u64(sessions.clock());
    out.put_u32(u32::try_from(sessions.len()).expect("there are at most MAX_CLIENTS clients"));
    out.put_u64(store.len() as u64);
    if let Some(forgotten) = sessions.forgotten() {
        put_option(out, forgotten.since());
        out.put_u32(u32::try_from(forgotten.len()).expect("there are at most MAX_FORGOTTEN names"));
    }
}

fn take_header(from: &mut Bytes) -> Result<Header, SnapshotError> {
    let format = from.try_get_u8()?;
    if format != FORMAT && format != WITHOUT_FORGOTTEN {
        return Err(SnapshotError::Format(format));
    }
    let version = from.try_get_u64()?;
    let cluster = take_option(from)?;
    let clock = from.try_get_u64()?;
    let clients = from.try_get_u32()? as usize;
    if clients > MAX_CLIENTS {
        return Err(SnapshotError::Bad("number of clients"));
    }
    let keys = from.try_get_u64()?;
    let forgotten = (format != WITHOUT_FORGOTTEN).then(|| take_forgotten_header(from, version)).transpose()?;
    Ok(Header { version, cluster, clock, clients, keys, forgotten })
}

fn take_forgotten_header(from: &mut Bytes, version: u64) -> Result<ForgottenHeader, SnapshotError> {
    let since = take_option(from)?;
    let names = from.try_get_u32()? as usize;
    if since > Some(version) || names > MAX_FORGOTTEN {
        return Err(SnapshotError::Bad("forgotten names"));
    }
    Ok(ForgottenHeader { since, names })
}

/// Appends a client.
pub(super) fn put_client(out: &mut BytesMut, name: &Bytes, client: &Client) {
    out.put_u8(u8::try_from(name.len()).expect("a client's name has at most 128 bytes"));
    out.put_slice(name);
    out.put_u64(client.heard);
    put_option(out, client.forgotten);
    out.put_u8(u8::try_from(client.outcomes.len()).expect("there are at most SESSION_WINDOW outcomes"));
    for Answered { sequence, checksum, outcome } in &client.outcomes {
        out.put_u64(*sequence);
        out.put_u32(*checksum);
        let (kind, detail) = match *outcome {
            Remembered::Set { version } => (1, version),
            Remembered::Deleted { existed } => (2, u64::from(existed)),
            Remembered::ConditionFailed => (3, 0),
        };
        out.put_u8(kind);
        out.put_u64(detail);
    }
}

fn take_client(from: &mut Bytes, clock: u64) -> Result<(Bytes, Client), SnapshotError> {
    let len = usize::from(from.try_get_u8()?);
    if len == 0 || len > MAX_CLIENT_BYTES {
        return Err(SnapshotError::Bad("length of a client's name"));
    }
    let name = take_copy(from, len)?;
    let heard = from.try_get_u64()?;
    if heard == 0 || heard > clock {
        return Err(SnapshotError::Bad("clock of a client"));
    }
    let forgotten = take_option(from)?;
    let count = usize::from(from.try_get_u8()?);
    if count == 0 || count > SESSION_WINDOW {
        return Err(SnapshotError::Bad("number of outcomes"));
    }
    let mut outcomes = Vec::<Answered>::with_capacity(count);
    for _ in 0..count {
        let (sequence, checksum) = (from.try_get_u64()?, from.try_get_u32()?);
        if outcomes.last().is_some_and(|before| before.sequence >= sequence) || Some(sequence) <= forgotten {
            return Err(SnapshotError::Bad("order of sequences"));
        }
        let outcome = match (from.try_get_u8()?, from.try_get_u64()?) {
            (1, version) => Remembered::Set { version },
            (2, existed @ (0 | 1)) => Remembered::Deleted { existed: existed == 1 },
            (3, 0) => Remembered::ConditionFailed,
            _ => return Err(SnapshotError::Bad("outcome")),
        };
        outcomes.push(Answered { sequence, checksum, outcome });
    }
    Ok((name, Client { heard, forgotten, outcomes }))
}

/// Appends a key with its value.
pub(super) fn put_item(out: &mut BytesMut, key: &[u8], versioned: &Versioned) {
    out.put_u16(u16::try_from(key.len()).expect("keys have at most 1024 bytes"));
    out.put_slice(key);
    out.put_u64(versioned.version);
    out.put_u32(u32::try_from(versioned.value.len()).expect("values are far below 4 GiB"));
    out.put_slice(&versioned.value);
}

fn take_item(from: &mut Bytes, latest: u64) -> Result<(Bytes, Versioned), SnapshotError> {
    let len = usize::from(from.try_get_u16()?);
    if len == 0 || len > MAX_KEY_BYTES {
        return Err(SnapshotError::Bad("length of a key"));
    }
    let key = take_copy(from, len)?;
    let version = from.try_get_u64()?;
    if version == 0 || version > latest {
        return Err(SnapshotError::Bad("version of a key"));
    }
    let len = from.try_get_u32()? as usize;
    if len > MAX_VALUE_BYTES {
        return Err(SnapshotError::Bad("length of a value"));
    }
    Ok((key, Versioned { value: take_copy(from, len)?, version }))
}

fn put_option(out: &mut BytesMut, number: Option<u64>) {
    match number {
        None => out.put_u8(0),
        Some(number) => {
            out.put_u8(1);
            out.put_u64(number);
        }
    }
}

fn take_option(from: &mut Bytes) -> Result<Option<u64>, SnapshotError> {
    match from.try_get_u8()? {
        0 => Ok(None),
        1 => Ok(Some(from.try_get_u64()?)),
        _ => Err(SnapshotError::Bad("truth value")),
    }
}

/// The next bytes, in memory of their own: one key must not keep a whole chunk.
fn take_copy(from: &mut Bytes, len: usize) -> Result<Bytes, TryGetError> {
    Ok(Bytes::copy_from_slice(&take(from, len)?))
}
