//! What a node remembers, and what it makes of whom it meets.

use std::fs;

use super::*;
use crate::net::identity::boot_history::Boot;

const HERE: RandomId = RandomId(1);

fn hello(cluster: Option<u64>, incarnation: u64) -> Hello {
    Hello {
        cluster: cluster.map(RandomId),
        incarnation: RandomId(incarnation),
        starts: starts(1, &[1]),
        proof: None,
        has_begun: Some(true),
        knows: None,
    }
}

fn starts(number: u64, marks: &[u64]) -> BootHistory {
    let marks: Vec<_> = marks.iter().map(|mark| RandomId(*mark).to_string()).collect();
    format!("{number} {}", marks.join(",")).parse().unwrap()
}

fn try_open(dir: &Path) -> Result<KnownPeers, DataDirError> {
    KnownPeers::open(dir, "n1", HERE, starts(1, &[1]))
}

fn open(dir: &Path) -> KnownPeers {
    try_open(dir).unwrap()
}

const ANY: Option<&MemberAddr> = Some(&MemberAddr { addr: String::new(), incarnation: None });

#[test]
fn a_node_is_known_by_the_incarnation_it_had_when_it_was_met_first() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).meet("n2", &hello(None, 7), ANY).unwrap();
    let again = open(dir.path());
    again.meet("n2", &hello(None, 7), ANY).unwrap();
    let refused = again.meet("n2", &hello(None, 8), ANY).unwrap_err();
    assert!(matches!(refused, PeerRejected::OtherIncarnation { .. }));
    assert!(
        again.may_take_name("n2", RandomId(7))
            && !again.may_take_name("n2", RandomId(8))
            && again.may_take_name("n3", RandomId(8))
    );
    let said = refused.to_string();
    for remedy in ["members remove n2", "--join", "empty --data-dir"] {
        assert!(said.contains(remedy), "{said}");
    }
}

#[test]
fn of_two_copies_of_a_directory_the_one_that_was_met_stays_known_and_the_other_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let of = |number, marks: &[u64]| Hello { starts: starts(number, marks), ..hello(Some(99), 7) };
    let known = open(dir.path());
    known.set_cluster(RandomId(99)).unwrap();
    known.meet("n2", &of(1, &[1]), ANY).unwrap();
    known.meet("n2", &of(4, &[4, 3, 2, 1]), ANY).expect("it was started where nobody met it");
    let known = open(dir.path());
    let copies = [of(1, &[1]), of(3, &[3, 2, 1]), of(4, &[14, 3, 2, 1]), of(5, &[15, 14, 3, 2, 1])];
    for copy in &copies {
        for member in [ANY, None] {
            let refused = known.meet("n2", copy, member).unwrap_err();
            assert!(matches!(refused, PeerRejected::OtherPast { start: 4, .. }), "{refused}");
            for remedy in ["stop this copy", "members remove n2", "empty --data-dir"] {
                assert!(refused.to_string().contains(remedy), "{refused}");
            }
        }
    }
    known.meet("n2", &of(4, &[4, 3, 2, 1]), ANY).unwrap();
    known.meet("n2", &of(5, &[5, 4, 3, 2, 1]), None).expect("this node's members may be older");
    assert!(known.meet("n2", &of(4, &[4, 3, 2, 1]), ANY).is_err());
    // The remedy.
    known.set_members(&BTreeMap::from([("n1", true)])).unwrap();
    known.set_members(&BTreeMap::from([("n1", true), ("n2", false)])).unwrap();
    known.meet("n2", &hello(None, 8), ANY).unwrap();
}

