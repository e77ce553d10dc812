//! Bully's messages and its record as bytes.
//!
//! A message is a tag, the term and the fields of its body, 18 bytes at the most; a record is the term and the id. A time is
//! whole nanoseconds of the clock of whoever will read it again.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::message::{Body, Message, Promise, Reason};
use super::types::{Id, Term};
use crate::protocol::Time;
use crate::wire::{Wire, WireError, at_end};

mod tag {
    //! The first byte of a message.
    pub(super) const ELECTION: u8 = 1;
    pub(super) const ANSWER: u8 = 2;
    pub(super) const WILLING: u8 = 3;
    pub(super) const CLAIM: u8 = 4;
    pub(super) const PROMISE: u8 = 5;
    pub(super) const COORDINATOR: u8 = 6;
    pub(super) const FOLLOWING: u8 = 7;
    pub(super) const ALIVE: u8 = 8;
    pub(super) const RELEASED: u8 = 9;
}

impl Wire for Message {
    fn encode(&self, out: &mut BytesMut) {
        let (tag, sent, reason) = match self.body {
            Body::Election => (tag::ELECTION, None, None),
            Body::Answer => (tag::ANSWER, None, None),
            Body::Willing => (tag::WILLING, None, None),
            Body::Claim { sent } => (tag::CLAIM, Some(sent), None),
            Body::Promise { sent } => (tag::PROMISE, Some(sent), None),
            Body::Coordinator { sent, reason } => (tag::COORDINATOR, Some(sent), Some(reason)),
            Body::Following { sent } => (tag::FOLLOWING, Some(sent), None),
            Body::Alive => (tag::ALIVE, None, None),
            Body::Released { reason } => (tag::RELEASED, None, Some(reason)),
        };
        out.put_u8(tag);
        out.put_u64(self.term.0);
        if let Some(sent) = sent {
            out.put_u64(u64::try_from(sent.since_epoch().as_nanos()).unwrap_or(u64::MAX)); // 584 years
        }
        if let Some(reason) = reason {
            out.put_u8(reason as u8);
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Self, WireError> {
        let from = &mut bytes;
        let tag = from.try_get_u8()?;
        let term = Term(from.try_get_u64()?);
        let body = match tag {
            tag::ELECTION => Body::Election,
            tag::ANSWER => Body::Answer,
            tag::WILLING => Body::Willing,
            tag::CLAIM => Body::Claim { sent: take_time(from)? },
            tag::PROMISE => Body::Promise { sent: take_time(from)? },
            tag::COORDINATOR => Body::Coordinator { sent: take_time(from)?, reason: take_reason(from)? },
            tag::FOLLOWING => Body::Following { sent: take_time(from)? },
            tag::ALIVE => Body::Alive,
            tag::RELEASED => Body::Released { reason: take_reason(from)? },
            value => return Err(WireError::Unknown { what: "message of bully", value }),
        };
        at_end(&bytes)?;
        Ok(Self { term, body })
    }
}

impl Wire for Promise {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.term.0);
        out.put_u64(self.to.0);
    }

    fn decode(mut bytes: Bytes) -> Result<Self, WireError> {
        let promise = Self { term: Term(bytes.try_get_u64()?), to: Id(bytes.try_get_u64()?) };
        at_end(&bytes)?;
        Ok(promise)
    }
}

fn take_time(from: &mut Bytes) -> Result<Time, WireError> {
    Ok(Time::after_epoch(Duration::from_nanos(from.try_get_u64()?)))
}

fn take_reason(from: &mut Bytes) -> Result<Reason, WireError> {
    let value = from.try_get_u8()?;
    Reason::ALL.get(usize::from(value)).copied().ok_or(WireError::Unknown { what: "reason", value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        let time = || any::<u64>().prop_map(|nanos| Time::after_epoch(Duration::from_nanos(nanos)));
        let reason = || proptest::sample::select(&Reason::ALL[..]);
        let body = prop_oneof![
            Just(Body::Election),
            Just(Body::Answer),
            Just(Body::Willing),
            time().prop_map(|sent| Body::Claim { sent }),
            time().prop_map(|sent| Body::Promise { sent }),
            (time(), reason()).prop_map(|(sent, reason)| Body::Coordinator { sent, reason }),
            time().prop_map(|sent| Body::Following { sent }),
            Just(Body::Alive),
            reason().prop_map(|reason| Body::Released { reason }),
        ];
        (any::<u64>(), body).prop_map(|(term, body)| Message { term: Term(term), body })
    }

    fn encoded(wire: &impl Wire) -> Bytes {
        let mut out = BytesMut::new();
        wire.encode(&mut out);
        out.freeze()
    }

    proptest! {
        #[test]
        fn a_message_survives_its_encoding_and_is_small(message in message()) {
            let bytes = encoded(&message);
            prop_assert!(bytes.len() <= 18);
            prop_assert_eq!(Message::decode(bytes), Ok(message));
        }

        #[test]
        fn a_promise_survives_its_encoding(term: u64, to: u64) {
            let promise = Promise { term: Term(term), to: Id(to) };
            prop_assert_eq!(Promise::decode(encoded(&promise)), Ok(promise));
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_are_what_they_say(tag in 0u8..12, rest in proptest::collection::vec(any::<u8>(), 0..20)) {
            let bytes = Bytes::from([vec![tag], rest].concat());
            if let Ok(message) = Message::decode(bytes.clone()) {
                prop_assert_eq!(encoded(&message), bytes.clone());
            }
            if let Ok(promise) = Promise::decode(bytes.clone()) {
                prop_assert_eq!(encoded(&promise), bytes);
            }
        }

        #[test]
        fn a_shortened_message_is_refused(message in message(), cut in any::<prop::sample::Index>()) {
            let whole = encoded(&message);
            prop_assert!(Message::decode(whole.slice(..cut.index(whole.len()))).is_err());
        }
    }

    #[test]
    fn a_reason_is_its_place_in_the_list_of_all() {
        assert!(Reason::ALL.iter().zip(0..).all(|(reason, place)| *reason as u8 == place));
    }
}
