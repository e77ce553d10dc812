//! Rules as sentences. The paper is Garcia-Molina 1982, cited as in [`super::super`].

use std::time::Duration;

use super::super::{
    Body, Bully, Command, Config, ConfigError, Event, Id, Message, Promise, Reason, RoleName, Rule, Term, Timer,
    invariants,
};
use super::network::Network;
use crate::protocol::{Effect, Effects, Input, Protocol, Time};

const fn at(ms: u64) -> Time {
    Time::after_epoch(Duration::from_millis(ms))
}

/// A node of five or fewer that has listened and hears no leader, at three seconds; what it did until then is forgotten.
fn node(id: u64, of: u64, configure: impl Fn(&mut Config)) -> Bully {
    let mut config = Config::new(Id(id), (1..=of).filter(|peer| *peer != id).map(Id));
    configure(&mut config);
    let mut node = Bully::recover(config, []).unwrap();
    step(&mut node, 0, Input::Started);
    node
}

fn quorum(config: &mut Config) {
    config.quorum = true;
}

fn classic(_: &mut Config) {}

fn step(node: &mut Bully, ms: u64, input: Input<Bully>) -> Vec<Effect<Bully>> {
    let mut out = Effects::new();
    node.step(at(ms), input, &mut out);
    out.drain().collect()
}

fn hear(node: &mut Bully, ms: u64, from: u64, term: u64, body: Body) -> Vec<Effect<Bully>> {
    step(node, ms, Input::Received { from: Id(from), message: Message { term: Term(term), body } })
}

fn silence(node: &mut Bully, ms: u64) -> Vec<Effect<Bully>> {
    step(node, ms, Input::Elapsed(Timer::Silence))
}

const fn coordinator(sent: u64) -> Body {
    Body::Coordinator { sent: at(sent), reason: Reason::Start }
}

/// To whom what was sent, greetings left out.
fn sent(effects: &[Effect<Bully>]) -> Vec<(u64, Body)> {
    let send = |effect: &Effect<Bully>| {
        let Effect::Send { to, message } = effect else { return None };
        (message.body != Body::Alive).then_some((to.0, message.body))
    };
    effects.iter().filter_map(send).collect()
}

fn told(effects: &[Effect<Bully>]) -> Vec<Event> {
    let event = |effect: &Effect<Bully>| {
        let Effect::Emit(event) = effect else { return None };
        (!matches!(event, Event::PeerUp { .. })).then_some(*event)
    };
    effects.iter().filter_map(event).collect()
}

#[test]
fn the_best_node_leads_once_it_has_listened_and_tells_everybody() {
    // Procedures Recovery and Election: nobody is higher, so nobody is asked.
    let mut node = node(3, 3, classic);
    let effects = silence(&mut node, 500);
    let expected = Body::Coordinator { sent: at(500), reason: Reason::Start };
    assert_eq!(sent(&effects), [(1, expected), (2, expected)]);
    let leader = Event::Leader { leader: Id(3), term: Term(1), reason: Reason::Start };
    assert_eq!(told(&effects), [Event::Election { reason: Reason::Start }, leader]);
}

#[test]
fn another_node_asks_the_better_ones_alone_and_leads_when_none_answers_in_time() {
    // Procedure Election, first part; assumption 8: who does not answer within the bound is down.
    let mut node = node(2, 4, classic);
    assert_eq!(sent(&silence(&mut node, 500)), [(3, Body::Election), (4, Body::Election)]);
    assert_eq!(node.role(), RoleName::Candidate);
    silence(&mut node, 2000);
    assert_eq!((node.role(), node.leader()), (RoleName::Leader, Some(Id(2))));
}

#[test]
fn an_answer_ends_a_candidacy_and_a_coordinator_that_does_not_come_begins_another() {
    let mut node = node(1, 3, classic);
    silence(&mut node, 500);
    assert_eq!(told(&hear(&mut node, 510, 2, 0, Body::Answer)), []);
    assert_eq!(node.role(), RoleName::Follower);
    hear(&mut node, 2400, 2, 0, Body::Alive);
    assert_eq!(told(&silence(&mut node, 2500)), [Event::Election { reason: Reason::NoCoordinator }]);
}

#[test]
fn who_is_better_answers_an_election_and_stands_itself() {
    let mut node = node(2, 3, classic);
    hear(&mut node, 400, 3, 1, coordinator(400));
    let effects = hear(&mut node, 600, 1, 0, Body::Election);
    assert_eq!(sent(&effects), [(1, Body::Answer), (3, Body::Election)]);
    assert_eq!(told(&effects), [Event::Election { reason: Reason::WorseIdAsked }]);
}

