//! Who a node is: a member that lost its past, or shares it with another, must not vote.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::cluster::{Cluster, assert_no_leader, status, wait_for_health};
use crate::common::http::{Http, request};
use crate::common::{Node, eventually, raft_ctl, run, within};

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("there is cp");
    assert!(copied.success());
}

#[test]
fn wiped_data_directory_under_an_old_id_is_refused_with_the_remedy_and_never_votes() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let (victim, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.node(leader).set("kept", "by two");
    cluster.kill(victim);
    let dir = cluster.dir().join(Cluster::id(victim));
    fs::remove_dir_all(&dir).unwrap();
    cluster.restart(victim);
    let name = Cluster::id(victim);
    let remedy = [format!("members remove {name}"), format!("raft-node --id {name} --join"), "empty".to_owned()];
    let texts: Vec<_> = remedy.iter().map(String::as_str).chain(["refused by"]).collect();
    wait_for_health(&cluster, victim, &texts);
    for number in [leader, other] {
        cluster.node(number).process.err.line_with(&format!("refused {name}: "));
        assert!(cluster.node(number).process.err.text().contains(&remedy[0]));
    }

    cluster.kill(leader);
    eventually("a member that seeks election", || match status(cluster.addr(other))? {
        status if status["leaderId"].is_null() => Ok(()),
        status => Err(std::io::Error::other(status.to_string())),
    });
    assert_no_leader(&cluster, &[victim, other]);

    cluster.restart(leader);
    cluster.leader_among(&[leader, other]);
    assert_eq!(cluster.node(other).value("kept").as_deref(), Some("by two"));

    // It does not help to ask nicely. The remedy does.
    cluster.kill(victim);
    fs::remove_dir_all(&dir).unwrap();
    let join = |cluster: &Cluster| {
        let mut command = cluster.joining(victim);
        command.arg("--join").arg(cluster.addr(other).to_string());
        command
    };
    let refused = Node::start(join(&cluster));
    refused.process.err.line_with(&format!("members remove {name}"));
    drop(refused);
    let mut remove = raft_ctl();
    remove.args(["members", "remove", &name, "--nodes", &cluster.addr(other).to_string()]);
    run(remove).expect(0);
    fs::remove_dir_all(&dir).unwrap();
    let mut again = Node::start(join(&cluster));
    again.wait_healthy();
    wait_for_voter(&cluster, other, &name);
    assert_eq!(again.value("kept").as_deref(), Some("by two"));
    again.stop();
    cluster.restart(victim); // with --peer or --join, it is what it is
    cluster.kill(leader);
    cluster.leader_among(&[victim, other]);
    cluster.node(victim).set("and now", "it votes");
    cluster.restart(leader);
    cluster.converged();
}

/// A node that came later met the others before it heard that they are members. It forgot them, and with its vote a wiped one
/// took an acknowledged write away.
#[test]
fn a_node_that_joined_refuses_a_wiped_member_as_the_first_members_do() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let (newcomer, victim) = ((leader + 1) % 3, (leader + 2) % 3);
    let name = Cluster::id(newcomer);
    cluster.kill(newcomer);
    fs::remove_dir_all(cluster.dir().join(&name)).unwrap();
    let mut remove = raft_ctl();
    remove.args(["members", "remove", &name, "--nodes", &cluster.addr(leader).to_string()]);
    run(remove).expect(0);
    let mut joining = cluster.joining(newcomer);
    joining.arg("--join").arg(cluster.addr(leader).to_string());
    let mut joined = Node::start(joining);
    joined.wait_healthy();
    wait_for_voter(&cluster, leader, &name);
    joined.stop();

    cluster.node(cluster.leader_among(&[leader, victim])).set("precious", "acknowledged");
    cluster.kill(leader);
    cluster.kill(victim);
    fs::remove_dir_all(cluster.dir().join(Cluster::id(victim))).unwrap();
    cluster.restart(newcomer);
    cluster.restart(victim);
    wait_for_health(&cluster, victim, &["refused by", &format!("members remove {}", Cluster::id(victim))]);
    assert_no_leader(&cluster, &[newcomer, victim]);
    cluster.restart(leader);
    cluster.leader_among(&[leader, newcomer]);
    assert_eq!(cluster.node(newcomer).value("precious").as_deref(), Some("acknowledged"));
}

/// Waits until a node says that `name` votes.
#[track_caller]
fn wait_for_voter(cluster: &Cluster, number: usize, name: &str) {
    eventually("a new voter", || {
        let members = status(cluster.addr(number))?["members"].clone();
        let votes = members.as_array().into_iter().flatten().any(|m| m["id"] == name && m["voter"] == true);
        if votes { Ok(()) } else { Err(std::io::Error::other(members.to_string())) }
    });
}

