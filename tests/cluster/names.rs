//! Nodes on machines of their own, which know each other by name: as containers do.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::net::Net;
use crate::common::{Server, eventually, raft_ctl, raft_node, run};

const NAMES: [&str; 4] = ["node1", "node2", "node3", "node4"];

/// `raft-node`, as a container starts it: all that it is told is in the environment.
fn container(dir: &Path, name: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = raft_node();
    command.arg("--json").env("NODE_ID", name).env("DATA_DIR", dir.join(name));
    command.envs(variables.iter().copied());
    command
}

/// Asks the nodes from one of the machines until the answer is the wanted one.
#[track_caller]
fn ask(net: &Net, from: u8, nodes: &str, question: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    eventually(&format!("{question:?}"), || {
        let mut command = raft_ctl();
        command.args(["--nodes", nodes]).args(question);
        let answer = run(net.on(from, &command));
        if answer.code == Some(0) && wanted(&answer.stdout) { Ok(answer.stdout) } else { Err(format!("{answer:?}")) }
    })
}

/// Where each member is, as a node tells it.
fn addresses(members: &str) -> Vec<(String, String)> {
    let text = |member: &Value, key: &str| member[key].as_str().unwrap_or_default().to_owned();
    let lines = members.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.map(|member| (text(&member, "id"), text(&member, "addr"))).collect()
}

#[test]
fn the_lessons_environment_forms_a_cluster_over_three_machines_and_a_fourth_joins() {
    let Some(net) = Net::of(4, &NAMES) else { return };
    let dir = tempfile::tempdir().unwrap();
    let all = [("PORT", "3000"), ("INSECURE", "1")];
    let start = |number: u8, more: (&str, &str)| {
        let variables = [all[0], all[1], more, ("LISTEN", ""), ("ADVERTISE", "")];
        Server::start(net.on(number, &container(dir.path(), NAMES[usize::from(number) - 1], &variables)))
    };
    let mut nodes = vec![
        start(1, ("PEER_IDS", "node2:3000,node3:3000")),
        start(2, ("PEER_IDS", "node1:3000, node3:3000,")), // as people write lists
        start(3, ("PEER_IDS", "http://node1:3000,http://node2:3000,node3:3000")),
    ];
    ask(&net, 1, "http://node1:3000", &["set", "colour", "green"], |_| true);
    for from in 1..=3 {
        ask(&net, from, "node1:3000, node2:3000", &["get", "colour"], |value| value == "green\n");
    }
    nodes.push(start(4, ("JOIN", "http://node1:3000/")));
    nodes[3].process.out.event("joined");
    ask(&net, 2, "node4:3000", &["get", "colour"], |value| value == "green\n");
    // Every node tells the same of where all are, and nobody is nowhere.
    let told = ["node1:3000", "node2:3000", "node3:3000"].map(|node| {
        let all_there =
            |members: &str| addresses(members).len() == 4 && members.matches(r#""voter":true"#).count() == 4;
        addresses(&ask(&net, 4, node, &["members", "--json"], all_there))
    });
    let expected: Vec<_> = ["node1:3000", "node2:3000", "node3:3000", "10.99.0.4:3000"].map(str::to_owned).to_vec();
    for told in told {
        let (ids, addrs): (Vec<_>, Vec<_>) = told.into_iter().unzip();
        assert_eq!((ids, &addrs), (NAMES.map(str::to_owned).to_vec(), &expected));
    }
    // Two go, and one of them comes back: it is found where it was, and three of four are a majority.
    for node in &mut nodes[..2] {
        node.process.kill();
    }
    nodes[1] = start(2, ("PEER_IDS", "node1:3000,node3:3000"));
    ask(&net, 4, "node4:3000", &["set", "colour", "blue"], |_| true);
    ask(&net, 3, "node2:3000", &["get", "colour"], |value| value == "blue\n");
}

#[test]
fn a_node_on_every_address_and_who_joins_it_find_each_other() {
    let Some(net) = Net::of(3, &[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let start = |number: u8, arguments: &[&str]| {
        let name = format!("n{number}");
        let mut command = container(dir.path(), &name, &[]);
        command.args(["--insecure"]).args(arguments);
        Server::start(net.on(number, &command))
    };
    let _first = start(1, &["--listen", "0.0.0.0:7001"]);
    // A client on another machine finds the leader, who has met nobody yet.
    ask(&net, 2, "10.99.0.1:7001", &["leader", "--json"], |leader| leader.contains(r#""addr":"10.99.0.1:7001""#));
    let second = start(2, &["--listen", "[::]:7001", "--join", "10.99.0.1:7001"]);
    second.process.out.event("joined");
    let third = start(3, &["--listen", "0.0.0.0:7001", "--join", "10.99.0.2:7001"]);
    third.process.out.event("joined");
    ask(&net, 3, "10.99.0.3:7001", &["set", "k", "v"], |_| true);
    let expected = ["10.99.0.1:7001", "10.99.0.2:7001", "10.99.0.3:7001"];
    for node in expected {
        let all_there =
            |members: &str| addresses(members).into_iter().map(|(_, addr)| addr).collect::<Vec<_>>() == expected;
        ask(&net, 1, node, &["members", "--json"], all_there);
    }
}

#[test]
fn whom_the_others_could_not_reach_is_told_why() {
    let Some(net) = Net::of(2, &["n1", "n2"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let first = container(dir.path(), "n1", &[("LISTEN", "n1:7001"), ("INSECURE", "yes")]);
    let first = Server::start(net.on(1, &first));
    assert_eq!(first.addr.to_string(), "10.99.0.1:7001");

    // On loopback, it asks another machine to let it in.
    let mut second = container(dir.path(), "n2", &[]);
    second.args(["--listen", "127.0.0.1:7001", "--join", "n1:7001"]);
    run(net.on(2, &second)).expect(2).says(&["--join n1:7001", "10.99.0.1:7001 is on another machine", "--advertise"]);
    assert!(!dir.path().join("n2").exists(), "nothing was begun");

    // And a cluster begins with members on other machines: as a container without INSECURE.
    let third = container(dir.path(), "n3", &[("PORT", "7001"), ("PEER_IDS", "n1:7001")]);
    let third = Server::start(net.on(2, &third));
    assert!(third.addr.ip().is_loopback());
    let said = third.process.err.line_with("n1:7001 cannot reach this node");
    assert!(said.contains("10.99.0.1:7001 is on another machine") && said.contains("INSECURE=1"), "{said}");
}