#[test]
fn the_lowest_leads_by_the_other_rule_and_reasons_are_named_by_it() {
    let network = &mut Network::started(3, 1, |config| config.rule = Rule::Lowest);
    network.run(5000);
    assert_eq!(network.followed(), [Some(1)].into());
    assert_eq!(Reason::BetterIdStarted.name(Rule::Highest), "higher-id-started");
    assert_eq!(Reason::BetterIdStarted.name(Rule::Lowest), "lower-id-started");
    assert!("highest".parse::<Rule>().is_ok() && "lowest".parse::<Rule>().is_ok());
    assert!("oldest".parse::<Rule>().unwrap_err().to_string().contains("highest and lowest"));
}

#[test]
fn a_better_node_that_comes_back_takes_over_and_a_sticky_one_does_not() {
    for (is_quorum, sticky) in [(false, false), (false, true), (true, false), (true, true)] {
        let configure = |config: &mut Config| (config.quorum, config.sticky) = (is_quorum, sticky);
        let network = &mut Network::started(3, 7, configure);
        network.run(6000);
        assert_eq!(network.followed(), [Some(3)].into(), "assertion 2: the best living node leads");
        network.crash(3);
        network.run(6000);
        assert_eq!(network.followed(), [Some(2)].into());
        let before = network.machine(2).unwrap().term();
        network.start(3);
        network.run(8000);
        let leader = if sticky { 2 } else { 3 };
        assert_eq!(network.followed(), [Some(leader)].into(), "quorum {is_quorum}, sticky {sticky}");
        let after = network.machine(leader).unwrap().term();
        assert!(if sticky { after == before } else { after > before }, "{before:?}, {after:?}");
        let took_over = (Id(2), Event::StepDown { term: before, reason: Reason::BetterIdStarted });
        assert_eq!(network.told.contains(&took_over), !sticky);
    }
}

#[test]
fn in_a_cut_network_the_classic_algorithm_has_two_leaders_of_one_term_which_become_one_when_it_heals() {
    for sticky in [false, true] {
        let network = &mut Network::new(4, 5, |config| config.sticky = sticky);
        [(1, 3), (1, 4), (2, 3), (2, 4)].into_iter().for_each(|(a, b)| network.cut(a, b));
        (1..=4).for_each(|id| network.start(id));
        network.run(6000);
        assert_eq!(network.leaders(), [2, 4], "assumption 8 does not hold");
        let nodes = (1..=4).filter_map(|id| network.machine(id));
        assert!(invariants::one_leader_a_term(nodes).is_err());
        network.cuts.clear();
        network.run(3000);
        assert_eq!(network.followed(), [Some(4)].into());
    }
}

#[test]
fn the_bridge_has_two_leaders_without_a_quorum_and_one_with_it() {
    // Elasticsearch's zen: A and B are cut, C sees both, and so both reach two of three.
    for (is_quorum, leaders) in [(false, &[2, 3][..]), (true, &[3])] {
        let network = &mut Network::started(3, 2, |config| config.quorum = is_quorum);
        network.run(5000);
        network.cut(2, 3);
        let before = network.machine(3).unwrap().term();
        network.run(20_000);
        assert_eq!(network.leaders(), leaders);
        assert!(!is_quorum || network.machine(3).unwrap().term() == before, "and it is not disturbed");
    }
}

#[test]
fn a_classic_leader_that_hears_of_a_newer_term_takes_one_beyond_it() {
    let mut node = node(3, 3, classic);
    silence(&mut node, 500);
    let effects = hear(&mut node, 600, 1, 7, Body::Alive);
    assert_eq!(told(&effects), [Event::Leader { leader: Id(3), term: Term(8), reason: Reason::HigherTerm }]);
    hear(&mut node, 700, 2, 8, coordinator(700));
    assert_eq!(node.term(), Term(9), "a worse leader had the same");
}

#[test]
fn a_promise_is_durable_before_anybody_hears_of_it() {
    let mut node = node(2, 3, quorum);
    let effects = hear(&mut node, 600, 3, 1, Body::Claim { sent: at(42) });
    let promise = Promise { term: Term(1), to: Id(3) };
    let persisted = effects.iter().position(|effect| matches!(effect, Effect::Persist(p) if *p == promise));
    let answered = effects.iter().position(
        |effect| matches!(effect, Effect::Send { message, .. } if message.body == Body::Promise { sent: at(42) }),
    );
    assert!(persisted.is_some() && persisted < answered, "{effects:?}");
}

