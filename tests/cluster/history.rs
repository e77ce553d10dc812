//! What several clients saw while leaders were killed and paused, and whether one order of events explains all of it.

#![expect(clippy::disallowed_methods, reason = "a history needs the time of each call and return")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use netbelt::sim::history::{Operation, Span, Verdict, check};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::json;

use crate::common::cluster::{Client, Cluster};
use crate::common::eventually;
use crate::common::http::{Answer, value_in};

const KEYS: usize = 4;
const THREADS: usize = 4;

/// A register that holds a text or nothing.
type Register = Option<String>;

/// An operation on it, with what the client was told.
#[derive(Clone, Debug)]
enum Op {
    Read(Register),
    Set(String),
    Delete {
        existed: Option<bool>,
    },
    /// With the value found when it failed.
    Cas {
        old: String,
        new: String,
        outcome: Option<Result<(), Register>>,
    },
}

impl Operation<Register> for Op {
    fn apply(&self, state: &Register) -> Option<Register> {
        match self {
            Self::Read(seen) => (seen == state).then(|| state.clone()),
            Self::Set(value) => Some(Some(value.clone())),
            Self::Delete { existed } => existed.is_none_or(|existed| existed == state.is_some()).then_some(None),
            Self::Cas { old, new, outcome } => {
                let holds = state.as_ref() == Some(old);
                match outcome {
                    Some(Ok(())) => holds.then(|| Some(new.clone())),
                    Some(Err(found)) => (!holds && found == state).then(|| state.clone()),
                    None => Some(if holds { Some(new.clone()) } else { state.clone() }),
                }
            }
        }
    }
}

/// Draws an operation, carries it out and tells what became of it: nothing when it certainly did not take place.
fn act(client: &mut Client, rng: &mut ChaCha8Rng, key: usize, fresh: &str, last: &mut Register) -> Option<(Op, bool)> {
    let path = format!("/kv/register-{key}?timeout=1s");
    let draw = rng.next_u32() % 10;
    let (op, answer) = match (draw, &*last) {
        (0..4, _) => (Op::Read(None), client.ask("GET", &path, &[], "")),
        (4, _) => (Op::Delete { existed: None }, client.ask("DELETE", &path, &[], "")),
        (5..7, Some(old)) => {
            let body = json!({ "key": format!("register-{key}"), "value": fresh, "if_value": old });
            let op = Op::Cas { old: old.clone(), new: fresh.to_owned(), outcome: None };
            (op, client.ask("POST", "/kv?timeout=1s", &[], &body.to_string()))
        }
        _ => {
            let body = json!({ "key": format!("register-{key}"), "value": fresh });
            (Op::Set(fresh.to_owned()), client.ask("POST", "/kv?timeout=1s", &[], &body.to_string()))
        }
    };
    let Ok(Answer { status, .. }) = &answer else {
        return (!matches!(op, Op::Read(_))).then_some((op, false));
    };
    let (status, answer) = (*status, answer.as_ref().expect("it is one"));
    match (op, status) {
        (_, 503) => None,
        (Op::Read(_), 504) => panic!("a read has no unknown outcome: {answer:?}"),
        (op, 504) => Some((op, false)),
        (Op::Read(_), _) => {
            *last = value_in(answer);
            Some((Op::Read(last.clone()), true))
        }
        (Op::Set(value), 200) => {
            *last = Some(value.clone());
            Some((Op::Set(value), true))
        }
        (Op::Delete { .. }, 200) => Some((Op::Delete { existed: answer.json()["deleted"].as_bool() }, true)),
        (Op::Cas { old, new, .. }, 200) => Some((Op::Cas { old, new, outcome: Some(Ok(())) }, true)),
        (Op::Cas { old, new, .. }, 412) => {
            let found = answer.json()["value"].as_str().map(str::to_owned);
            Some((Op::Cas { old, new, outcome: Some(Err(found)) }, true))
        }
        (op, _) => panic!("{op:?}: {answer:?}"),
    }
}

#[test]
fn what_clients_see_during_kills_and_pauses_is_linearizable() {
    const SEED: u64 = 20_260_103;
    let mut cluster = Cluster::with_election_timeout("200ms..400ms");
    let (addrs, stop, count, epoch) = (cluster.addrs(), AtomicBool::new(false), AtomicUsize::new(0), Instant::now());
    let mut histories: Vec<Vec<Span<Op>>> = vec![Vec::new(); KEYS];
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (mut client, stop, count) = (Client::new(addrs.clone(), thread), &stop, &count);
                scope.spawn(move || {
                    let mut rng = ChaCha8Rng::seed_from_u64(SEED + thread as u64);
                    let mut spans = Vec::new();
                    let mut last = vec![None; KEYS];
                    for number in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let key = rng.next_u32() as usize % KEYS;
                        let called = epoch.elapsed().as_nanos() as u64;
                        let acted = act(&mut client, &mut rng, key, &format!("{thread}.{number}"), &mut last[key]);
                        let returned = epoch.elapsed().as_nanos() as u64;
                        if let Some((operation, is_known)) = acted {
                            spans.push((key, Span { called, returned: is_known.then_some(returned), operation }));
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    spans
                })
            })
            .collect();
        let some_more = |operations: usize| {
            let goal = count.load(Ordering::Relaxed) + operations;
            eventually("operations", || match count.load(Ordering::Relaxed) {
                now if now >= goal => Ok(()),
                now => Err(format!("{now} of {goal}")),
            });
        };
        for _ in 0..3 {
            some_more(300);
            let leader = cluster.leader();
            cluster.kill(leader);
            some_more(200);
            cluster.restart(leader);
            some_more(200);
            let leader = cluster.leader();
            cluster.node(leader).process.signal("STOP");
            cluster.leader_among(&[(leader + 1) % 3, (leader + 2) % 3]);
            some_more(100);
            cluster.node(leader).process.signal("CONT");
        }
        some_more(200);
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            for (key, span) in thread.join().expect("clients do not panic") {
                histories[key].push(span);
            }
        }
    });
    for (key, history) in histories.iter().enumerate() {
        let unknown = history.iter().filter(|span| span.returned.is_none()).count();
        eprintln!("register {key}: {} operations, {unknown} of unknown outcome", history.len());
        let verdict = check(history, None, 5_000_000);
        assert_eq!(verdict, Verdict::Linearizable, "register {key}: {history:#?}");
    }
    cluster.converged();
}
