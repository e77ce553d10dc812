use proptest::prelude::*;

use super::*;
use crate::raft::wire::tests::{body, bytes, encoded};

fn forwarding() -> impl Strategy<Value = Forwarding> {
    prop_oneof![
        Just(Forwarding::NotLeader),
        Just(Forwarding::Overloaded),
        any::<u64>().prop_map(|version| Forwarding::Applied(Outcome::Set { version })),
        any::<bool>().prop_map(|existed| Forwarding::Applied(Outcome::Deleted { existed })),
        any::<u64>().prop_map(|cluster| Forwarding::Applied(Outcome::ClusterInitialized { cluster })),
        Just(Forwarding::Applied(Outcome::FailedEarlier)),
        Just(Forwarding::Applied(Outcome::Forgotten)),
        Just(Forwarding::Applied(Outcome::NameForgotten)),
        Just(Forwarding::Applied(Outcome::NameTaken)),
        Just(Forwarding::Done),
        (0u8..8).prop_map(|byte| Forwarding::Refused(take_refusal(&mut Bytes::from(vec![byte])).unwrap())),
        proptest::option::of((bytes(), any::<u64>())).prop_map(|current| {
            let current = current.map(|(value, version)| Versioned { value, version });
            Forwarding::Applied(Outcome::ConditionFailed { current })
        }),
    ]
}

fn administration() -> impl Strategy<Value = Administration> {
    let node = "[a-z0-9.:-]{1,63}".prop_map(|name| name.parse::<NodeId>().unwrap()).boxed();
    prop_oneof![
        (node.clone(), "[a-z0-9.:]{0,20}").prop_map(|(node, addr)| Administration::Change(Change::Add { node, addr })),
        node.clone().prop_map(|node| Administration::Change(Change::Remove { node })),
        proptest::option::of(node).prop_map(Administration::Transfer),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<(u64, u64)>(), administration()).prop_map(|((id, term), what)| Message::Administer {
            id: RequestId(id),
            term: Term(term),
            what
        }),
        (any::<u64>(), body()).prop_map(|(term, body)| Message::Raft(raft::Message { term: Term(term), body })),
        (any::<(u64, u64)>(), bytes()).prop_map(|((id, term), request)| Message::Forward {
            id: RequestId(id),
            term: Term(term),
            request
        }),
        (any::<(u64, u64)>(), forwarding()).prop_map(|((id, term), result)| Message::Forwarded {
            id: RequestId(id),
            term: Term(term),
            result
        }),
    ]
}

proptest! {
    #[test]
    fn a_message_survives_its_encoding(message in message()) {
        prop_assert_eq!(Message::decode(encoded(&message)), Ok(message));
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_decoded_without_panic(bytes in bytes()) {
        if let Ok(message) = Message::decode(bytes.clone()) {
            prop_assert_eq!(encoded(&message), bytes.clone());
        }
    }

    #[test]
    fn a_shortened_message_is_refused(message in message(), cut in any::<prop::sample::Index>()) {
        let whole = encoded(&message);
        let cut = cut.index(whole.len());
        // A forwarded command is whatever is left, so its end cannot be told.
        if !matches!(message, Message::Forward { .. } | Message::Administer { .. }) {
            prop_assert!(Message::decode(whole.slice(..cut)).is_err());
        }
    }
}
