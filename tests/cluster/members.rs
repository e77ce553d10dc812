//! Members come, go and take the lead.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::cluster::{Cluster, Writers, assert_holds, status};
use crate::common::http::{self, Answer};
use crate::common::{Node, eventually, node_in, raft_ctl, raft_node, run};

fn ask(addr: SocketAddr, method: &str, path: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http::ask(addr, method, path, &body).expect("an answer")
}

/// Node `id` in the cluster's directory, which joins through the node at `at`.
fn joining(cluster: &Cluster, id: &str, at: SocketAddr) -> Command {
    let mut command = node_in(cluster.dir(), id);
    command.arg("--join").arg(at.to_string());
    command
}

/// Waits until a node names these voters and no other member.
#[track_caller]
fn wait_for_voters(addr: SocketAddr, names: &[&str]) {
    eventually("these voters", || {
        let members = status(addr)?["members"].clone();
        let members = members.as_array().expect("a list");
        let voters: Vec<_> = members.iter().filter(|m| m["voter"] == true).filter_map(|m| m["id"].as_str()).collect();
        let same = voters == names && members.len() == names.len();
        if same { Ok(()) } else { Err(std::io::Error::other(format!("{members:?}"))) }
    });
}

fn ctl(nodes: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = raft_ctl();
    command.args(arguments).arg("--nodes").arg(nodes.to_string());
    command
}

#[test]
fn a_node_joins_under_load_through_any_member_and_is_still_one_after_a_restart() {
    let cluster = Cluster::of_three();
    let follower = (cluster.leader() + 1) % 3;
    let writers = Writers::start(&cluster.addrs(), "load", 2);
    writers.wait_for_more(50);
    let mut fourth = Node::start(joining(&cluster, "n4", cluster.addr(follower)));
    for number in 0..3 {
        wait_for_voters(cluster.addr(number), &["n1", "n2", "n3", "n4"]);
    }
    writers.wait_for_more(50);
    assert_eq!(fourth.stop().code(), Some(0));
    let acknowledged = writers.stop();
    // Where it serves has changed. It says so itself; that the others know it after a restart, too, somebody else must say.
    let fourth = Node::start(node_in(cluster.dir(), "n4"));
    fourth.wait_healthy();
    let moved = format!("n4={}", fourth.addr);
    let said = run(ctl(cluster.addr(follower), &["members", "add", &moved])).expect(0).stdout;
    assert_eq!(said, format!("n4 is a member, at {}\n", fourth.addr));
    let table = run(ctl(cluster.addr(follower), &["members"])).expect(0).stdout;
    assert!(table.lines().any(|line| line.contains("n4") && line.contains(&fourth.addr.to_string())), "{table}");
    eventually("everything at the new node", || {
        let held = http::listing(fourth.addr, "&consistency=stale")?;
        match acknowledged.iter().all(|(key, _)| held.contains_key(key)) {
            true => Ok(()),
            false => Err(std::io::Error::other(format!("{} keys of {}", held.len(), acknowledged.len()))),
        }
    });
    assert_holds(&http::listing(fourth.addr, "").unwrap(), &acknowledged);
    drop(Node::start({
        let mut again = joining(&cluster, "n5", cluster.addr(0));
        again.args(["--snapshot-every", "1MiB"]);
        again
    }));
}