#[test]
fn cloned_data_directory_under_an_old_id_is_refused_and_a_moved_one_is_not() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let victim = (leader + 1) % 3;
    let (original, clone) = (cluster.dir().join(Cluster::id(victim)), cluster.dir().join("clone"));
    copy(&original, &clone);
    let command = cluster.command_with(victim, "127.0.0.1:0", &clone);
    run(command).expect(6).says(&[clone.to_str().unwrap(), "copy of the data directory of", "--moved", "--data-dir"]);

    // Moved for good, it is the same node as ever.
    cluster.node(leader).set("kept", "by all");
    cluster.converged();
    cluster.kill(victim);
    fs::remove_dir_all(&clone).unwrap();
    copy(&original, &clone);
    fs::remove_dir_all(&original).unwrap();
    copy(&clone, &original);
    run(cluster.command(victim)).expect(6).says(&["--moved"]);
    let mut command = cluster.command(victim);
    command.arg("--moved");
    let mut moved = Node::start(command);
    moved.wait_healthy();
    assert_eq!(moved.value("kept").as_deref(), Some("by all"));
    moved.stop();
    cluster.restart(victim);
    cluster.converged();
}

/// What a cloned disk, or one that was put back to how it was, has: the same files, with the same inodes.
fn clone_disk(from: &Path, to: &Path) {
    copy(from, to);
    let file = to.join("netbelt.json");
    let mut identity: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    identity["file"] = serde_json::json!({ "inode": fs::metadata(&file).unwrap().ino(), "born": null });
    fs::write(&file, identity.to_string()).unwrap();
}

#[test]
fn of_two_copies_of_a_disk_the_one_that_was_met_goes_on_and_the_other_is_refused_however_often_it_starts() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let (victim, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let name = Cluster::id(victim);
    let (original, clone) = (cluster.dir().join(&name), cluster.dir().join("clone"));
    cluster.kill(victim);
    clone_disk(&original, &clone);
    cluster.restart(victim);
    cluster.kill(other);
    cluster.node(leader).set("precious", "known to the original alone");
    cluster.restart(other);
    cluster.converged();

    // Beside the original.
    let refusal = ["refused by", "another copy", "stop this copy", &format!("members remove {name}")];
    let health = |node: &Node| {
        eventually("a health that says why", || {
            let health = status(node.addr)?["health"].as_str().unwrap_or_default().to_owned();
            if refusal.iter().all(|text| health.contains(text)) { Ok(()) } else { Err(std::io::Error::other(health)) }
        });
    };
    for _ in 0..2 {
        let beside = Node::start(cluster.command_with(victim, "127.0.0.1:0", &clone));
        health(&beside);
        cluster.node(leader).process.err.line_with(&format!("refused {name}: "));
    }

    // In its place. It may not take part, not even where its vote is wanted.
    cluster.kill(victim);
    let mut instead = Node::start(cluster.command_with(victim, &cluster.addr(victim).to_string(), &clone));
    health(&instead);
    cluster.kill(leader);
    eventually("a member that seeks election", || match status(cluster.addr(other))? {
        status if status["leaderId"].is_null() => Ok(()),
        status => Err(std::io::Error::other(status.to_string())),
    });
    assert_no_leader(&cluster, &[victim, other]);
    instead.process.kill();

    cluster.restart(victim);
    cluster.leader_among(&[victim, other]);
    assert_eq!(cluster.node(victim).value("precious").as_deref(), Some("known to the original alone"));
    cluster.restart(leader);
    cluster.converged();
}

/// Each start that a peer misses moves a node away from what that peer remembers. After 257 of them it was refused for good, and
/// two such nodes never found a leader again.
#[test]
fn after_a_storm_of_restarts_while_a_peer_is_away_there_is_a_leader_within_five_seconds() {
    const STARTS: usize = 300;
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    cluster.node(leader).set("kept", "through the storm");
    cluster.converged();
    for number in 0..3 {
        cluster.kill(number);
    }
    // All at once, and each alone: told that the others are where nobody is, they never meet.
    std::thread::scope(|scope| {
        for number in 0..3 {
            let cluster = &cluster;
            scope.spawn(move || {
                for _ in 0..STARTS {
                    let dir = cluster.dir().join(Cluster::id(number));
                    let mut command = cluster.lonely(number, "127.0.0.1:0", &dir);
                    for other in (0..3).filter(|other| *other != number) {
                        command.args(["--peer", &format!("{}=127.0.0.1:1", Cluster::id(other))]);
                    }
                    drop(Node::start(command)); // killed as soon as it is ready
                }
            });
        }
    });
    for number in 0..3 {
        cluster.restart(number);
    }
    within(Duration::from_secs(5), "a leader", || {
        let statuses: Result<Vec<_>, _> = cluster.addrs().into_iter().map(status).collect();
        let statuses = statuses?;
        let agree = statuses.iter().all(|it| it["leaderId"].is_string() && it["leaderId"] == statuses[0]["leaderId"]);
        if agree { Ok(()) } else { Err(std::io::Error::other(format!("{statuses:?}"))) }
    });
    let leader = cluster.leader();
    assert_eq!(cluster.node(leader).value("kept").as_deref(), Some("through the storm"));
    cluster.converged();
}

