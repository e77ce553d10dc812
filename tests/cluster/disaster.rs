//! The majority is lost for good, and one node goes on.

use std::collections::BTreeMap;
use std::fs;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::common::cluster::{Cluster, Writers, assert_holds, status};
use crate::common::http::{self, set_body};
use crate::common::{Ended, Node, eventually, raft_ctl, raft_node, run};

/// What is in a directory, whatever else is in those below it.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn ctl(node: &Node, arguments: &[&str]) -> Ended {
    let mut command = raft_ctl();
    command.args(["--nodes", &node.addr.to_string()]).args(arguments);
    run(command)
}

fn dump(dir: &Path, out: &Path, more: &[&str]) -> Ended {
    let mut command = raft_node();
    command.args(["dump", "--json", "--data-dir"]).arg(dir).arg("--out").arg(out).args(more);
    run(command)
}

fn forced(mut command: Command) -> Ended {
    command.arg("--force-new-cluster");
    run(command)
}

#[test]
fn when_two_of_three_lose_their_disks_the_third_goes_on_with_every_acknowledged_key() {
    let mut cluster = Cluster::of_three();
    let writers = Writers::start(&cluster.addrs(), "load", 2);
    writers.wait_for_more(100);
    let acknowledged = writers.stop();
    let before = cluster.converged();
    let survivor = cluster.leader();
    let (id, dir) = (Cluster::id(survivor), cluster.dir().join(Cluster::id(survivor)));
    let old_cluster = status(cluster.addr(survivor)).unwrap()["clusterId"].clone();
    let others = [(survivor + 1) % 3, (survivor + 2) % 3];
    for other in others {
        cluster.kill(other);
        fs::remove_dir_all(cluster.dir().join(Cluster::id(other))).unwrap();
    }
    let node = cluster.node(survivor);
    let answer = node.ask("POST", "/kv?timeout=500ms", &set_body("doubtful", "nobody was told"));
    assert!(matches!(answer.status, 503 | 504), "{answer:?}");
    eventually("no leader", || match node.get("/health") {
        health if health.status == 503 => Ok(()),
        health => Err(format!("{health:?}")),
    });

    // Backups without a leader, of the node and of its directory.
    let file = cluster.dir().join("backup");
    let name = file.to_str().unwrap();
    ctl(node, &["snapshot", "--out", name, "--timeout", "500ms"]).expect(3).says(&["no leader"]);
    let stale = ctl(node, &["snapshot", "--stale", "--json", "--out", name]).expect(0).json();
    assert_eq!(
        (&stale["keys"], &stale["stale"], &stale["cluster"]),
        (&json!(before.len()), &json!(true), &old_cluster)
    );
    assert!(stale["through"].as_u64() < stale["last"].as_u64(), "{stale}");
    dump(&dir, &file, &[]).expect(6).says(&["a node uses", "snapshot --out", "--stale"]);
    forced(cluster.command(survivor)).expect(6).says(&["in use"]);
    cluster.kill(survivor);
    let untouched = content(&dir);
    let all = dump(&dir, &file, &[]).expect(0).says(&["not known to be committed, and in the backup: entr"]).json();
    assert_eq!((&all["id"], &all["keys"]), (&json!(id), &json!(before.len() + 1)), "the doubtful one is in it");
    assert_eq!(all["through"], all["last"]);
    let committed = dump(&dir, &file, &["--committed-only"]).expect(0).says(&["left out of the backup"]).json();
    assert_eq!(committed["through"], committed["committed"]);
    assert!(committed["keys"].as_u64() <= Some(before.len() as u64), "{committed}");
    assert_eq!(content(&dir), untouched, "a dump only reads");

    // It goes on alone.
    let told = forced(cluster.command(survivor)).expect(0).json();
    assert_eq!((&told["oldCluster"], &told["through"]), (&old_cluster, &all["last"]));
    assert_eq!(told["lostMembers"].as_array().map(Vec::len), Some(2));
    let kept = PathBuf::from(told["kept"].as_str().unwrap());
    assert_eq!(kept.parent(), Some(dir.as_path()));
    let kept = content(&kept);
    assert!(untouched.iter().all(|(path, bytes)| path.ends_with("LOCK") || kept.get(path) == Some(bytes)));
    cluster.restart(survivor);
    let node = cluster.node(survivor);
    node.wait_healthy();
    let new = status(node.addr).unwrap();
    assert_eq!((&new["clusterId"], new["members"].as_array().map(Vec::len)), (&told["cluster"], Some(1)));
    assert_ne!(new["clusterId"], old_cluster);
    let listed = http::listing(node.addr, "").unwrap();
    assert_holds(&listed, &acknowledged);
    assert!(before.iter().all(|(key, held)| listed.get(key) == Some(held)), "versions stay what they were");

    // The others come back, and it is a cluster like any other.
    let mut joined = Vec::new();
    for other in others {
        let mut command = cluster.joining(other);
        command.args(["--join", &node.addr.to_string()]);
        joined.push(Node::start(command));
    }
    eventually("three voters that have everything", || {
        let members = status(node.addr)?["members"].clone();
        let voters = members.as_array().into_iter().flatten().filter(|member| member["voter"] == true).count();
        let same =
            joined.iter().all(|node| http::listing(node.addr, "&consistency=stale").is_ok_and(|held| held == listed));
        if voters == 3 && same { Ok(()) } else { Err(Error::other(format!("{members}"))) }
    });
    let versions: Vec<_> =
        status(node.addr).unwrap()["members"].as_array().unwrap().iter().map(|m| m["netbelt"].clone()).collect();
    assert_eq!(versions, vec![json!(env!("CARGO_PKG_VERSION")); 3]);

    // There is a leader: to force another cluster would lose what it takes.
    cluster.kill(survivor);
    eventually("another leader", || match status(joined[0].addr)? {
        status if status["leaderId"].is_string() && status["leaderId"] != json!(id) => Ok(()),
        status => Err(Error::other(status.to_string())),
    });
    forced(cluster.command(survivor)).expect(1).says(&["has a leader", "nothing is lost", "members remove"]);
    cluster.restart(survivor);
    cluster.node(survivor).wait_healthy();
    assert_holds(&http::listing(cluster.addr(survivor), "").unwrap(), &acknowledged);
}

#[test]
fn a_node_that_knows_less_than_another_one_is_not_the_one_to_go_on() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let (behind, third) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.converged();
    cluster.kill(behind);
    cluster.node(leader).set("after", "it was gone");
    cluster.kill(third);
    fs::remove_dir_all(cluster.dir().join(Cluster::id(third))).unwrap();
    eventually("no leader", || match status(cluster.addr(leader))? {
        status if status["leaderId"].is_null() => Ok(()),
        status => Err(Error::other(status.to_string())),
    });
    let better = Cluster::id(leader);
    forced(cluster.command(behind)).expect(1).says(&["to be committed", &format!("the directory of {better}")]);
    cluster.kill(leader);
    let told: Value = forced(cluster.command(leader)).expect(0).json();
    assert_eq!(told["id"], json!(better));
}
