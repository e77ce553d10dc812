//! Leaders that die, stop, leave and come back.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::common::cluster::{Client, Cluster, Writers, assert_holds, status};
use crate::common::http::{Http, encoded, request, set_body, value_in};
use crate::common::saboteur::Saboteur;
use crate::common::{Process, eventually, raft_ctl};

/// The numbers of the other two.
fn others(number: usize) -> [usize; 2] {
    [(number + 1) % 3, (number + 2) % 3]
}

#[test]
fn no_acknowledged_write_is_lost_when_the_leader_is_killed() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let survivors = others(leader).map(|number| cluster.addr(number));
    let writers = Writers::start(&survivors, "failover", 3);
    writers.wait_for_more(100);
    cluster.kill(leader);
    writers.wait_for_more(100);
    let next = cluster.leader();
    assert_ne!(next, leader);
    cluster.restart(leader);
    writers.wait_for_more(100);
    let acknowledged = writers.stop();
    assert_holds(&cluster.converged(), &acknowledged);
    for addr in cluster.addrs() {
        assert_holds(&crate::common::http::listing(addr, "").unwrap(), &acknowledged);
    }
}

/// Same client and sequence through another node, after a snapshot, a restart and a leader change.
#[test]
fn a_retried_command_applied_twice() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let [first, second] = others(leader);
    let append = |addr, sequence: u64, value: &str| {
        let mut connection = Http::connect(addr).unwrap();
        let name = format!("idempotency-key: client:{sequence}");
        connection.ask("POST", "/kv", &[&name], set_body("key", value).as_bytes()).unwrap()
    };
    let answer = append(cluster.addr(first), 1, "first").expect(200).json();
    let between = append(cluster.addr(leader), 2, "second").expect(200).json();
    for number in 0..3 {
        // A follower may not have applied the second write yet; what matters is that the first is in no log any more.
        let taken = cluster.node(number).ask("POST", "/snapshot", "").expect(200).json();
        assert!(taken["snapshotIndex"].as_u64() > Some(2), "{taken}");
    }
    assert_eq!(cluster.stop(second).code(), Some(0));
    cluster.restart(second);
    cluster.kill(leader);
    assert_ne!(cluster.leader(), leader);
    for number in [second, first] {
        assert_eq!(append(cluster.addr(number), 1, "first").expect(200).json(), answer, "the first answer");
        assert_eq!(cluster.node(number).get("/kv/key").json(), between, "and no second effect");
    }
    cluster.restart(leader);
    append(cluster.addr(leader), 1, "first").expect(200);
    let version = between["version"].as_u64().unwrap();
    assert_eq!(cluster.converged(), [("key".to_owned(), ("second".to_owned(), version))].into());
}

