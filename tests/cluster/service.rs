//! A healthy cluster: every node serves, and all agree.

use serde_json::{Value, json};

use crate::common::cluster::{Cluster, reserve_port, status};
use crate::common::http::{self, set_body};
use crate::common::{Node, node_in, raft_ctl, run};

#[test]
fn any_node_takes_any_request_and_sees_at_once_what_another_one_wrote() {
    let cluster = Cluster::of_three();
    let leader = cluster.leader();
    for round in 0..20 {
        for writer in 0..3 {
            let (key, value) = (format!("key/{writer}"), format!("value {round}"));
            let written = cluster.node(writer).ask("POST", "/kv", &set_body(&key, &value)).expect(200).json();
            let path = format!("/kv/{}", http::encoded(&key));
            for reader in 0..3 {
                let read = cluster.node(reader).get(&path).expect(200).json();
                assert_eq!(read, written, "written through node {writer}, read through node {reader}");
                assert_eq!(cluster.node(reader).get("/kv?prefix=key/").json()["items"][writer], written);
            }
            // A stale read answers, too, with this value or an older one.
            let stale = cluster.node((writer + 1) % 3).get(&format!("{path}?consistency=stale"));
            assert!(
                stale.status == 404 || stale.json()["version"].as_u64() <= written["version"].as_u64(),
                "{stale:?}"
            );
        }
    }
    for deleter in 0..3 {
        let path = format!("/kv/key%2F{deleter}");
        assert_eq!(cluster.node(deleter).ask("DELETE", &path, "").expect(200).json()["deleted"], true);
        for reader in 0..3 {
            cluster.node(reader).get(&path).expect(404);
        }
    }
    assert_eq!(cluster.converged(), [].into());
    assert_eq!(cluster.leader(), leader, "nothing happened that would have cost the leader its place");
}

#[test]
fn conditions_hold_through_every_node() {
    let cluster = Cluster::of_three();
    let client = |number: usize, headers: &[&str], body: &Value| {
        let mut connection = http::Http::connect(cluster.addr(number)).unwrap();
        connection.ask("POST", "/kv", headers, body.to_string().as_bytes()).unwrap()
    };
    for number in 0..3 {
        let key = format!("key/{number}");
        let absent = json!({ "key": key, "value": "1", "if_value": null });
        client(number, &[], &absent).expect(200);
        let failed = client((number + 1) % 3, &[], &absent).expect(412).json();
        assert_eq!(failed["value"], "1", "{failed}");
        let if_match = format!("if-match: \"{}\"", failed["version"]);
        let body = json!({ "key": key, "value": "2" });
        client((number + 2) % 3, &[&if_match], &body).expect(200);
        client(number, &[&if_match], &body).expect(412);
        let large = json!({ "key": key, "value": "v".repeat(1 << 20), "if_value": "2" });
        client((number + 1) % 3, &[], &large).expect(200);
        let largest = json!({ "key": key, "value": "w".repeat(1 << 20), "if_value": "v".repeat(1 << 20) });
        client((number + 2) % 3, &[], &largest).expect(200);
    }
    assert_eq!(cluster.converged().len(), 3);
}

#[test]
fn every_node_tells_the_same_story() {
    let cluster = Cluster::of_three();
    let leader = cluster.leader();
    cluster.node(0).set("a", "1");
    cluster.converged();
    let members: Vec<_> = (0..3).map(|number| (Cluster::id(number), cluster.addr(number).to_string())).collect();
    for number in 0..3 {
        let status = status(cluster.addr(number)).unwrap();
        assert_eq!(status["nodeId"], Cluster::id(number).as_str());
        assert_eq!(status["leaderId"], Cluster::id(leader).as_str());
        assert_eq!(status["state"], if number == leader { "leader" } else { "follower" });
        let told: Vec<_> = status["members"].as_array().unwrap().iter().collect();
        let text = |member: &Value, field: &str| member[field].as_str().unwrap().to_owned();
        assert_eq!(told.iter().map(|member| (text(member, "id"), text(member, "addr"))).collect::<Vec<_>>(), members);
        for (other, member) in told.iter().enumerate() {
            assert_eq!(member["connected"], if other == number { Value::Null } else { json!(true) }, "{status}");
            let followed = number == leader && other != leader;
            assert_eq!(
                member["matchIndex"],
                if followed { status["lastIndex"].clone() } else { Value::Null },
                "{status}"
            );
        }
    }
    // raft-ctl needs one address to find them all.
    let ctl = |arguments: &[&str]| {
        let mut command = raft_ctl();
        command.args(["--nodes", &cluster.addr((leader + 1) % 3).to_string()]).args(arguments);
        run(command).expect(0).stdout
    };
    assert_eq!(ctl(&["leader"]), format!("{}\n", Cluster::id(leader)));
    let table = ctl(&["status"]);
    for (id, addr) in members {
        let row = table.lines().find(|line| line.starts_with(&id)).unwrap_or_else(|| panic!("no {id} in\n{table}"));
        assert!(row.contains(&addr) && row.ends_with("ok"), "{row}");
    }
    let summary =
        ctl(&["--json", "bench", "--target", "all", "--clients", "4", "--duration", "300ms", "--warm-up", "0s"]);
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((&summary["event"], &summary["errors"]), (&json!("summary"), &json!(0)), "{summary}");
}

#[test]
fn a_node_with_a_wrong_member_list_is_refused_and_learns_why() {
    let cluster = Cluster::of_three();
    let dir = tempfile::tempdir().unwrap();
    let stranger = |id: &str, peer: &str, addr: String| {
        let mut command = node_in(dir.path(), id);
        command.args(["--peer", &format!("{peer}={addr}")]);
        Node::start(command)
    };
    let before = status(cluster.addr(0)).unwrap();
    // A node nobody knows.
    let unknown = stranger("n9", "n1", cluster.addr(0).to_string());
    let said = unknown.process.err.line_with("refused");
    assert!(said.contains("403") && said.contains("n9 is not a member of the cluster of n1"), "{said}");
    // A node that takes n1 for n7.
    let mistaken = stranger("n2", "n7", cluster.addr(0).to_string());
    let said = mistaken.process.err.line_with("refused");
    assert!(said.contains("421") && said.contains("this is n1, not n7") && said.contains("--peer"), "{said}");
    // A node that takes some other server for a peer.
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = elsewhere.local_addr().unwrap();
    let lost = stranger("n4", "n1", format!("127.0.0.1:{}", reserve_port()));
    let said = lost.process.err.line_with("cannot connect to n1");
    assert!(said.contains("refused") && said.contains("trying again"), "{said}");
    let silent = stranger("n5", "n1", addr.to_string());
    let said = silent.process.err.line_with("cannot connect to n1");
    assert!(said.contains("did not answer within"), "{said}");

    for node in [unknown, mistaken, lost, silent] {
        node.get("/kv/a?timeout=100ms").expect(503);
    }
    let after = status(cluster.addr(0)).unwrap();
    assert_eq!((&before["term"], &before["leaderId"]), (&after["term"], &after["leaderId"]), "nobody was disturbed");
}
