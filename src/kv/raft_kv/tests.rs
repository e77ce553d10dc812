use std::time::Duration;

use bytes::Bytes;

use super::forwards::ForwardsSeen;
use super::*;
use crate::defaults::MAX_REQUESTS;
use crate::kv::command::{EncodedRequest, Operation, Outcome, SessionId, SessionRequest};
use crate::kv::state::State;
use crate::protocol::Effect;
use crate::protocol::testing::Did;
use crate::raft::{Ballot, Body, Config, Entry, HardState, Index, Payload, Position, Record, RoleName, Term};

const LIFE: u64 = 77;

/// Node n1 of three, elected by n2 in term 2; term 1 was in an earlier life.
fn leader() -> RaftKv {
    let hard_state = HardState { current_term: Term(1), voted_for: None };
    let config = Config::new(NodeId::numbered(1), LIFE, (1..=3).map(NodeId::numbered));
    let mut node = RaftKv::recover(config, u64::MAX, [Record::HardState(hard_state)]).unwrap();
    step(&mut node, Input::Started);
    step(&mut node, Input::Elapsed(Timer::Raft(raft::Timer::Election)));
    for ballot in [Ballot::PreVote, Ballot::Vote] {
        hear(&mut node, Message::Raft(raft::Message { term: Term(2), body: Body::Vote { ballot, granted: true } }));
    }
    assert_eq!(node.raft().role(), RoleName::Leader);
    node
}

fn step(node: &mut RaftKv, input: Input<RaftKv>) -> Vec<Message> {
    Did::of(node, Time::ZERO, input).sent.into_iter().map(|(_, message)| message).collect()
}

fn hear(node: &mut RaftKv, message: Message) -> Vec<Message> {
    step(node, Input::Received { from: NodeId::numbered(2), message })
}

fn answer(event: Event) -> Option<Result<Answer, RequestError>> {
    if let Event::Answered { answer, .. } = event { Some(answer) } else { None }
}

