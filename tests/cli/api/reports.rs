//! What a node tells of itself, and a node without a leader.

use serde_json::{Value, json};

use super::{alone, without_leader};
use crate::common::cluster::Cluster;
use crate::common::eventually;
use crate::common::http::{Http, request, set_body};

#[test]
fn the_status_tells_everything_that_is_promised() {
    let (node, _dir) = alone();
    node.set("a", "1");
    node.set("b", "2");
    let mut status = node.get("/status").expect(200).json();
    let mut debug = node.get("/debug").expect(200).json();
    assert_eq!(debug["stateMachine"], json!({ "a": "1", "b": "2" }));
    assert_eq!(debug["stateMachineTruncated"], false);
    for field in ["stateMachine", "stateMachineTruncated"] {
        debug.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(debug, status);
    let version = status.as_object_mut().unwrap().remove("netbelt").unwrap();
    let data_format = status.as_object_mut().unwrap().remove("dataFormat").unwrap();
    assert_eq!((&version, data_format.is_u64()), (&json!(env!("CARGO_PKG_VERSION")), true));
    assert!(status.as_object_mut().unwrap().remove("protocol").unwrap().is_u64());
    let own = json!({ "id": "n1", "addr": node.addr.to_string(), "voter": true, "netbelt": version, "dataFormat": data_format });
    let members = json!([own]);
    for random in ["clusterId", "incarnation"] {
        let token = status.as_object_mut().unwrap().remove(random);
        assert!(token.as_ref().and_then(Value::as_str).is_some_and(|token| token.len() == 16), "{random}: {token:?}");
    }
    let term = status.as_object_mut().unwrap().remove("term").and_then(|term| term.as_u64());
    assert!(term.is_some_and(|term| term >= 1));
    // The leader's first entry, the cluster's id, two writes.
    let expected = json!({
        "nodeId": "n1", "state": "leader", "leaderId": "n1", "votedFor": "n1", "logLength": 4, "firstIndex": 1,
        "lastIndex": 4, "commitIndex": 4, "lastApplied": 4, "snapshotIndex": 0, "members": members, "health": "ok",
        "warnings": [], "keys": 2, "version": 2,
    });
    assert_eq!(status, expected);
    for path in ["/health", "/readyz", "/livez"] {
        assert_eq!(node.get(path).expect(200).json(), json!({ "status": "ok" }));
    }
}

#[test]
fn a_node_without_a_leader_is_alive_and_not_ready_and_warns_of_who_is_away() {
    let (node, _dir) = without_leader();
    assert_eq!(node.get("/livez").expect(200).json(), json!({ "status": "ok" }), "a restart would not help");
    assert_eq!(node.get("/readyz").expect(503).json(), json!({ "status": "no leader" }));
    assert_eq!(node.get("/status").json()["warnings"], json!(["n2 at 127.0.0.1:1 is not connected"]));
    assert!(node.get("/metrics").text().contains("\nnetbelt_raft_warnings 1\n"));
}

#[test]
fn a_member_that_is_refused_is_a_warning_on_both_sides_until_it_is_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::of_three();
    let (leader, victim) = (cluster.leader(), (cluster.leader() + 1) % 3);
    let warnings = |cluster: &Cluster, number: usize| cluster.node(number).get("/status").json()["warnings"].clone();
    eventually("no warnings", || match warnings(&cluster, leader) {
        none if none == json!([]) => Ok(()),
        some => Err(some),
    });
    cluster.kill(victim);
    let data = cluster.dir().join(Cluster::id(victim));
    std::fs::rename(&data, dir.path().join("kept")).unwrap();
    cluster.restart(victim);
    let (id, refuser) = (Cluster::id(victim), Cluster::id(leader));
    eventually("a warning at the leader", || {
        let warnings = warnings(&cluster, leader);
        let is_told =
            warnings[0].as_str().is_some_and(|w| w.starts_with(&format!("{id} at ")) && w.contains("is refused: "));
        if is_told { Ok(()) } else { Err(warnings) }
    });
    eventually("a warning at the one that is refused", || {
        let all = warnings(&cluster, victim);
        let told = all.as_array().unwrap().iter().filter_map(Value::as_str);
        let is_told =
            told.clone().any(|w| w.starts_with(&format!("{refuser} at ")) && w.contains(" refuses this node: "));
        if is_told { Ok(()) } else { Err(all) }
    });
    cluster.kill(victim);
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(dir.path().join("kept"), &data).unwrap();
    cluster.restart(victim);
    for number in [leader, victim] {
        eventually("no warnings", || match warnings(&cluster, number) {
            none if none == json!([]) => Ok(()),
            some => Err(some),
        });
    }
}

#[test]
fn the_metrics_are_prometheus_text() {
    let (node, _dir) = alone();
    node.set("a", "1");
    node.value("a");
    let answer = node.get("/metrics").expect(200);
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    let text = answer.text();
    for line in [
        "netbelt_raft_is_leader 1",
        "netbelt_raft_keys 1",
        "netbelt_raft_proposals_total 1",
        "netbelt_raft_reads_total 1",
        "netbelt_raft_forwarded_total 0",
        "netbelt_raft_elections_total 1",
        "netbelt_raft_snapshots_total 0",
        "netbelt_raft_term 1",
        "netbelt_raft_role{role=\"leader\"} 1",
        "netbelt_raft_role{role=\"follower\"} 0",
        "netbelt_raft_commit_index 3",
        "netbelt_raft_apply_lag 0",
        "netbelt_raft_sessions 0",
        "netbelt_raft_members 1",
        "netbelt_raft_log_segments 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    for histogram in ["netbelt_raft_fsync_seconds_bucket{", "netbelt_raft_fsync_entries_bucket{"] {
        assert!(text.contains(histogram), "no {histogram} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn without_a_leader_requests_end_in_503_in_their_time_and_reports_go_on() {
    let (node, _dir) = without_leader();
    let body = set_body("a", "1");
    for answer in [
        node.get("/kv/a?timeout=300ms"),
        node.get("/kv?timeout=300ms"),
        node.ask("POST", "/kv?timeout=300ms", &body),
        node.ask("DELETE", "/kv/a?timeout=300ms", ""),
    ] {
        assert_eq!(answer.clone().expect(503).json(), json!({ "error": "no leader" }));
        assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()), "{answer:?}");
    }
    node.get("/kv/a?consistency=stale").expect(404);
    assert_eq!(node.get("/kv?consistency=stale").expect(200).json()["items"], json!([]));
    assert_eq!(node.get("/health").expect(503).json(), json!({ "status": "no leader" }));
    let status = node.get("/status").expect(200).json();
    assert_eq!((&status["leaderId"], &status["health"]), (&Value::Null, &json!("no leader")));
    assert_eq!(status["members"][1], json!({ "id": "n2", "addr": "127.0.0.1:1", "voter": true, "connected": false }));
}

#[test]
fn a_short_timeout_is_kept_behind_a_long_one() {
    let (node, _dir) = without_leader();
    let mut patient = Http::connect(node.addr).unwrap();
    patient.send(request("GET", "/kv/a?timeout=60s", &[], b"")).unwrap();
    eventually("the patient request", || {
        let metrics = node.get("/metrics").text();
        if metrics.contains("netbelt_raft_requests_in_hand 1") { Ok(()) } else { Err(metrics) }
    });
    // The connection itself is patient for 20 s only: far less than 60 s, far more than 300 ms.
    node.get("/kv/b?timeout=300ms").expect(503);
}

// Members
