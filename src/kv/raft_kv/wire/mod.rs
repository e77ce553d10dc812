//! The messages between key-value nodes as bytes: Raft's own as Raft writes them, and those of this room.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Administration, Forwarding, Message, RequestId};
use crate::kv::command::{Outcome, Versioned};
use crate::node_id::NodeId;
use crate::raft::wire::{node_id, refusal_byte, take_refusal};
use crate::raft::{self, Change, Term};
use crate::wire::{Wire, WireError, at_end, put_sized, take_bool, take_sized};

/// The number of what these nodes speak. It counts up when what a node says would not be understood, or be misunderstood, by one
/// that runs an earlier netbelt.
pub const PROTOCOL: u32 = 2;

mod tag {
    //! The first byte of a message that is not Raft's.
    pub(super) const FORWARD: u8 = 7;
    pub(super) const FORWARDED: u8 = 8;
    pub(super) const ADMINISTER: u8 = 12;
}

impl Wire for Message {
    fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Raft(message) => message.encode(out),
            Self::Forward { id, term, request } => {
                out.put_u8(tag::FORWARD);
                out.put_u64(id.0);
                out.put_u64(term.0);
                out.put_slice(request);
            }
            Self::Administer { id, term, what } => {
                out.put_u8(tag::ADMINISTER);
                out.put_u64(id.0);
                out.put_u64(term.0);
                encode_administration(what, out);
            }
            Self::Forwarded { id, term, result } => {
                out.put_u8(tag::FORWARDED);
                out.put_u64(id.0);
                out.put_u64(term.0);
                encode_forwarding(result, out);
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Self, WireError> {
        let whole = bytes.clone();
        match bytes.try_get_u8()? {
            tag::FORWARD => {
                let (id, term) = (RequestId(bytes.try_get_u64()?), Term(bytes.try_get_u64()?));
                Ok(Self::Forward { id, term, request: bytes })
            }
            tag::ADMINISTER => {
                let (id, term) = (RequestId(bytes.try_get_u64()?), Term(bytes.try_get_u64()?));
                Ok(Self::Administer { id, term, what: decode_administration(bytes)? })
            }
            tag::FORWARDED => {
                let (id, term) = (RequestId(bytes.try_get_u64()?), Term(bytes.try_get_u64()?));
                let result = decode_forwarding(&mut bytes)?;
                at_end(&bytes)?;
                Ok(Self::Forwarded { id, term, result })
            }
            _ => raft::Message::decode(whole).map(Self::Raft),
        }
    }
}

fn encode_administration(what: &Administration, out: &mut BytesMut) {
    let (kind, node, addr) = match what {
        Administration::Change(Change::Add { node, addr }) => (0, Some(node), addr.as_str()),
        Administration::Change(Change::Remove { node }) => (1, Some(node), ""),
        Administration::Transfer(to) => (2, to.as_ref(), ""),
    };
    out.put_u8(kind);
    put_sized(out, node.map_or("", NodeId::as_str).as_bytes());
    out.put_slice(addr.as_bytes());
}

fn decode_administration(mut bytes: Bytes) -> Result<Administration, WireError> {
    let kind = bytes.try_get_u8()?;
    let name = take_sized(&mut bytes)?;
    let node = || node_id(&name);
    if kind != 0 {
        at_end(&bytes)?;
    }
    Ok(match kind {
        0 => {
            let addr = String::from_utf8(bytes.into()).map_err(|_| WireError::Bad("address"))?;
            Administration::Change(Change::Add { node: node()?, addr })
        }
        1 => Administration::Change(Change::Remove { node: node()? }),
        2 => Administration::Transfer(if name.is_empty() { None } else { Some(node()?) }),
        value => return Err(WireError::Unknown { what: "administration", value }),
    })
}

fn encode_forwarding(result: &Forwarding, out: &mut BytesMut) {
    match result {
        Forwarding::NotLeader => out.put_u8(0),
        Forwarding::Overloaded => out.put_u8(1),
        Forwarding::Applied(Outcome::Set { version }) => {
            out.put_u8(2);
            out.put_u64(*version);
        }
        Forwarding::Applied(Outcome::Deleted { existed }) => {
            out.put_u8(3);
            out.put_u8(u8::from(*existed));
        }
        Forwarding::Applied(Outcome::ConditionFailed { current: None }) => out.put_u8(4),
        Forwarding::Applied(Outcome::ConditionFailed { current: Some(Versioned { value, version }) }) => {
            out.put_u8(5);
            out.put_u64(*version);
            put_sized(out, value);
        }
        Forwarding::Applied(Outcome::FailedEarlier) => out.put_u8(6),
        Forwarding::Applied(Outcome::Forgotten) => out.put_u8(7),
        Forwarding::Applied(Outcome::ClusterInitialized { cluster }) => {
            out.put_u8(8);
            out.put_u64(*cluster);
        }
        Forwarding::Applied(Outcome::NameTaken) => out.put_u8(9),
        Forwarding::Applied(Outcome::NameForgotten) => out.put_u8(12),
        Forwarding::Done => out.put_u8(10),
        Forwarding::Refused(why) => {
            out.put_u8(11);
            out.put_u8(refusal_byte(*why));
        }
    }
}

fn decode_forwarding(from: &mut Bytes) -> Result<Forwarding, WireError> {
    Ok(Forwarding::Applied(match from.try_get_u8()? {
        0 => return Ok(Forwarding::NotLeader),
        1 => return Ok(Forwarding::Overloaded),
        2 => Outcome::Set { version: from.try_get_u64()? },
        3 => Outcome::Deleted { existed: take_bool(from)? },
        4 => Outcome::ConditionFailed { current: None },
        5 => {
            let version = from.try_get_u64()?;
            Outcome::ConditionFailed { current: Some(Versioned { version, value: take_sized(from)? }) }
        }
        6 => Outcome::FailedEarlier,
        7 => Outcome::Forgotten,
        8 => Outcome::ClusterInitialized { cluster: from.try_get_u64()? },
        9 => Outcome::NameTaken,
        10 => return Ok(Forwarding::Done),
        11 => return Ok(Forwarding::Refused(take_refusal(from)?)),
        12 => Outcome::NameForgotten,
        value => return Err(WireError::Unknown { what: "forwarding result", value }),
    }))
}

#[cfg(test)]
mod tests;