#[test]
fn a_term_is_promised_once_and_to_the_same_node_again() {
    let mut node = node(2, 4, quorum);
    hear(&mut node, 600, 3, 1, Body::Claim { sent: at(1) });
    assert_eq!(sent(&hear(&mut node, 9000, 4, 1, Body::Claim { sent: at(2) })), []);
    assert_eq!(sent(&hear(&mut node, 9001, 3, 1, Body::Claim { sent: at(3) })), [(3, Body::Promise { sent: at(3) })]);
}

#[test]
fn who_hears_a_leader_promises_nobody_else_until_its_silence_is_over() {
    let mut node = node(1, 3, quorum);
    let effects = hear(&mut node, 600, 3, 1, coordinator(590));
    assert_eq!(sent(&effects), [(3, Body::Following { sent: at(590) })]);
    assert_eq!(sent(&hear(&mut node, 2249, 2, 2, Body::Election)), []);
    assert_eq!(sent(&hear(&mut node, 2249, 2, 2, Body::Claim { sent: at(0) })), []);
    assert_eq!(sent(&hear(&mut node, 2250, 2, 2, Body::Election)), [(2, Body::Willing)]);
    assert_eq!(sent(&hear(&mut node, 2250, 2, 2, Body::Claim { sent: at(0) })), [(2, Body::Promise { sent: at(0) })]);
}

#[test]
fn a_node_that_starts_again_remembers_its_promise_and_waits_out_a_silence() {
    let config = Config { quorum: true, ..Config::new(Id(1), [Id(2), Id(3)]) };
    let records = [(1, 2), (4, 3)].map(|(term, to)| Promise { term: Term(term), to: Id(to) });
    let mut node = Bully::recover(config, records).unwrap();
    assert_eq!((node.term(), node.promise()), (Term(4), Some(records[1])));
    step(&mut node, 0, Input::Started);
    assert_eq!(sent(&hear(&mut node, 1649, 2, 5, Body::Claim { sent: at(0) })), [], "somebody may rely on it");
    assert_eq!(sent(&hear(&mut node, 1650, 2, 4, Body::Claim { sent: at(0) })), [], "promised to another");
    assert_eq!(sent(&hear(&mut node, 1650, 2, 5, Body::Claim { sent: at(0) })), [(2, Body::Promise { sent: at(0) })]);
}

#[test]
fn nobody_follows_a_leader_of_an_earlier_term_than_it_has_promised() {
    // Its promise may just be on the way to the next leader.
    let mut node = node(1, 3, quorum);
    hear(&mut node, 600, 2, 5, Body::Claim { sent: at(0) });
    assert_eq!(sent(&hear(&mut node, 700, 3, 4, coordinator(690))), []);
    assert_eq!(node.leader(), None);
}

/// Node 3 of three, leading term 1 since 510 ms; 1 and 2 have promised what was asked at 500 ms.
fn leader() -> Bully {
    let mut node = node(3, 3, quorum);
    silence(&mut node, 500);
    assert_eq!(sent(&hear(&mut node, 500, 1, 0, Body::Willing)).len(), 2, "two of three are willing: it claims");
    assert_eq!(node.role(), RoleName::Candidate, "what it promised itself is no majority");
    hear(&mut node, 510, 1, 1, Body::Promise { sent: at(500) });
    assert_eq!(node.role(), RoleName::Leader);
    node
}

#[test]
fn a_leader_steps_down_a_grace_before_a_time_out_since_it_spoke_to_who_heard_it_last() {
    let mut node = leader();
    assert_eq!(node.leads_until(), Some(at(1500)), "counted from its question, not from the answer");
    let effects = hear(&mut node, 1100, 2, 1, Body::Following { sent: at(1000) });
    let lease = Duration::from_millis(900);
    assert!(matches!(&effects[..], [.., Effect::SetTimer(Timer::Silence, length)] if *length == (lease..=lease)));
    assert_eq!(node.leads_until(), Some(at(2000)));
    hear(&mut node, 1100, 1, 1, Body::Following { sent: at(600) });
    assert_eq!(node.leads_until(), Some(at(2000)), "one of two others is enough");
    let effects = silence(&mut node, 2000);
    assert_eq!(told(&effects), [Event::StepDown { term: Term(1), reason: Reason::LostQuorum }]);
    assert_eq!((node.role(), node.leader()), (RoleName::Leaving, None));
    assert_eq!(sent(&hear(&mut node, 2000, 2, 2, Body::Claim { sent: at(0) })), [], "its command may still run");
}

