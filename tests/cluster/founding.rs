//! How a cluster begins: never beside a member that has data.

use std::fs;

use crate::common::cluster::{Cluster, assert_no_leader, status, wait_for_health};
use crate::common::http::set_body;
use crate::common::{Node, eventually, raft_ctl, run};

/// Two of three that had lost their disks began a new cluster beside the third: acknowledged writes were 404, and the third was
/// told to empty its directory.
#[test]
fn a_majority_that_lost_its_disks_begins_no_cluster_beside_a_member_that_has_everything() {
    for survivor_is_late in [false, true] {
        let mut cluster = Cluster::of_three();
        let survivor = cluster.leader();
        let wiped = [(survivor + 1) % 3, (survivor + 2) % 3];
        cluster.node(survivor).set("precious", "acknowledged");
        cluster.converged();
        let id = status(cluster.addr(survivor)).unwrap()["clusterId"].as_str().expect("it has one").to_owned();
        let book = cluster.dir().join(Cluster::id(survivor)).join("peers.json");
        eventually("a node that has written down its cluster", || match fs::read_to_string(&book)? {
            text if text.contains(&id) => Ok(()),
            text => Err(std::io::Error::other(text)),
        });
        for number in wiped {
            cluster.kill(number);
            fs::remove_dir_all(cluster.dir().join(Cluster::id(number))).unwrap();
        }
        if survivor_is_late {
            cluster.kill(survivor);
        }
        for number in wiped {
            cluster.restart(number);
        }
        if survivor_is_late {
            let name = Cluster::id(survivor);
            for number in wiped {
                wait_for_health(&cluster, number, &["new, empty data directory", &name, "--peers-have-no-data"]);
            }
            assert_no_leader(&cluster, &wiped);
            cluster.restart(survivor);
        }

        // Who has data, and what to do, on both sides; nobody is told to give up what the survivor has.
        let (name, keep) = (Cluster::id(survivor), format!("Keep the data directory of {}", Cluster::id(survivor)));
        let has_data = format!("{name} has data of cluster {id}");
        for number in wiped {
            let me = Cluster::id(number);
            let remedy = format!("members remove {me}");
            let texts =
                ["new, empty data directory", &has_data, &keep, &remedy, "--force-new-cluster", "nothing was begun"];
            wait_for_health(&cluster, number, &texts);
            cluster.node(number).process.err.line_with(&has_data);
            let health = cluster.node(number).get("/health").expect(503).json();
            assert!(health["status"].as_str().is_some_and(|status| status.contains(&has_data)), "{health}");
            cluster.node(number).ask("POST", "/kv?timeout=200ms", &set_body("x", "y")).expect(503);
        }
        wait_for_health(&cluster, survivor, &[&has_data, &keep, "--force-new-cluster"]);
        cluster.node(survivor).process.err.line_with(&has_data);
        assert_no_leader(&cluster, &[0, 1, 2]);
        for number in 0..3 {
            let got = cluster.node(number).get("/kv/precious?timeout=200ms");
            assert_eq!(got.status, 503, "{got:?}");
        }
    }
}

#[test]
fn a_first_start_waits_for_each_peer_and_a_flag_says_once_that_one_has_no_data() {
    let mut cluster = Cluster::of_three_not_started();
    cluster.restart(0);
    cluster.restart(1);
    for number in [0, 1] {
        wait_for_health(&cluster, number, &["waits for n3 (does not answer)", "--peers-have-no-data"]);
    }
    assert_no_leader(&cluster, &[0, 1]);
    // A crash between meeting and beginning leaves nobody waiting for ever.
    cluster.kill(0);
    cluster.restart(0);
    cluster.restart(2);
    let leader = cluster.leader();
    cluster.node(leader).set("a", "1");

    let mut cluster = Cluster::of_three_not_started();
    cluster.restart(1);
    cluster.restart_with(0, &["--peers-have-no-data"]);
    cluster.node(0).process.err.line_with("n1 begins without n3, as --peers-have-no-data says");
    cluster.kill(1);
    cluster.restart_with(1, &["--peers-have-no-data"]);
    let leader = cluster.leader_among(&[0, 1]);
    cluster.node(leader).set("a", "1");
    // The third comes later, and is the one that was meant; whoever comes under its name after that is not.
    cluster.restart(2);
    cluster.leader();
    assert_eq!(cluster.node(2).value("a").as_deref(), Some("1"));
    cluster.kill(2);
    fs::remove_dir_all(cluster.dir().join("n3")).unwrap();
    cluster.restart(2);
    wait_for_health(&cluster, 2, &["has data of cluster", "members remove n3"]);
}

/// With the flag, too, one that has data and says so is believed.
#[test]
fn the_flag_does_not_outweigh_a_peer_that_says_that_it_has_data() {
    let mut cluster = Cluster::of_three();
    let survivor = cluster.leader();
    let wiped = [(survivor + 1) % 3, (survivor + 2) % 3];
    for number in wiped {
        cluster.kill(number);
        fs::remove_dir_all(cluster.dir().join(Cluster::id(number))).unwrap();
    }
    for number in wiped {
        cluster.restart_with(number, &["--peers-have-no-data"]);
        wait_for_health(&cluster, number, &["has data of cluster", "nothing was begun"]);
    }
    wait_for_health(&cluster, survivor, &["has data of cluster"]);
    assert_no_leader(&cluster, &[0, 1, 2]);
}

/// A directory that has not begun holds nothing, and takes the members that the command line names now.
#[test]
fn a_node_that_waited_in_vain_may_be_told_of_other_peers_or_join_instead() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader();
    let victim = (leader + 1) % 3;
    let name = Cluster::id(victim);
    cluster.node(leader).set("kept", "by two");
    cluster.kill(victim);
    fs::remove_dir_all(cluster.dir().join(&name)).unwrap();
    cluster.restart(victim);
    wait_for_health(&cluster, victim, &["has data of cluster", &format!("members remove {name}")]);
    cluster.kill(victim);
    let mut remove = raft_ctl();
    remove.args(["members", "remove", &name, "--nodes", &cluster.addr(leader).to_string()]);
    run(remove).expect(0);
    let mut command = cluster.joining(victim);
    command.arg("--join").arg(cluster.addr(leader).to_string());
    let again = Node::start(command);
    again.wait_healthy();
    assert_eq!(again.value("kept").as_deref(), Some("by two"));
}