#[test]
fn a_node_that_needs_what_was_compacted_gets_a_snapshot_and_old_segments_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--snapshot-every", "64KiB"]);
    let mut first = Node::start(command);
    first.wait_healthy();
    let value = "v".repeat(50_000); // more than a segment of 16 MiB in all
    for number in 0..500 {
        first.set(&format!("key/{}", number % 40), &format!("{number} {value}"));
    }
    let metrics = eventually("a snapshot", || {
        let metrics = first.get("/metrics").text();
        let count = metrics.lines().find_map(|line| line.strip_prefix("netbelt_raft_snapshots_total "));
        if count.is_some_and(|count| count != "0") { Ok(metrics) } else { Err(metrics) }
    });
    assert!(metrics.contains("netbelt_raft_role{role=\"leader\"} 1"), "{metrics}");
    let log = dir.path().join("n1/log");
    eventually("the first segment to go", || match log.join("00000000000000000001.log").exists() {
        true => Err("it is there"),
        false => Ok(()),
    });

    // Started anew, it has only what the log has.
    assert_eq!(first.stop().code(), Some(0));
    let mut first = Node::start(node_in(dir.path(), "n1"));
    first.wait_healthy();
    let status = first.get("/status").json();
    assert!(status["firstIndex"].as_u64() > Some(1) && status["snapshotIndex"].as_u64() > Some(0), "{status}");
    let mut joining = node_in(dir.path(), "n2");
    joining.args(["--join", &first.addr.to_string()]);
    let second = Node::start(joining);
    wait_for_voters(first.addr, &["n1", "n2"]);
    let expected = http::listing(first.addr, "").unwrap();
    assert_eq!(expected.len(), 40);
    assert_eq!(http::listing(second.addr, "").unwrap(), expected);
    assert!(second.get("/status").json()["firstIndex"].as_u64() > Some(1), "it got a snapshot");

    // Both begin in the middle of their logs, and have everything.
    drop(second);
    assert_eq!(first.stop().code(), Some(0));
    let mut both: Vec<_> = ["n1", "n2"].map(|id| Node::start(node_in(dir.path(), id))).into();
    for (number, other) in [(0, 1), (1, 0)] {
        // They serve elsewhere now.
        let peer = format!("{}={}", both[other].id, both[other].addr);
        both[number].stop();
        let mut command = raft_node();
        command.args(["--id", &both[number].id, "--listen", &both[number].addr.to_string(), "--json", "--peer", &peer]);
        command.args(["--election-timeout", "300ms..600ms", "--data-dir"]).arg(dir.path().join(&both[number].id));
        both[number] = Node::start(command);
    }
    both.iter().for_each(Node::wait_healthy);
    for node in &both {
        assert_eq!(http::listing(node.addr, "").unwrap(), expected);
    }
}