/// Of two copies both may be right: nobody but a person knows which one is to go on.
#[test]
fn a_person_vouches_for_a_copy_that_is_refused_and_it_is_taken_without_any_leader() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let (victim, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let name = Cluster::id(victim);
    let (original, image) = (cluster.dir().join(&name), cluster.dir().join("image"));
    cluster.node(leader).set("kept", "by all");
    cluster.converged();
    cluster.kill(victim);
    clone_disk(&original, &image);
    cluster.restart(victim);
    cluster.converged();
    cluster.kill(victim);
    // The disk is put back to how it was, and one of the others is gone for good: no leader without this one.
    fs::remove_dir_all(&original).unwrap();
    clone_disk(&image, &original);
    cluster.kill(other);
    cluster.restart(victim);
    wait_for_health(&cluster, victim, &["refused by", "another copy", &format!("members vouch {name}")]);

    let vouch = |nodes: String, id: &str| {
        let mut command = raft_ctl();
        command.args(["members", "vouch", id, "--nodes", &nodes]);
        run(command)
    };
    let addr = cluster.addr(leader).to_string();
    vouch(addr.clone(), "n9").expect(1).says(&["n9"]);
    let vouched = vouch(addr, &name).expect(0);
    assert!(vouched.stdout.contains(&format!("takes the next start of {name}")), "{}", vouched.stdout);
    vouched.says(&["never start another copy"]);
    cluster.leader_among(&[leader, victim]);
    assert_eq!(cluster.node(victim).value("kept").as_deref(), Some("by all"));
}

/// A dial that is refused again and again was a line each time.
#[test]
fn who_is_refused_or_not_there_is_told_of_once_and_not_at_every_dial() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let (victim, gone) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(victim);
    fs::remove_dir_all(cluster.dir().join(Cluster::id(victim))).unwrap();
    cluster.restart(victim);
    wait_for_health(&cluster, victim, &["refused by"]);
    cluster.kill(gone);
    // Whoever is taken for the one that is gone, and speaks what nobody understands, over and over.
    let dir = cluster.dir().join(Cluster::id(gone));
    let json =
        |file: &str| -> serde_json::Value { serde_json::from_slice(&fs::read(dir.join(file)).unwrap()).unwrap() };
    let (identity, starts) = (json("netbelt.json"), json("starts.json"));
    let marks: Vec<_> = starts["marks"].as_array().unwrap().iter().map(|mark| mark.as_str().unwrap()).collect();
    let headers = [
        "connection: upgrade".to_owned(),
        "upgrade: netbelt-raft/2".to_owned(),
        format!("netbelt-from: {}", Cluster::id(gone)),
        format!("netbelt-to: {}", Cluster::id(leader)),
        format!("netbelt-incarnation: {}", identity["incarnation"].as_str().unwrap()),
        format!("netbelt-starts: {} {}", starts["number"], marks.join(",")),
    ];
    let headers: Vec<_> = headers.iter().map(String::as_str).collect();
    for _ in 0..100 {
        let mut connection = Http::connect(cluster.addr(leader)).unwrap();
        connection.send(request("GET", "/peer", &headers, b"")).unwrap();
        let answer = connection.line().unwrap();
        assert!(answer.contains("101"), "{answer}");
        connection.send([0xff; 64]).unwrap();
        drop(connection.until_closed());
    }
    assert_no_leader(&cluster, &[victim]); // for many dials
    for number in [leader, victim] {
        let log = cluster.node(number).process.err.text();
        let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        let names = [Cluster::id(victim), Cluster::id(gone), Cluster::id(leader)];
        for name in names {
            assert!(
                // Once more when the number of the cluster becomes known, which is a part of the reason.
                lines(&format!("refused {name}: ")) <= 2 && lines(&format!("cannot connect to {name} ")) <= 3,
                "{log}"
            );
        }
        assert!(lines("hung up on") <= 1 && log.lines().count() < 40, "{log}");
    }
}