#[test]
fn a_book_of_format_1_is_read_and_keeps_the_first_start_it_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("peers.json");
    fs::write(&file, r#"{"format":1,"cluster":null,"peers":{"n2":{"incarnation":"0000000000000007"}}}"#).unwrap();
    assert!(matches!(open(dir.path()).meet("n2", &hello(None, 8), ANY), Err(PeerRejected::OtherIncarnation { .. })));
    open(dir.path()).meet("n2", &hello(None, 7), ANY).unwrap();
    assert!(fs::read_to_string(&file).unwrap().starts_with(r#"{"format":2,"#));
    let copy = Hello { starts: starts(1, &[2]), ..hello(None, 7) };
    assert!(matches!(open(dir.path()).meet("n2", &copy, ANY), Err(PeerRejected::OtherPast { .. })));
}

#[test]
fn a_removed_node_is_told_so_and_its_name_is_free_for_another() {
    let dir = tempfile::tempdir().unwrap();
    let known = open(dir.path());
    known.set_cluster(RandomId(99)).unwrap();
    known.meet("n2", &hello(Some(99), 7), ANY).unwrap();
    known.set_members(&BTreeMap::from([("n1", true), ("n3", true)])).unwrap();
    let known = open(dir.path());
    assert!(matches!(known.meet("n2", &hello(Some(99), 7), None), Err(PeerRejected::Removed { .. })));
    known.set_members(&BTreeMap::from([("n1", true), ("n2", false), ("n3", true)])).unwrap();
    known.meet("n2", &hello(None, 8), ANY).expect("added again, with an empty directory");
    assert!(matches!(known.meet("n2", &hello(Some(99), 7), ANY), Err(PeerRejected::OtherIncarnation { .. })));
}

/// A node that joined met the others before it heard that they are members, did not remember them, and later took a
/// wiped one for a member: an acknowledged write was lost.
#[test]
fn who_is_met_before_this_node_hears_of_its_seat_is_remembered_when_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let known = open(dir.path());
    known.set_cluster(RandomId(99)).unwrap();
    known.meet("n2", &hello(Some(99), 7), None).unwrap();
    known.set_members(&BTreeMap::from([("n1", false), ("n3", true)])).unwrap();
    known.meet("n2", &hello(Some(99), 7), None).expect("an older configuration does not remove it");
    known.set_members(&BTreeMap::from([("n1", false), ("n2", true), ("n3", true)])).unwrap();
    let known = open(dir.path());
    assert!(matches!(known.meet("n2", &hello(None, 8), ANY), Err(PeerRejected::OtherIncarnation { .. })));
    known.meet("n2", &hello(Some(99), 7), ANY).unwrap();
    known.set_members(&BTreeMap::from([("n1", true), ("n3", true)])).unwrap();
    assert!(matches!(known.meet("n2", &hello(Some(99), 7), None), Err(PeerRejected::Removed { .. })));
}

#[test]
fn a_removal_that_was_never_committed_frees_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let known = open(dir.path());
    known.meet("n2", &hello(None, 7), ANY).unwrap();
    known.set_members(&BTreeMap::from([("n1", true)])).unwrap();
    known.set_members(&BTreeMap::from([("n1", true), ("n2", true)])).unwrap();
    assert!(matches!(known.meet("n2", &hello(None, 8), ANY), Err(PeerRejected::OtherIncarnation { .. })));
    known.meet("n2", &hello(None, 7), ANY).unwrap();
}

/// A node that was down while a member was removed and added again hears of the outcome only.
#[test]
fn a_seat_for_one_incarnation_outranks_what_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let known = open(dir.path());
    known.meet("n2", &hello(None, 7), ANY).unwrap();
    let member = MemberAddr::of("127.0.0.1:1#0000000000000008");
    assert_eq!((member.addr.as_str(), member.incarnation), ("127.0.0.1:1", Some(RandomId(8))));
    assert!(matches!(known.meet("n2", &hello(None, 7), Some(&member)), Err(PeerRejected::OtherIncarnation { .. })));
    known.meet("n2", &hello(None, 8), Some(&member)).unwrap();
    assert!(matches!(known.meet("n2", &hello(None, 7), ANY), Err(PeerRejected::OtherIncarnation { .. })));
    for text in ["", "127.0.0.1:1", "a:1#b", "127.0.0.1:1#0000000000000008"] {
        assert_eq!(MemberAddr::of(text).to_string(), text);
    }
}

#[test]
fn the_cluster_speaks_for_a_node_of_which_nobody_has_told_yet() {
    let dir = tempfile::tempdir().unwrap();
    let known = open(dir.path());
    assert!(matches!(known.meet("n4", &hello(None, 7), None), Err(PeerRejected::NotAMember { .. })));
    assert!(matches!(known.meet("n4", &hello(Some(99), 7), None), Err(PeerRejected::NotAMember { .. })));
    known.set_cluster(RandomId(99)).unwrap();
    assert!(matches!(known.meet("n4", &hello(None, 7), None), Err(PeerRejected::NotAMember { .. })));
    assert!(matches!(known.meet("n4", &hello(Some(98), 7), ANY), Err(PeerRejected::OtherCluster { .. })));
    known.meet("n4", &hello(Some(99), 7), None).unwrap();
    assert!(matches!(known.set_cluster(RandomId(98)), Err(PeerRejected::OtherCluster { .. })));
    assert_eq!(open(dir.path()).hello("n5", None), hello(Some(99), HERE.0));
}

#[test]
fn what_cannot_be_written_down_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let known = open(dir.path());
    fs::create_dir(dir.path().join("peers.json.tmp")).unwrap(); // in the way
    assert!(matches!(known.meet("n2", &hello(None, 7), ANY), Err(PeerRejected::Forgetful { .. })));
    fs::remove_dir(dir.path().join("peers.json.tmp")).unwrap();
    known.meet("n2", &hello(None, 8), ANY).expect("nobody remembers the first");
}

