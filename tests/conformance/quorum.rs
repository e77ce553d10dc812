//! Majorities, and pairs of them.
//!
//! The machine changes its members one at a time and needs no joint quorums; the vectors for them are answered with its
//! majorities all the same: what both halves have reached, and what both have voted.

use std::collections::{BTreeMap, BTreeSet};

use netbelt::quorum::{majority, reached_by_majority};

use super::transcript::{Case, read};
use super::{say, vectors};

#[test]
fn commit_indices_and_votes_of_all_quorums_are_those_of_etcd() {
    let Some(folder) = vectors("etcd-raft/quorum") else { return };
    let mut checked = 0;
    for file in ["majority_commit.txt", "majority_vote.txt", "joint_commit.txt", "joint_vote.txt"] {
        for case in read(&folder.join(file)) {
            let expected = case.output.last().unwrap_or_else(|| panic!("{}: no answer", case.at));
            let answer = match case.command.as_str() {
                "committed" => committed(&case),
                "vote" => vote(&case),
                other => panic!("{}: unknown command {other}", case.at),
            };
            assert_eq!(answer, expected.trim_start_matches("<empty majority quorum>"), "{}", case.at);
            checked += 1;
        }
    }
    say(&format!("{checked} quorums: all answers match"));
    assert!(checked > 100, "the files hold {checked} cases only");
}

/// What was said of each voter, in the order in which the configurations name them.
fn said<'a>(case: &'a Case, key: &str) -> BTreeMap<&'a str, &'a str> {
    let voters = case.list("cfg").into_iter().chain(case.list("cfgj")).flatten().filter(|voter| *voter != "zero");
    let mut seen = BTreeSet::new();
    let each = voters.filter(|voter| seen.insert(*voter)).zip(case.list(key));
    each.filter_map(|(voter, value)| Some((voter, value?))).collect()
}

/// The configurations to ask: a joint one has two halves, of which either may be empty.
fn halves(case: &Case) -> Vec<Vec<&str>> {
    let half = |key| case.list(key).into_iter().flatten().filter(|voter| *voter != "zero").collect();
    if case.option("cfgj").is_some() { vec![half("cfg"), half("cfgj")] } else { vec![half("cfg")] }
}

fn committed(case: &Case) -> String {
    let said = said(case, "idx");
    let index = |voter: &&str| said.get(voter).map_or(0, |index| index.parse::<u64>().expect("an index"));
    let reached = halves(case).into_iter().filter_map(|half| reached_by_majority(half.iter().map(index)));
    reached.min().map_or("∞".to_owned(), |index| index.to_string())
}

fn vote(case: &Case) -> String {
    let said = said(case, "votes");
    let results: Vec<_> = halves(case).iter().map(|half| vote_of(half, &said)).collect();
    let result = if results.contains(&Some(false)) {
        "VoteLost"
    } else if results.contains(&None) {
        "VotePending"
    } else {
        "VoteWon"
    };
    result.to_owned()
}

/// Whether a majority has granted its vote, or can no longer; an empty one grants everything.
fn vote_of(voters: &[&str], said: &BTreeMap<&str, &str>) -> Option<bool> {
    let count = |vote| voters.iter().filter(|voter| said.get(**voter).copied() == vote).count();
    let needed = if voters.is_empty() { 0 } else { majority(voters.len()) };
    if count(Some("y")) >= needed {
        Some(true)
    } else if count(Some("y")) + count(None) < needed {
        Some(false)
    } else {
        None
    }
}