#[test]
fn promises_that_come_too_late_make_no_leader() {
    let mut node = node(3, 3, quorum);
    silence(&mut node, 500);
    hear(&mut node, 510, 1, 0, Body::Willing);
    hear(&mut node, 1510, 1, 1, Body::Promise { sent: at(510) });
    assert_eq!(node.role(), RoleName::Candidate);
}

#[test]
fn whoever_resigns_lets_the_others_elect_when_its_command_is_over_and_rests_for_a_time_out() {
    let mut node = leader();
    let effects = step(&mut node, 600, Input::Requested(Command::Resign));
    assert_eq!(told(&effects), [Event::StepDown { term: Term(1), reason: Reason::Resigned }]);
    assert_eq!(sent(&effects), []);
    let released = Body::Released { reason: Reason::Resigned };
    let effects = step(&mut node, 700, Input::Requested(Command::Ended));
    assert_eq!(sent(&effects), [(1, released), (2, released)]);
    assert_eq!(sent(&hear(&mut node, 710, 2, 1, Body::Election)), [(2, Body::Willing)], "although it is better");
    assert_eq!(sent(&silence(&mut node, 2100)), []);
    assert_eq!(sent(&silence(&mut node, 2750)), [(1, Body::Election), (2, Body::Election)]);
}

#[test]
fn who_hears_that_its_leader_has_left_stands_at_once() {
    let mut node = node(2, 3, quorum);
    hear(&mut node, 600, 3, 1, coordinator(590));
    hear(&mut node, 700, 1, 1, Body::Released { reason: Reason::Resigned });
    assert_eq!(node.leader(), Some(Id(3)), "another one cannot say so");
    let effects = hear(&mut node, 700, 3, 1, Body::Released { reason: Reason::Resigned });
    assert_eq!(told(&effects), [Event::Election { reason: Reason::Resigned }]);
}

#[test]
fn a_resigned_leader_is_followed_by_the_next_best_and_takes_over_again_unless_sticky() {
    for (is_quorum, sticky) in [(false, false), (false, true), (true, false), (true, true)] {
        let network = &mut Network::started(3, 3, |config| (config.quorum, config.sticky) = (is_quorum, sticky));
        network.run(6000);
        network.ask(3, Command::Resign);
        network.run(1500);
        assert_eq!(network.followed(), [Some(2)].into(), "quorum {is_quorum}, sticky {sticky}");
        network.run(6000);
        assert_eq!(network.followed(), [Some(if sticky { 2 } else { 3 })].into());
        assert_eq!(network.broken.as_ref().filter(|_| is_quorum), None);
    }
}

#[test]
fn a_node_that_was_cut_off_has_raised_no_term_and_does_no_harm_when_it_comes_back() {
    let network = &mut Network::started(3, 4, |config| (config.quorum, config.sticky) = (true, true));
    network.run(6000);
    let leader = network.leaders()[0];
    let lonely = 1 + leader % 3;
    let before = network.machine(leader).unwrap().term();
    (1..=3).filter(|id| *id != lonely).for_each(|id| network.cut(lonely, id));
    network.run(20_000);
    let elections = network.told.iter().filter(|(id, event)| id.0 == lonely && matches!(event, Event::Election { .. }));
    assert!(elections.count() <= 2, "an election that comes to nothing is told once");
    network.cuts.clear();
    network.run(2000);
    assert_eq!(network.followed(), [Some(leader)].into());
    assert_eq!(network.machine(leader).unwrap().term(), before);
}

#[test]
fn a_dead_leader_is_replaced_within_two_time_outs() {
    for seed in 0..20 {
        let network = &mut Network::started(5, seed, quorum);
        network.run(6000);
        network.crash(5);
        network.run(3000);
        assert_eq!(network.followed(), [Some(4)].into(), "seed {seed}");
    }
}

#[test]
fn a_lone_node_leads_without_a_bound_and_again_after_it_has_resigned() {
    let network = &mut Network::started(1, 0, quorum);
    network.run(1000);
    assert_eq!((network.leaders(), network.machine(1).unwrap().leads_until()), (vec![1], None));
    network.ask(1, Command::Resign);
    network.run(1000);
    assert_eq!(network.leaders(), [0; 0]);
    network.run(5000);
    assert_eq!((network.leaders(), network.machine(1).unwrap().term()), (vec![1], Term(2)));
}