fn write(session: Option<SessionId>) -> EncodedRequest {
    let operation = Operation::Set { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v"), condition: None };
    SessionRequest { session, operation }.encode()
}

fn forward(id: u64, term: u64) -> Message {
    Message::Forward { id: RequestId(id), term: Term(term), request: write(None).into_bytes() }
}

fn refusal(id: u64, term: u64) -> Vec<Message> {
    vec![Message::Forwarded { id: RequestId(id), term: Term(term), result: Forwarding::NotLeader }]
}

fn entries(node: &mut RaftKv) -> usize {
    step(node, Input::Elapsed(Timer::Raft(raft::Timer::Flush)));
    node.raft().log().len()
}

/// Seed 974 of the simulation: the first copy was taken; the second came after the leader had stepped down, was
/// refused, and the client was told that nothing had been done. The write took effect later.
#[test]
fn a_repeated_forward_is_not_refused_when_the_first_copy_was_taken() {
    let mut node = leader();
    hear(&mut node, forward(7, 2));
    assert_eq!(entries(&mut node), 2, "the leader's own and the forwarded one");
    assert!(hear(&mut node, forward(7, 2)).is_empty());
    assert_eq!(entries(&mut node), 2, "it is not taken twice");
    let vote = Body::Vote { ballot: Ballot::Vote, granted: false };
    hear(&mut node, Message::Raft(raft::Message { term: Term(3), body: vote }));
    assert_eq!(node.raft().role(), RoleName::Follower);
    assert!(hear(&mut node, forward(7, 2)).is_empty(), "nor refused");
    assert_eq!(hear(&mut node, forward(8, 2)), refusal(8, 2), "what never came before is refused for certain");
}

#[test]
fn a_forward_of_an_earlier_life_is_not_refused_because_nobody_knows() {
    let mut node = leader();
    assert!(hear(&mut node, forward(7, 1)).is_empty());
    assert_eq!(hear(&mut node, forward(7, 9)), refusal(7, 9));
}

/// A cluster of one was told that its entry is committed before it was told where it had been put.
#[test]
fn alone_a_node_answers_a_write() {
    let config = Config::new(NodeId::numbered(1), 0, [NodeId::numbered(1)]);
    let mut node = RaftKv::recover(config, u64::MAX, []).unwrap();
    step(&mut node, Input::Started);
    let ask = Ask::Write(write(None));
    step(&mut node, Input::Requested(Command { id: RequestId(1), ask, timeout: Duration::from_secs(5) }));
    let mut effects = Effects::new();
    node.step(Time::ZERO, Input::Elapsed(Timer::Raft(raft::Timer::Flush)), &mut effects);
    let answer = Ok(Answer::Written(Outcome::Set { version: 1 }));
    let answered =
        effects.drain().any(|effect| matches!(effect, Effect::Emit(Event::Answered { answer: a, .. }) if a == answer));
    assert!(answered && node.requests_in_hand() == 0);
}

/// A leader that gets no answer from the others in time is a leader all the same.
#[test]
fn a_read_that_no_majority_confirms_in_time_is_not_told_that_there_is_no_leader() {
    let mut node = leader();
    let ask = Ask::Read(Query::Version);
    step(&mut node, Input::Requested(Command { id: RequestId(1), ask, timeout: Duration::from_millis(1) }));
    let mut effects = Effects::new();
    node.step(Time::after_epoch(Duration::from_millis(1)), Input::Elapsed(Timer::Deadline), &mut effects);
    let answers = effects.drain().filter_map(|effect| {
        if let Effect::EmitAtOnce(Event::Answered { answer, .. }) = effect { Some(answer) } else { None }
    });
    assert_eq!(answers.collect::<Vec<_>>(), [Err(RequestError::TooLate)]);
}

/// A crash after the end of a snapshot, and before the log began with it.
#[test]
fn of_two_whole_snapshots_in_the_log_the_second_is_the_state() {
    let mut node = leader();
    let mut records = vec![Record::HardState(node.raft().hard_state())];
    let mut persist = |node: &mut RaftKv, input| {
        records.extend(Did::of(node, Time::ZERO, input).persisted);
    };
    persist(&mut node, Input::Elapsed(Timer::Raft(raft::Timer::Flush)));
    for id in 0..2 {
        let ask = Ask::Write(write(None));
        persist(&mut node, Input::Requested(Command { id: RequestId(id), ask, timeout: Duration::from_secs(5) }));
        persist(&mut node, Input::Elapsed(Timer::Raft(raft::Timer::Flush)));
        let index = node.raft().log().last().index;
        let body = Body::Appended { round: raft::Round::default(), outcome: raft::AppendOutcome::Matched(index) };
        let message = Message::Raft(raft::Message { term: Term(2), body });
        persist(&mut node, Input::Received { from: NodeId::numbered(2), message });
        let ask = Ask::Snapshot;
        persist(&mut node, Input::Requested(Command { id: RequestId(id + 10), ask, timeout: Duration::from_secs(5) }));
        while node.raft().is_taking_snapshot() {
            persist(&mut node, Input::Elapsed(Timer::Snapshot));
        }
    }
    assert_eq!(node.store().version(), 2);
    let ends = records.iter().filter(|record| matches!(record, Record::SnapshotEnd)).count();
    let recovered = RaftKv::recover(node.raft().config().clone(), u64::MAX, records).unwrap();
    assert_eq!((ends, recovered.store()), (2, node.store()));
    assert_eq!(recovered.raft().snapshot(), node.raft().snapshot());
}

#[test]
fn a_forwarded_command_that_cannot_be_decoded_reaches_no_log() {
    let mut node = leader();
    let rubbish = Message::Forward { id: RequestId(1), term: Term(2), request: Bytes::from_static(b"rubbish") };
    assert!(hear(&mut node, rubbish).is_empty());
    assert_eq!(entries(&mut node), 1);
}

#[test]
fn forwards_that_are_forgotten_count_as_taken() {
    let mut seen = ForwardsSeen::since(Term(0));
    let node = NodeId::numbered(2);
    for id in 0..=MAX_REQUESTS as u64 {
        assert!(!seen.may_have_taken(Term(1), node, RequestId(id + 5)));
        seen.take(Term(1), node, RequestId(id + 5));
    }
    assert!(seen.may_have_taken(Term(1), node, RequestId(5)) && seen.may_have_taken(Term(1), node, RequestId(3)));
    assert!(!seen.may_have_taken(Term(2), node, RequestId(5)), "a new term begins anew");
}

/// Lets n2 acknowledge all that n1 has.
fn acknowledge(node: &mut RaftKv, term: u64) -> Vec<Message> {
    let index = node.raft().log().last().index;
    let body = Body::Appended { round: raft::Round::default(), outcome: raft::AppendOutcome::Matched(index) };
    hear(node, Message::Raft(raft::Message { term: Term(term), body }))
}

#[test]
fn the_first_leader_founds_the_cluster_and_later_ones_leave_its_id_alone() {
    let mut node = leader();
    assert_eq!(node.state().cluster(), None);
    acknowledge(&mut node, 2);
    assert_eq!(entries(&mut node), 2, "its own entry is committed: now the id is proposed");
    acknowledge(&mut node, 2);
    assert_eq!(node.state().cluster(), Some(LIFE));
    acknowledge(&mut node, 2);
    assert_eq!(entries(&mut node), 2);
    let other = SessionRequest::once(Operation::InitCluster { cluster: LIFE + 1, keep_forgotten: false });
    let (outcome, _) = node.state.apply(other);
    assert_eq!(outcome, Outcome::ClusterInitialized { cluster: LIFE });
}

/// A new leader among nodes of an older netbelt, which would end at the command that begins it.
#[test]
fn a_cluster_of_an_older_netbelt_keeps_forgotten_names_once_every_member_knows_how() {
    let mut node = leader();
    node.state.apply(SessionRequest::once(Operation::InitCluster { cluster: 5, keep_forgotten: false }));
    acknowledge(&mut node, 2);
    assert_eq!(entries(&mut node), 1, "n2 and n3 have not said that they know");
    let request =
        SessionRequest::once(Operation::InitCluster { cluster: LIFE, keep_forgotten: true }).encode().into_bytes();
    let ready = |term| Message::Forward { id: RequestId(0), term: Term(term), request: request.clone() };
    let hear = |node: &mut RaftKv, from, message| {
        step(node, Input::Received { from: NodeId::numbered(from), message });
        entries(node)
    };
    assert_eq!(hear(&mut node, 2, ready(1)), 1, "said to an earlier leader");
    assert_eq!(hear(&mut node, 2, ready(2)), 1);
    assert_eq!(hear(&mut node, 3, ready(2)), 2, "now all have");
    assert_eq!(hear(&mut node, 3, ready(2)), 2, "said again");
    acknowledge(&mut node, 2);
    assert!(node.state().sessions().keeps_forgotten());
    assert_eq!(node.state().cluster(), Some(5));
}

/// What a newer netbelt may say with it is its own affair.
#[test]
fn who_is_ready_is_told_by_how_the_request_begins() {
    let mut node = leader();
    node.state.apply(SessionRequest::once(Operation::InitCluster { cluster: 5, keep_forgotten: false }));
    acknowledge(&mut node, 2);
    let whole =
        SessionRequest::once(Operation::InitCluster { cluster: LIFE, keep_forgotten: true }).encode().into_bytes();
    for from in 2..=3 {
        let request = whole.slice(..3);
        let message = Message::Forward { id: RequestId(0), term: Term(2), request };
        step(&mut node, Input::Received { from: NodeId::numbered(from), message });
    }
    assert_eq!(entries(&mut node), 2);
}

#[test]
fn a_follower_in_a_cluster_of_an_older_netbelt_tells_its_leader_that_it_is_ready() {
    for (keep_forgotten, told) in [(false, 1), (true, 0)] {
        let mut node = leader();
        node.state.apply(SessionRequest::once(Operation::InitCluster { cluster: 5, keep_forgotten }));
        let append = raft::Append {
            prev: Position::ORIGIN,
            entries: vec![Entry { position: Position { term: Term(3), index: Index(1) }, payload: Payload::Noop }],
            commit: Index(1),
            round: raft::Round::default(),
        };
        let sent = hear(&mut node, Message::Raft(raft::Message { term: Term(3), body: Body::Append(append) }));
        let is_ready = |message: &&Message| matches!(message, Message::Forward { term: Term(3), request, .. } if SessionRequest::is_to_keep_forgotten(request));
        assert_eq!(sent.iter().filter(is_ready).count(), told, "{sent:?}");
    }
}

fn heartbeat(term: u64) -> Message {
    let append =
        raft::Append { prev: Position::ORIGIN, entries: Vec::new(), commit: Index(0), round: raft::Round::default() };
    Message::Raft(raft::Message { term: Term(term), body: Body::Append(append) })
}

/// A peer that answered something else than it was asked brought down whoever waited.
#[test]
fn an_answer_of_another_kind_than_what_was_forwarded_is_passed_over() {
    let set = Forwarding::Applied(Outcome::Set { version: 1 });
    let deleted = Forwarding::Applied(Outcome::Deleted { existed: true });
    let named = SessionId { client: Bytes::from_static(b"c"), sequence: 1 };
    let asks = [
        (Ask::Write(write(None)), vec![&deleted, &Forwarding::Done], &set),
        (Ask::Write(write(Some(named))), vec![&deleted, &Forwarding::Done], &set),
        (
            Ask::Administer(Administration::Change(raft::Change::Remove { node: NodeId::numbered(3) })),
            vec![&set],
            &Forwarding::Done,
        ),
    ];
    for (ask, others, fitting) in asks {
        let mut node = leader();
        hear(&mut node, heartbeat(3));
        step(&mut node, Input::Requested(Command { id: RequestId(1), ask, timeout: Duration::from_secs(5) }));
        let mut answered = |result: &Forwarding| {
            let message = Message::Forwarded { id: RequestId(1), term: Term(3), result: result.clone() };
            let did = Did::of(&mut node, Time::ZERO, Input::Received { from: NodeId::numbered(2), message });
            did.told.into_iter().find_map(answer)
        };
        for other in others {
            assert_eq!(answered(other), None, "{other:?}");
        }
        assert!(matches!(answered(fitting), Some(Ok(_))), "{fitting:?}");
    }
}

#[test]
fn a_write_whose_leader_is_gone_is_tried_with_the_next_one_if_it_has_a_session() {
    let session = SessionId { client: Bytes::from_static(b"c"), sequence: 1 };
    let expected = [(Some(session), Some(4)), (None, None)];
    for (session, sent_again_in) in expected {
        let mut node = leader();
        hear(&mut node, heartbeat(3));
        assert_eq!(node.raft().leader(), Some(NodeId::numbered(2)));
        let ask = Ask::Write(write(session));
        let sent =
            step(&mut node, Input::Requested(Command { id: RequestId(1), ask, timeout: Duration::from_secs(5) }));
        assert!(matches!(sent[..], [Message::Forward { term: Term(3), .. }]));

        let from = NodeId::numbered(3);
        let heard = Did::of(&mut node, Time::ZERO, Input::Received { from, message: heartbeat(4) });
        let woken = Did::of(&mut node, Time::ZERO, Input::Elapsed(Timer::Deadline));
        let forwarded = heard.sent.iter().chain(&woken.sent).find_map(|(to, message)| match message {
            Message::Forward { term, .. } => Some((*to, *term)),
            Message::Raft(_) | Message::Administer { .. } | Message::Forwarded { .. } => None,
        });
        let answered = heard.told.into_iter().chain(woken.told).find_map(answer);
        assert_eq!(forwarded, sent_again_in.map(|term: u64| (from, Term(term))));
        assert_eq!(answered, sent_again_in.is_none().then_some(Err(RequestError::OutcomeUnknown)));
        if sent_again_in.is_some() {
            let refused = Message::Forwarded { id: RequestId(1), term: Term(4), result: Forwarding::Overloaded };
            let mut effects = Effects::new();
            node.step(Time::ZERO, Input::Received { from, message: refused }, &mut effects);
            let unknown = effects.drain().any(|effect| {
                matches!(effect, Effect::EmitAtOnce(Event::Answered { answer: Err(RequestError::OutcomeUnknown), .. }))
            });
            assert!(unknown, "the second leader did nothing, the first may have");
        }
    }
}

/// A follower that hears the parts of a snapshot, and what it makes durable.
struct Straggler {
    node: RaftKv,
    records: Vec<Record>,
    refused: Vec<String>,
}

impl Straggler {
    fn new() -> Self {
        let config = Config::new(NodeId::numbered(1), LIFE, (1..=3).map(NodeId::numbered));
        let node = RaftKv::recover(config, u64::MAX, []).unwrap();
        Self { node, records: Vec::new(), refused: Vec::new() }
    }

    /// Whether it answered.
    fn install(&mut self, term: u64, number: u64, data: &Bytes, done: bool) -> bool {
        let last = Position { term: Term(1), index: Index(9) };
        let configuration = raft::Configuration::of_voters((1..=3).map(NodeId::numbered));
        let part = raft::InstallSnapshot { last, configuration, number, data: data.clone(), done };
        let message = Message::Raft(raft::Message { term: Term(term), body: Body::InstallSnapshot(part) });
        let did = Did::of(&mut self.node, Time::ZERO, Input::Received { from: NodeId::numbered(2), message });
        self.records.extend(did.persisted);
        let refused = |event| if let Event::SnapshotRefused { why, .. } = event { Some(why.to_string()) } else { None };
        self.refused.extend(did.told.into_iter().filter_map(refused));
        !did.sent.is_empty()
    }

    /// What a restart makes of it.
    fn restarted(&self) -> RaftKv {
        RaftKv::recover(self.node.raft().config().clone(), u64::MAX, self.records.iter().cloned()).unwrap()
    }
}

/// The parts of a state that takes several.
fn parts() -> Vec<Bytes> {
    let mut state = State::default();
    for number in 0..20 {
        let (key, value) = (Bytes::from(format!("k{number:02}")), Bytes::from(vec![b'v'; 40_000]));
        state.apply(SessionRequest::once(Operation::Set { key, value, condition: None }));
    }
    let view = state.open_view();
    let parts: Vec<_> = std::iter::from_fn(|| state.next_chunk(view)).collect();
    assert!(parts.len() >= 3);
    parts
}

/// A part that could not be read ended the node.
#[test]
fn a_damaged_part_of_a_snapshot_is_refused_and_the_node_goes_on_as_it_was() {
    let parts = parts();
    let last = parts.len() as u64 - 1;
    let whole = |straggler: &mut Straggler, term| {
        for (number, part) in (0..).zip(&parts) {
            assert!(straggler.install(term, number, part, number == last));
        }
        assert_eq!((straggler.node.store().len(), straggler.node.raft().last_applied()), (20, Index(9)));
        assert_eq!(straggler.restarted().store().len(), 20);
    };
    let damaged = Bytes::from([&[0xff; 8], &parts[1][8..]].concat());
    let shorter = parts[1].slice(..parts[1].len() - 1);
    let cases =
        [(1, &damaged, false), (1, &shorter, false), (0, &shorter, false), (1, &parts[1], true), (0, &parts[0], true)];
    for (bad_one, bad, done) in cases {
        let mut straggler = Straggler::new();
        (0..bad_one).for_each(|number| assert!(straggler.install(2, number, &parts[number as usize], false)));
        let before = straggler.records.len();
        assert!(!straggler.install(2, bad_one, bad, done), "what is refused is not answered");
        assert_eq!(straggler.refused.len(), 1);
        assert!(!straggler.node.raft().is_taking_snapshot());

        // The leader tries again and again, but nothing more reaches the log, and it is told once.
        assert!(!straggler.install(2, bad_one, bad, done));
        assert!(!straggler.install(2, 0, &parts[0], false));
        let kept = straggler.records[before..].iter().filter(|record| !matches!(record, Record::HardState(_)));
        assert_eq!((kept.count(), straggler.refused.len()), (0, 1));
        let restarted = straggler.restarted();
        assert_eq!((restarted.store().len(), restarted.raft().last_applied()), (0, Index(0)));
        assert_eq!((straggler.node.store().len(), straggler.node.raft().last_applied()), (0, Index(0)));

        whole(&mut straggler, 3); // another leader's
        let mut straggler =
            Straggler { node: restarted, records: straggler.records[..before].to_vec(), refused: Vec::new() };
        whole(&mut straggler, 3);
    }
}