#[test]
fn a_newer_format_and_a_damaged_book_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("peers.json");
    fs::write(&file, r#"{"format":3,"whatever":"it holds"}"#).unwrap();
    assert!(matches!(try_open(dir.path()), Err(DataDirError::Newer { path, format: 3, .. }) if path == file));
    for damaged in ["", "{", r#"{"format":1,"cluster":"12","peers":{}}"#] {
        fs::write(&file, damaged).unwrap();
        assert!(matches!(try_open(dir.path()), Err(DataDirError::Damaged { .. })), "{damaged}");
    }
}

#[test]
fn the_last_refusal_of_each_peer_is_told_until_it_takes_this_node() {
    let dir = tempfile::tempdir().unwrap();
    let known = open(dir.path());
    assert_eq!(known.refusal(), None);
    known.refused_by("n2", Some("first"));
    known.refused_by("n2", Some("no"));
    assert_eq!(known.refusal().as_deref(), Some("refused by n2: no"));
    known.refused_by("n2", None);
    assert_eq!(known.refusal(), None);
}

/// What a node without data says, which knows n1 by that directory.
fn new(incarnation: u64, knows: Option<u64>) -> Hello {
    let knows = knows.map(|incarnation| Known { incarnation: RandomId(incarnation), start: Some(1) });
    Hello { has_begun: Some(false), knows, ..hello(None, incarnation) }
}

fn waiting(dir: &Path, they_have_no_data: bool) -> KnownPeers {
    let peers = BTreeSet::from(["n2".to_owned(), "n3".to_owned()]);
    let known = open(dir);
    if known.has_waited() { known } else { known.waiting_for(peers, they_have_no_data) }
}

fn says(known: &KnownPeers, peer: &str, hello: &Hello) -> Result<(), PeerRejected> {
    let met = known.meet(peer, hello, ANY);
    known.heard(peer, hello);
    met
}

#[test]
fn a_new_node_begins_when_each_peer_has_vouched_for_it_and_remembers_that() {
    let dir = tempfile::tempdir().unwrap();
    let known = waiting(dir.path(), false);
    says(&known, "n2", &new(7, None)).unwrap();
    says(&known, "n3", &new(8, Some(HERE.0))).unwrap();
    assert!(known.is_new() && known.hello("n2", None).knows.is_some_and(|knows| knows.incarnation == RandomId(7)));
    assert!(known.refusal().is_some_and(|why| why.contains("waits for n2") && why.contains("--peers-have-no-data")));
    // A crash costs what was heard, and not what was written down.
    let known = waiting(dir.path(), false);
    says(&known, "n2", &new(7, Some(HERE.0))).unwrap();
    assert!(known.is_new());
    says(&known, "n3", &Hello { has_begun: Some(true), ..new(8, Some(HERE.0)) }).unwrap();
    assert!(!known.is_new() && known.refusal().is_none());
    let known = waiting(dir.path(), false);
    assert!(!known.is_new(), "it has begun for ever");
    for (peer, incarnation) in [("n2", 17), ("n3", 18)] {
        let refused = says(&known, peer, &new(incarnation, None)).unwrap_err();
        assert!(matches!(refused, PeerRejected::Emptied { .. }), "{refused}");
        let said = format!(
            "{peer} has a new, empty data directory, and n1 has data and does not know {peer} by that directory: {peer} must \
             not vote with what it forgot. Keep the data directory of n1. Start {peer} with its old directory; if that is lost: \
             raft-ctl members remove {peer}, then raft-node --id {peer} --join HOST:PORT with an empty --data-dir; if those of \
             a majority are lost, first stop n1 and start it once with --force-new-cluster"
        );
        assert_eq!(refused.to_string(), said);
    }
    says(&known, "n2", &new(7, None)).expect("it may have crashed before it had begun");
}

#[test]
fn a_new_node_does_not_begin_beside_one_that_has_data_whatever_others_say() {
    let dir = tempfile::tempdir().unwrap();
    let known = waiting(dir.path(), true);
    says(&known, "n2", &new(7, Some(HERE.0))).unwrap();
    says(&known, "n3", &Hello { knows: new(8, Some(70)).knows, ..hello(Some(99), 8) }).unwrap();
    known.heard_nothing("n3");
    let why = known.refusal().unwrap();
    for text in ["n3 has data of cluster 0000000000000063", "Keep the data directory of n3", "members remove n1"] {
        assert!(why.contains(text), "{why}");
    }
    assert!(known.is_new());
    // One that is no peer, but a member that joined later.
    let dir = tempfile::tempdir().unwrap();
    let known = waiting(dir.path(), true);
    drop(known.meet("n4", &hello(Some(99), 9), None).unwrap_err());
    known.heard("n4", &hello(Some(99), 9));
    for peer in ["n2", "n3"] {
        says(&known, peer, &new(7, Some(HERE.0))).unwrap();
    }
    assert!(known.is_new());
}