#[test]
fn peers_come_and_go() {
    let network = &mut Network::started(3, 1, classic);
    network.run(2000);
    network.crash(1);
    network.run(2500);
    let peers: Vec<_> = network.machine(3).unwrap().peers().collect();
    assert_eq!(peers, [(Id(1), false), (Id(2), true)]);
    network.start(1);
    network.run(100);
    assert!(network.machine(3).unwrap().peers().all(|(_, alive)| alive));
    let of_one: Vec<_> = network.told.iter().filter(|(id, _)| *id == Id(3)).map(|(_, event)| *event).collect();
    let position = |wanted| of_one.iter().rposition(|event| *event == wanted);
    let (down, up) = (position(Event::PeerDown { peer: Id(1) }), position(Event::PeerUp { peer: Id(1) }));
    assert!(down.is_some() && down < up);
}

#[test]
fn strangers_absurd_terms_and_answers_to_what_was_never_said_are_dropped_and_counted() {
    let mut node = leader();
    let before = node.clone();
    let absurd = 2 + (1 << 32);
    let bad = [
        (9, 1, Body::Alive),                       // a stranger
        (3, 1, Body::Alive),                       // itself
        (1, absurd, coordinator(0)),               // a term that nobody can have reached
        (1, 0, coordinator(0)),                    // a leader of no term
        (1, 1, coordinator(0)),                    // a second leader of its own term
        (1, 1, Body::Answer),                      // from who is not better
        (1, 1, Body::Following { sent: at(700) }), // in answer to the future
        (1, 1, Body::Promise { sent: at(700) }),
    ];
    for (from, term, body) in bad {
        assert!(hear(&mut node, 600, from, term, body).is_empty(), "{body:?}");
    }
    assert_eq!(node.counters().bad_messages, bad.len() as u64);
    assert_eq!(node.leads_until(), before.leads_until());
    assert_eq!((node.role(), node.term()), (RoleName::Leader, Term(1)));

    let mut node = self::node(1, 3, classic);
    hear(&mut node, 600, 2, 1, Body::Claim { sent: at(0) });
    assert_eq!(node.counters().bad_messages, 1, "nobody claims a term in the classic mode");
}

#[test]
fn what_comes_again_changes_nothing() {
    let mut node = leader();
    let until = node.leads_until();
    hear(&mut node, 1400, 1, 1, Body::Promise { sent: at(500) });
    hear(&mut node, 1400, 1, 1, Body::Following { sent: at(400) });
    hear(&mut node, 1400, 1, 1, Body::Willing);
    assert_eq!(node.leads_until(), until);
    let mut node = self::node(1, 3, quorum);
    hear(&mut node, 600, 3, 1, Body::Claim { sent: at(0) });
    hear(&mut node, 610, 3, 1, coordinator(610));
    assert_eq!(sent(&hear(&mut node, 620, 3, 1, Body::Claim { sent: at(0) })), []);
    assert_eq!(node.leader(), Some(Id(3)));
}

#[test]
fn times_that_let_two_commands_run_are_refused() {
    let config = Config::new(Id(1), [Id(2)]);
    assert_eq!(config.validate(), Ok(()));
    let refused = |change: fn(&mut Config)| {
        let mut config = config.clone();
        change(&mut config);
        config.validate().unwrap_err()
    };
    assert!(matches!(refused(|c| c.grace = Duration::from_secs(1)), ConfigError::TimeoutTooShort { .. }));
    assert!(matches!(refused(|c| c.grace = Duration::MAX), ConfigError::TimeoutTooShort { .. }));
    assert_eq!(refused(|c| c.heartbeat = Duration::ZERO), ConfigError::NoHeartbeat);
    assert_eq!(refused(|c| c.peers = [Id(1)].into()), ConfigError::OwnPeer(Id(1)));
    let says = refused(|c| c.grace = Duration::from_secs(1)).to_string();
    assert!(says.contains("--timeout") && says.contains("1.5s"), "{says}");
}

#[test]
fn an_id_is_a_number() {
    assert_eq!("3".parse::<Id>().unwrap(), Id(3));
    for text in ["", "n1", "-1", "+1", " 1", "18446744073709551616"] {
        assert!(text.parse::<Id>().unwrap_err().to_string().contains("such as 3"), "{text}");
    }
}
