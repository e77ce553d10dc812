//! Members that come and go.

use serde_json::json;

use super::{alone, without_leader};
use crate::common::{Node, node_in};

#[test]
fn a_cluster_of_one_tells_its_only_member_and_cannot_lose_it() {
    let (node, _dir) = alone();
    let members = node.get("/members").expect(200).json();
    let member = &members["members"][0];
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1));
    assert_eq!((&member["id"], &member["addr"]), (&json!("n1"), &json!(node.addr.to_string())));
    assert_eq!((&member["voter"], &member["netbelt"]), (&json!(true), &json!(env!("CARGO_PKG_VERSION"))));
    let refused = node.ask("DELETE", "/members/n1", "").expect(409);
    assert_eq!(refused.error(), "it is the only voter");
    assert_eq!(node.ask("DELETE", "/members/n2", "").expect(404).error(), "it is not a member");
    assert!(node.ask("POST", "/leader", "").expect(409).error().contains("not a voter"));
    let again = json!({ "id": "n1", "addr": node.addr.to_string() }).to_string();
    let again = node.ask("POST", "/members", &again).expect(200).json();
    assert_eq!((&again["voter"], again["cluster"].as_str().map(str::len)), (&json!(true), Some(16)), "{again}");
}

#[test]
fn without_a_leader_the_members_are_told_only_as_the_node_remembers_them() {
    let (node, _dir) = without_leader();
    assert_eq!(node.get("/members?timeout=300ms").expect(503).error(), "no leader");
    let members = node.get("/members?consistency=stale").expect(200).json();
    assert_eq!(members["members"][1], json!({ "id": "n2", "addr": "127.0.0.1:1", "voter": true, "connected": false }));
    node.get("/members?consistency=old").expect(400);
    node.get("/members?prefix=n").expect(400);
}

#[test]
fn a_node_in_no_cluster_says_so_at_once_to_who_asks_for_its_members() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n4");
    command.args(["--join", "127.0.0.1:1"]);
    let node = Node::start(command);
    let member = json!({ "id": "n5", "addr": "127.0.0.1:2" }).to_string();
    for (method, path, body) in [
        ("GET", "/members?timeout=60s", ""),
        ("POST", "/members?timeout=60s", member.as_str()),
        ("DELETE", "/members/n1?timeout=60s", ""),
        ("POST", "/leader?timeout=60s", ""),
    ] {
        let answer = node.ask(method, path, body).expect(503);
        assert!(answer.error().contains("n4 is not in a cluster"), "{method} {path}: {answer:?}");
        assert!(answer.header("retry-after").is_some(), "{method} {path}");
    }
    assert_eq!(node.get("/members?consistency=stale").expect(200).json(), json!({ "members": [] }));
}

#[test]
fn nobody_is_added_where_another_member_is_and_a_member_that_is_there_is_not_moved() {
    let (node, _dir) = alone();
    let own = node.addr.to_string();
    let add = |id: &str, addr: &str| node.ask("POST", "/members", &json!({ "id": id, "addr": addr }).to_string());
    let refused = |id: &str, addr: &str, texts: [&str; 2]| {
        let answer = add(id, addr).expect(409);
        assert!(texts.iter().all(|text| answer.error().contains(text)), "{id} at {addr}: {answer:?}");
    };
    refused("n2", &own, ["the address of n1", "raft-ctl members remove n1"]);
    add("n2", "127.0.0.1:1").expect(201);
    add("n2", "127.0.0.1:1").expect(200);
    refused("n3", "127.0.0.1:1", ["the address of n2", "raft-ctl members remove n2"]);
    add("n2", "127.0.0.1:2").expect(200); // it does not run: the address may have been wrong
    add("n3", "127.0.0.1:1").expect(201);
    refused("n1", "127.0.0.1:3", ["n1 is a member, and connected at", "another name"]);
    let members = node.get("/members").expect(200).json();
    let addrs: Vec<_> = members["members"].as_array().unwrap().iter().map(|member| &member["addr"]).collect();
    assert_eq!(addrs, [own.as_str(), "127.0.0.1:2", "127.0.0.1:1"]);
}

#[test]
fn a_bad_request_for_a_member_is_refused_and_changes_nothing() {
    let (node, _dir) = alone();
    for (body, why) in [
        ("", "bad JSON"),
        ("{", "bad JSON"),
        (r#"{"id":"n2"}"#, "addr"),
        (r#"{"id":"n2","addr":"127.0.0.1:1","vote":true}"#, "vote"),
        (r#"{"id":"a b","addr":"127.0.0.1:1"}"#, "cannot name a node"),
        (r#"{"id":"n2","addr":"127.0.0.1"}"#, "HOST:PORT"),
        (r#"{"id":"n2","addr":"127.0.0.1:0"}"#, "HOST:PORT"),
        (r#"{"id":"n2","addr":"a#b:1"}"#, "HOST:PORT"),
        (r#"{"id":"n2","addr":"127.0.0.1:1","incarnation":"7"}"#, "16 hexadecimal digits"),
    ] {
        let answer = node.ask("POST", "/members", body).expect(400);
        assert!(answer.error().contains(why), "{body}: {answer:?}");
    }
    assert!(node.ask("POST", "/leader", r#"{"to":7}"#).expect(400).error().contains("bad JSON"));
    node.ask("DELETE", "/members/%ff", "").expect(400);
    for (method, path, allowed) in
        [("PUT", "/members", "GET, HEAD, POST"), ("GET", "/leader", "POST"), ("GET", "/members/n1", "DELETE")]
    {
        assert_eq!(node.ask(method, path, "").expect(405).header("allow"), Some(allowed), "{method} {path}");
    }
    assert_eq!(node.get("/members").json()["members"].as_array().map(Vec::len), Some(1));
}