#[test]
fn an_operator_speaks_for_peers_that_are_not_there_and_only_their_first_directory_is_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let known = waiting(dir.path(), true);
    says(&known, "n2", &new(7, Some(HERE.0))).unwrap();
    assert!(known.is_new(), "n3 has not been asked");
    known.heard_nothing("n3");
    assert!(!known.is_new());
    let known = waiting(dir.path(), false);
    assert!(!known.is_new());
    says(&known, "n3", &new(8, None)).expect("it is awaited");
    assert!(matches!(says(&known, "n3", &new(9, None)), Err(PeerRejected::Emptied { .. })));
    assert!(matches!(says(&waiting(dir.path(), false), "n3", &new(9, None)), Err(PeerRejected::Emptied { .. })));
}

#[test]
fn an_older_version_cannot_vouch_and_with_a_cluster_it_has_data() {
    let dir = tempfile::tempdir().unwrap();
    let known = waiting(dir.path(), false);
    let older = Hello { has_begun: None, ..hello(None, 7) };
    says(&known, "n2", &older).unwrap();
    assert!(known.refusal().is_some_and(|why| why.contains("n2 (is of an older version")));
    says(&known, "n2", &Hello { cluster: Some(RandomId(99)), ..older }).unwrap();
    assert!(known.refusal().is_some_and(|why| why.contains("n2 has data of cluster")));
}

/// After 257 starts that a peer had missed, it took the node for a copy of itself.
#[test]
fn a_start_of_any_distance_is_proved_when_it_is_asked_for() {
    let (dir, mine) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let known = open(dir.path());
    let first = starts(1, &[1]);
    known.meet("n2", &Hello { starts: first, ..hello(None, 7) }, ANY).unwrap();
    let mut latest = None;
    for mark in 1..=600 {
        latest = Some(BootHistory::begin(mine.path(), RandomId(mark)).unwrap());
    }
    let n2 = KnownPeers::open(mine.path(), "n2", RandomId(7), latest.unwrap()).unwrap();
    let unasked = n2.hello("n1", None);
    assert!(matches!(known.meet("n2", &unasked, ANY), Err(PeerRejected::OtherPast { start: 1, .. })));
    let asked = n2.asked(&known.hello("n2", None));
    assert_eq!(asked, Some(1));
    let copy = Hello { proof: Some(Boot { number: 1, id: RandomId(5) }), ..unasked };
    assert!(known.meet("n2", &copy, ANY).is_err());
    known.meet("n2", &n2.hello("n1", asked), ANY).unwrap();
    assert_eq!(n2.asked(&known.hello("n2", None)), None, "the latest is known now");
}

#[test]
fn a_person_vouches_for_a_directory_and_the_next_start_that_comes_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let known = open(dir.path());
    let of = |number, marks: &[u64]| Hello { starts: starts(number, marks), ..hello(None, 7) };
    known.meet("n2", &of(2, &[2, 1]), ANY).unwrap();
    assert!(known.meet("n2", &of(2, &[12, 1]), ANY).is_err());
    assert!(known.vouch("n2").unwrap() && !known.vouch("n3").unwrap());
    let known = open(dir.path());
    assert!(known.meet("n2", &hello(None, 8), ANY).is_err(), "another directory is another matter");
    known.meet("n2", &of(2, &[12, 1]), ANY).unwrap();
    assert!(known.meet("n2", &of(2, &[2, 1]), ANY).is_err());
}

#[test]
fn marks_are_kept_until_every_member_has_said_that_it_knows_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let many: Vec<_> = (1..=1000).rev().collect();
    let mine = {
        let marks: Vec<_> = many.iter().map(|mark| format!("\"{}\"", RandomId(*mark))).collect();
        fs::write(
            dir.path().join("starts.json"),
            format!(r#"{{"format":1,"number":1000,"marks":[{}]}}"#, marks.join(",")),
        )
        .unwrap();
        BootHistory::begin(dir.path(), RandomId(1001)).unwrap()
    };
    let known = KnownPeers::open(dir.path(), "n1", HERE, mine).unwrap();
    known.set_members(&BTreeMap::from([("n1", true), ("n2", true), ("n3", true)])).unwrap();
    let remembers = |incarnation, start| {
        let knows = Some(Known { incarnation: HERE, start: Some(start) });
        Hello { knows, ..hello(None, incarnation) }
    };
    let oldest = |known: &KnownPeers| (1..).find(|number| known.hello("n2", Some(*number)).proof.is_some());
    known.meet("n2", &remembers(7, 1001), ANY).unwrap();
    assert_eq!(oldest(&known), Some(1), "n3 has not spoken");
    known.meet("n3", &remembers(8, 600), ANY).unwrap();
    assert_eq!(oldest(&known), Some(600));
}