#[test]
fn a_watch_goes_on_at_the_next_node_without_a_gap_or_a_repetition() {
    let mut cluster = Cluster::of_three();
    let addrs: Vec<_> = cluster.addrs().iter().map(ToString::to_string).collect();
    let mut command = raft_ctl();
    command.args(["--nodes", &addrs.join(","), "watch", "--after", "0", "--json", "-n", "60"]);
    let mut watch = Process::start(command);
    for number in 0..20 {
        cluster.node(1).set("key", &number.to_string());
    }
    watch.out.line_with(r#""value":"19""#);
    cluster.kill(0);
    cluster.leader();
    for number in 20..40 {
        cluster.node(1).set("key", &number.to_string());
    }
    watch.out.line_with(r#""value":"39""#);
    cluster.restart(0);
    assert_eq!(cluster.stop(1).code(), Some(0));
    cluster.leader();
    for number in 40..60 {
        cluster.node(2).set("key", &number.to_string());
    }
    assert_eq!(watch.ended().code(), Some(0));
    let changes = watch.out.events().into_iter().filter(|event| event["event"] == "set");
    let seen: Vec<_> = changes.map(|change| (change["value"].clone(), change["version"].clone())).collect();
    let expected: Vec<_> = (0..60).map(|n| (Value::from(n.to_string()), Value::from(n + 1))).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_leader_that_is_told_to_stop_ends_well_and_another_one_takes_over() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let writers = Writers::start(&others(leader).map(|number| cluster.addr(number)), "graceful", 2);
    writers.wait_for_more(50);
    assert_eq!(cluster.stop(leader).code(), Some(0));
    writers.wait_for_more(50);
    assert_ne!(cluster.leader(), leader);
    cluster.restart(leader);
    let acknowledged = writers.stop();
    assert_holds(&cluster.converged(), &acknowledged);
}

#[test]
fn without_a_majority_nothing_is_acknowledged_and_service_returns_with_it() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    cluster.node(leader).set("before", "1");
    let [first, second] = others(leader);
    cluster.kill(first);
    cluster.kill(second);
    // At first it may still take itself for the leader, and write what nobody else will have.
    for number in 0..5 {
        let body = set_body("alone", &number.to_string());
        let answer = cluster.node(leader).ask("POST", "/kv?timeout=300ms", &body);
        assert!(matches!(answer.status, 503 | 504), "{answer:?}");
        let expected = if answer.status == 503 { "no leader" } else { "outcome unknown" };
        assert_eq!(answer.error(), expected);
        let read = cluster.node(leader).get("/kv/before?timeout=300ms").expect(503).error();
        assert!(read == "no leader" || read == "no majority answered in time", "{read}");
    }
    eventually("the leader to step down", || {
        let status = status(cluster.addr(leader))?;
        if status["state"] == "leader" { Err(std::io::Error::other(status.to_string())) } else { Ok(()) }
    });
    assert_eq!(cluster.node(leader).get("/kv/before?consistency=stale").expect(200).json()["value"], "1");
    cluster.node(leader).get("/health").expect(503);

    // A client that waits is served as soon as there is a majority again.
    let mut waiting = Http::connect(cluster.addr(leader)).unwrap();
    waiting.send(request("POST", "/kv?timeout=20s", &[], set_body("after", "2").as_bytes())).unwrap();
    cluster.restart(first);
    waiting.answer(false).unwrap().expect(200);
    assert_eq!(cluster.node(first).value("after").as_deref(), Some("2"));
    cluster.restart(second);
    let held = cluster.converged();
    assert_eq!((held["before"].0.as_str(), held["after"].0.as_str()), ("1", "2"));
}

#[test]
fn stale_read_a_leader_that_was_paused_never_answers_with_the_old_value() {
    let cluster = Cluster::with_election_timeout("150ms..300ms");
    // Writes are under way when it stops, so that answers of the others wait for it: to it, they sound fresh.
    let writers = Writers::start(&cluster.addrs(), "background", 4);
    for round in 0..8 {
        let leader = cluster.leader();
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        cluster.node(leader).set("k", &old);
        // These reads are asked for before, while and after it stands still; all after the new value was acknowledged.
        let mut connections: Vec<_> = (0..12).map(|_| Http::connect(cluster.addr(leader)).unwrap()).collect();
        for connection in &mut connections {
            assert_eq!(value_in(&connection.ask("GET", "/kv/k", &[], b"").unwrap()).as_deref(), Some(old.as_str()));
        }
        writers.wait_for_more(20);
        cluster.node(leader).process.signal("STOP");
        let next = cluster.leader_among(&others(leader));
        cluster.node(next).set("k", &new);
        let read = request("GET", "/kv/k?timeout=2s", &[], b"");
        let (asleep, awake) = connections.split_at_mut(8);
        for connection in &mut *asleep {
            connection.send(&read).unwrap();
        }
        cluster.node(leader).process.signal("CONT");
        for connection in awake {
            connection.send(&read).unwrap();
        }
        for connection in &mut connections {
            let answer = connection.answer(false).unwrap();
            if answer.status != 503 {
                assert_eq!(value_in(&answer).as_deref(), Some(new.as_str()), "round {round}");
            }
        }
        // A write that it takes for itself now must not be lost either, once it is acknowledged.
        let answer = cluster.node(leader).ask("POST", "/kv?timeout=2s", &set_body("w", &new));
        if answer.status == 200 {
            assert_eq!(cluster.node(next).value("w").as_deref(), Some(new.as_str()));
        }
    }
    let acknowledged = writers.stop();
    assert_holds(&cluster.converged(), &acknowledged);
}

/// Increments a counter once, whatever it takes: the value tells how many increments each thread has made, so that one
/// whose outcome was unknown is found by reading it back.
fn increment(client: &mut Client, thread: usize, mine: u64) {
    let path = format!("/kv/{}?timeout=2s", encoded("counter"));
    loop {
        let Ok(read) = client.ask("GET", &path, &[], "") else { continue };
        if read.status != 200 {
            assert_eq!(read.status, 503, "{read:?}");
            continue;
        }
        let (item, version) = (read.json(), read.json()["version"].to_string());
        let mut counts: Vec<u64> = serde_json::from_str(item["value"].as_str().unwrap()).unwrap();
        if counts[thread] == mine {
            return;
        }
        assert_eq!(counts[thread] + 1, mine, "an increment of this thread was lost or done twice: {counts:?}");
        counts[thread] = mine;
        let body = set_body("counter", &json!(counts).to_string());
        match client.ask("POST", "/kv?timeout=2s", &[&format!("if-match: \"{version}\"")], &body) {
            Ok(answer) if answer.status == 200 => return,
            Ok(answer) => assert!(matches!(answer.status, 412 | 503 | 504), "{answer:?}"),
            Err(_) => {} // outcome unknown: the next read tells
        }
    }
}

#[test]
fn four_threads_that_increment_a_counter_through_different_nodes_lose_no_increment() {
    const EACH: u64 = 60;
    let mut cluster = Cluster::of_three();
    cluster.node(0).set("counter", "[0,0,0,0]");
    let (addrs, done) = (cluster.addrs(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (mut client, done) = (Client::new(addrs.clone(), thread), &done);
                scope.spawn(move || {
                    for mine in 1..=EACH {
                        increment(&mut client, thread, mine);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        eventually("increments", || match done.load(Ordering::Relaxed) {
            80.. => Ok(()),
            few => Err(few),
        });
        let leader = cluster.leader();
        cluster.kill(leader);
        cluster.leader();
        cluster.restart(leader);
        for thread in threads {
            thread.join().expect("no increment is lost");
        }
    });
    let held = cluster.converged();
    assert_eq!(held["counter"].0, json!([EACH, EACH, EACH, EACH]).to_string());
}

#[test]
fn a_follower_that_was_away_catches_up_with_large_values() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let away = others(leader)[0];
    cluster.kill(away);
    let value = "x".repeat(1 << 20);
    for number in 0..24 {
        cluster.node(leader).set(&format!("large/{number}"), &value);
    }
    cluster.restart(away);
    let held = cluster.converged();
    assert_eq!(held.len(), 24);
    assert!(held.values().all(|(held, _)| *held == value));
}

#[test]
fn the_roles_are_told_as_events() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let line = cluster.node(leader).process.out.line_with(r#""state":"leader""#);
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["event"], &event["leader"]), (&json!("role"), &json!(Cluster::id(leader))));
    let [first, second] = others(leader);
    cluster.kill(leader);
    let next = cluster.leader();
    assert!(next == first || next == second);
    let line = cluster.node(next).process.out.line_with(r#""state":"leader""#);
    let event_of_next: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event_of_next["leader"], json!(Cluster::id(next)), "{line}");
    assert!(status(cluster.addr(next)).unwrap()["term"].as_u64() > event["term"].as_u64());
    cluster.node(next).get("/health").expect(200);
}

/// Heartbeats waited for the leader's disk, so it lost its leadership at once or, where they do not, for ever kept it.
#[test]
fn a_leader_whose_disk_stands_still_hands_over_and_another_node_serves() {
    let cluster = Cluster::of_three();
    let old = cluster.leader();
    cluster.node(old).set("before", "1");
    let Some(_saboteur) = Saboteur::attach(cluster.node(old), "fdatasync:delay_enter=600000000") else { return };
    // Its disk has nothing to do until somebody writes.
    let stuck = set_body("stuck", "2");
    let answer = cluster.node(old).ask("POST", "/kv?timeout=10s", &stuck);
    assert!([200, 504].contains(&answer.status), "{answer:?}");
    let others = others(old);
    let new = cluster.leader_among(&others);
    cluster.node(new).set("after", "3");
    cluster.node(others[0]).get("/kv/before").expect(200);
    cluster.node(old).get("/health").expect(503);
}

/// With 120 ms a sync on all three there were 23 terms in 13 s, with 250 ms never a leader.
#[test]
fn a_cluster_whose_disks_take_a_quarter_of_a_second_a_sync_keeps_its_leader() {
    let cluster = Cluster::of_three();
    cluster.leader();
    let mut saboteurs = Vec::new();
    for number in 0..3 {
        let Some(saboteur) = Saboteur::attach(cluster.node(number), "fdatasync:delay_enter=250000") else { return };
        saboteurs.push(saboteur);
    }
    // Both of these are slow enough for one that takes over in the meantime.
    for round in 0..2 {
        cluster.node(round).set(&format!("warm/{round}"), "x");
    }
    let terms = |cluster: &Cluster| -> Vec<u64> {
        cluster.addrs().into_iter().map(|addr| status(addr).unwrap()["term"].as_u64().unwrap()).collect()
    };
    let before = terms(&cluster);
    let writers = Writers::start(&cluster.addrs(), "slow", 8);
    writers.wait_for_more(60);
    let acknowledged = writers.stop();
    assert_eq!(terms(&cluster), before, "nobody else was elected");
    drop(saboteurs);
    assert_holds(&cluster.converged(), &acknowledged);
}