#[test]
fn the_leader_can_be_chosen_removed_and_stopped_and_another_one_leads_at_once() {
    let mut cluster = Cluster::with_election_timeout("2s..4s"); // nobody seeks election on his own
    let leader = cluster.leader();
    let (next, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let (next_name, leader_name) = (Cluster::id(next), Cluster::id(leader));
    let ended = run(ctl(cluster.addr(third), &["transfer", &next_name])).expect(0);
    assert_eq!(ended.stdout, format!("{next_name} leads\n"));
    assert_eq!(cluster.leader(), next);
    ask(cluster.addr(third), "POST", "/leader", &json!({ "to": "n9" })).expect(404);
    let answer = ask(cluster.addr(third), "POST", "/leader", &Value::Null).expect(200).json();
    let now = cluster.leader();
    assert_ne!(now, next);
    assert_eq!(answer["leader"], Cluster::id(now).as_str());
    ask(cluster.addr(third), "POST", "/leader", &json!({ "to": leader_name })).expect(200);
    assert_eq!(cluster.leader(), leader);

    // Stopped, it hands over first.
    let said = cluster.node(leader).process.err.clone();
    assert_eq!(cluster.stop(leader).code(), Some(0));
    assert!(said.text().contains("another node leads now"), "{}", said.text());
    let successor = cluster.leader();
    cluster.node(successor).set("goes", "on");

    // Removed, it leaves and says so.
    cluster.restart(leader);
    cluster.converged();
    let (removed, left) = (Cluster::id(successor), cluster.addr(leader));
    ask(left, "DELETE", &format!("/members/{removed}"), &Value::Null).expect(200);
    eventually("the new leader to know what is committed", || {
        match ask(left, "DELETE", &format!("/members/{removed}"), &Value::Null) {
            answer if answer.status == 404 => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    });
    let others: Vec<_> = (0..3).filter(|number| *number != successor).collect();
    let names: Vec<_> = others.iter().map(|number| Cluster::id(*number)).collect();
    wait_for_voters(left, &names.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.leader_among(&others);
    ask(left, "POST", "/kv", &json!({ "key": "without", "value": "it" })).expect(200);
    eventually("a removed node that says so", || {
        let health = status(cluster.addr(successor))?["health"].as_str().unwrap_or_default().to_owned();
        if health.contains(&format!("{removed} was removed from the cluster")) {
            Ok(())
        } else {
            Err(std::io::Error::other(health))
        }
    });
    // It knows no members any more; another node of --nodes does.
    let out = cluster.addr(successor);
    let ended = run(ctl(out, &["members", "--timeout", "1s"])).expect(3);
    ended.says(&[&format!("{removed} was removed from the cluster"), "--nodes"]);
    let mut either = raft_ctl();
    either.args(["members", "--nodes", &format!("{out},{left}")]);
    let table = run(either).expect(0).stdout;
    assert!(!table.contains(&removed) && names.iter().all(|name| table.contains(name)), "{table}");
    // Started anew with what it has, it waits, says for what, and does not say that it is a member.
    assert_eq!(cluster.stop(successor).code(), Some(0));
    let mut command = cluster.joining(successor);
    command.args(["--join", &left.to_string()]);
    let again = Node::start(command);
    again.process.err.line_with(&format!("waits for the leader of its cluster: refused by {}", names[0]));
    assert!(!again.process.out.text().contains("joined"), "{}", again.process.out.text());
}

#[test]
fn a_member_that_a_majority_needs_is_not_removed_and_one_that_is_away_is() {
    let mut cluster = Cluster::of_three();
    let away = (cluster.leader() + 1) % 3;
    cluster.kill(away);
    let here: Vec<_> = (0..3).filter(|number| *number != away).collect();
    let (one, other) = (cluster.addr(here[0]), Cluster::id(here[1]));
    eventually("the end of the connection", || {
        let members = ask(one, "GET", "/members?consistency=stale", &Value::Null).json()["members"].clone();
        if members[away]["connected"] == false { Ok(()) } else { Err(members) }
    });
    let refused = ask(one, "DELETE", &format!("/members/{other}"), &Value::Null).expect(409);
    let why = refused.error();
    assert!(why.contains(&format!("not connected to {}", Cluster::id(away))), "{why}");
    run(ctl(one, &["members", "remove", &other])).expect(5).says(&["stand still"]);
    ask(one, "DELETE", &format!("/members/{}", Cluster::id(away)), &Value::Null).expect(200);
    wait_for_voters(one, &[&Cluster::id(here[0]), &other]);
    cluster.node(here[0]).set("goes", "on");
    ask(one, "DELETE", &format!("/members/{other}"), &Value::Null).expect(200);
    cluster.leader_among(&here[..1]);
    cluster.node(here[0]).set("goes", "on alone");
}

#[test]
fn a_name_that_comes_back_elsewhere_is_dialled_there_although_peer_said_where_it_was() {
    let mut cluster = Cluster::of_three();
    let gone = (cluster.leader() + 1) % 3;
    let here: Vec<_> = (0..3).filter(|number| *number != gone).map(|number| cluster.addr(number)).collect();
    let (name, before) = (Cluster::id(gone), cluster.addr(gone).to_string());
    cluster.kill(gone);
    ask(here[0], "DELETE", &format!("/members/{name}"), &Value::Null).expect(200);
    let new = tempfile::tempdir().unwrap();
    let mut command = node_in(new.path(), &name);
    command.args(["--join", &here[0].to_string()]);
    let again = Node::start(command);
    let at = again.addr.to_string();
    assert_ne!(at, before);
    for addr in here {
        eventually("a connection to where it is now", || {
            let members = ask(addr, "GET", "/members?consistency=stale", &Value::Null).json()["members"].clone();
            let found = members[gone]["addr"] == at.as_str() && members[gone]["connected"] == true;
            if found { Ok(()) } else { Err(members) }
        });
    }
}
