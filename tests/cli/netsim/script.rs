//! Scripts: each command has its answer, and a mistake is named.

use serde_json::{Value, json};

use super::{answers, script, sim};
use crate::common::{netsim, run_with};

/// Three nodes, the first of which leads.
const ELECTED: &str = "nodes 3\nfire 1 election\ndeliver all\n";

/// What the script answers after the election.
fn after_election(text: &str) -> Vec<Value> {
    let mut all = answers(&script(&format!("{ELECTED}{text}")).expect(0));
    all.split_off(3)
}

#[test]
fn the_state_of_a_node_has_every_field() {
    let state = &after_election("propose 1 x\ndeliver all\nstate 1\n")[2];
    for (field, value) in [
        ("id", json!(1)),
        ("up", json!(true)),
        ("state", json!("leader")),
        ("term", json!(1)),
        ("leader", json!(1)),
        ("voted_for", json!(1)),
        ("commit", json!(2)),
        ("applied", json!(2)),
        ("first", json!(1)),
        ("last", json!(2)),
        ("members", json!([1, 2, 3])),
    ] {
        assert_eq!(state[field], value, "{field} in {state}");
    }
    assert_eq!(state["log"][1]["index"], 2);
    assert_eq!(state["log"][1]["term"], 1);
    assert_eq!(state["log"][1]["data"], "x");
}

#[test]
fn state_without_a_number_shows_all_nodes_in_order() {
    let ids: Vec<_> = after_election("state\n").iter().map(|state| state["id"].clone()).collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn a_proposal_has_a_place_or_an_error() {
    let all = after_election("propose 1 x\npropose 2 y\n");
    assert_eq!((&all[0]["propose"], &all[0]["index"], &all[0]["term"]), (&json!("x"), &json!(2), &json!(1)));
    assert_eq!((&all[1]["ok"], &all[1]["error"], &all[1]["leader"]), (&json!(false), &json!("not leader"), &json!(1)));
}

#[test]
fn a_read_answers_when_a_majority_has_confirmed_the_leader() {
    let all = after_election("propose 1 x\ndeliver all\nread 1\ndeliver all\n");
    assert_eq!(all[2]["waiting"], true);
    let read = &all[4];
    assert_eq!((&read["id"], &read["read"], &read["index"]), (&json!(1), &json!(["x"]), &json!(2)));
}

#[test]
fn messages_in_flight_are_shown_oldest_first() {
    let all = answers(&script("nodes 3 prevote=off\nfire 2 election\npending\n").expect(0));
    let links: Vec<_> =
        all.iter().filter(|a| !a["type"].is_null()).map(|a| (a["from"].clone(), a["to"].clone())).collect();
    assert_eq!(links, [(json!(2), json!(1)), (json!(2), json!(3))]);
    assert_eq!((&all[2]["type"], &all[2]["term"]), (&json!("request_vote"), &json!(1)));
    assert_eq!(all.last().unwrap()["in_flight"], 2);
}

#[test]
fn what_cannot_be_done_now_is_answered_and_the_script_goes_on() {
    let all =
        after_election("crash 2\npropose 2 x\ncrash 2\nrestart 1\nfire 2 election\nfire 3 heartbeat\nrestart 2\n");
    let oks: Vec<_> = all.iter().map(|answer| answer["ok"].as_bool().unwrap()).collect();
    assert_eq!(oks, [true, false, false, false, false, false, true]);
    assert!(all[1]["error"].as_str().unwrap().contains("node 2 is down"));
}

#[test]
fn a_mistake_is_exit_2_and_names_line_and_text() {
    for (text, said) in [
        ("nodes 3\n\n# good so far\nfrie 1 election\n", vec!["line 4", "frie 1 election", "no command 'frie'"]),
        ("fire 1 election\n", vec!["line 1", "begin with nodes"]),
        ("nodes 3\nfire 4 election\n", vec!["line 2", "no node 4"]),
        ("nodes 3\nnodes 3\n", vec!["line 2", "nodes comes once"]),
        ("nodes 0\n", vec!["line 1", "'0'"]),
        ("nodes 3\nelapse 99999999999\n", vec!["line 2", "up to an hour"]),
    ] {
        script(text).expect(2).says(&said);
    }
    sim(&["raft", "--script", "/nonexistent.netsim"]).expect(2).says(&["/nonexistent.netsim"]);
    script(&format!("nodes 1\npropose 1 {}\n", "x".repeat(70_000))).expect(2).says(&["line 2", "longer than"]);
}

#[test]
fn answers_before_a_mistake_are_printed() {
    let all = answers(&script("nodes 3\nstate 1\nnonsense\n").expect(2));
    assert_eq!(all[1]["id"], 1);
}

#[test]
fn time_that_elapses_for_one_node_makes_it_a_candidate_alone() {
    let all = answers(&script("nodes 3\nelapse 400 2\nstate\n").expect(0));
    let states: Vec<_> = all[2..].iter().map(|state| state["state"].clone()).collect();
    assert_eq!(states, ["follower", "candidate", "follower"]);
}

#[test]
fn with_check_quorum_off_a_node_that_hears_a_leader_votes_all_the_same() {
    let elect_another = "fire 2 election\ndeliver all\nstate 2\n";
    let sticky = script(&format!("nodes 3 prevote=off\nfire 1 election\ndeliver all\n{elect_another}")).expect(0);
    assert_eq!(answers(&sticky).last().unwrap()["state"], "candidate");
    let off = script(&format!("nodes 3 prevote=off checkquorum=off\nfire 1 election\ndeliver all\n{elect_another}"));
    assert_eq!(answers(&off.expect(0)).last().unwrap()["state"], "leader");
}

#[test]
fn members_join_as_learners_and_are_promoted_when_they_have_caught_up() {
    let text = "add 4\ndeliver all\nfire 1 heartbeat\ndeliver all\nfire 1 heartbeat\ndeliver all\nstate 4\n";
    let all = after_election(text);
    let state = all.last().unwrap();
    assert_eq!((&state["members"], &state["learners"]), (&json!([1, 2, 3, 4]), &json!([])));
}

#[test]
fn a_snapshot_shortens_the_log_and_keeps_what_was_applied() {
    let all = after_election("propose 1 a\npropose 1 b\ndeliver all\nsnapshot 1\ncrash 1\nrestart 1\nstate 1\n");
    let state = all.last().unwrap();
    assert_eq!((&state["first"], &state["last"], &state["log"]), (&json!(4), &json!(3), &json!([])));
    assert_eq!((&state["data"], &state["commit"]), (&json!(["a", "b"]), &json!(3)));
}

#[test]
fn what_is_not_as_expected_is_exit_1_and_says_what_is() {
    let good =
        "expect 1 state=leader term=1 leader=n1 voted_for=1 data=\nexpect n2 leader=1 members=n1,n2,n3 read=waits\n";
    let oks: Vec<_> = after_election(good).iter().map(|answer| answer["ok"].clone()).collect();
    assert_eq!(oks, [json!(true), json!(true)]);
    let ended = script(&format!("{ELECTED}expect 2 state=leader term=1 last=7\nstate 1\n")).expect(1);
    let ended =
        ended.says(&["line 4: n2 has state=follower last=1, and not state=leader last=7", "expect 2 state=leader"]);
    let last = answers(&ended).pop().unwrap();
    assert_eq!((&last["ok"], &last["line"], &last["id"]), (&json!(false), &json!(4), &json!(2)));
    assert_eq!(last["found"], json!({ "state": "follower", "last": "1" }));
    assert_eq!(last["expected"], json!({ "state": "leader", "last": "7" }));
    let asked = "nodes 1\nfire 1 election\npropose 1 set x 1\npropose 1 y\nread 1\nexpect 1 read=set x 1,y commit=3\n";
    script(asked).expect(0);
    script("nodes 3\nfire 1 election\nexpect 1 state=candidate pre_vote=true term=0\n").expect(0);
}

/// Which is why a node that lost its disk must not vote.
#[test]
fn a_wiped_node_votes_twice_and_two_nodes_lead_one_term() {
    let first =
        "nodes 3 prevote=off checkquorum=off\nfire 1 election\ndeliver 1 2\ndeliver 2 1\nexpect 1 state=leader\n";
    let second = "fire 3 election\ndeliver 3 2\ndeliver 2 3\n";
    script(&format!("{first}{second}expect 1 state=leader\nexpect 3 state=candidate\n")).expect(0);
    let ended = script(&format!("{first}wipe 2\nexpect 2 up=true term=0 voted_for=none last=0\n{second}")).expect(1);
    ended.says(&["line 10", "election safety: n1 and n3 were both elected"]);
}

#[test]
fn a_message_can_be_delivered_or_dropped_by_its_type() {
    let all = after_election("propose 1 x\nfire 1 heartbeat\ndeliver 1 2 heartbeat\npending\n");
    let kinds: Vec<_> = all.iter().filter(|a| a["from"] == 1 && a["to"] == 2).map(|a| a["entries"].clone()).collect();
    assert_eq!((kinds.len(), kinds[0].as_array().unwrap().len()), (1, 1), "the append is still in flight: {all:?}");
    let all = after_election("propose 1 x\nfire 1 heartbeat\ndrop 1 2 append_entries 2\ndeliver 1 2 heartbeat\n");
    assert_eq!((&all[2]["messages"], &all[3]["messages"]), (&json!(2), &json!(0)));
}

#[test]
fn each_node_can_be_set_up_in_its_own_way() {
    let text = "nodes 3 prevote=off n2:prevote=on\nfire 1 election\nfire 2 election\n\
        expect 1 pre_vote=false term=1\nexpect 2 pre_vote=true term=0\n\
        crash 2\nrestart 2 prevote=off\nfire 2 election\nexpect 2 pre_vote=false term=1\n\
        crash 2\nrestart 2\nfire 2 election\nexpect 2 pre_vote=false term=2\n";
    script(text).expect(0);
}

#[test]
fn progress_shows_what_a_leader_knows_of_the_others() {
    let all = after_election("cut 1 3\npropose 1 x\ndeliver all\nprogress 1\nprogress 2\n");
    let known = |peer: usize| all.iter().find(|answer| answer["peer"] == peer).unwrap();
    assert_eq!((&known(2)["match_index"], &known(2)["next_index"]), (&json!(2), &json!(3)));
    assert_eq!((&known(3)["match_index"], &known(3)["id"]), (&json!(1), &json!(1)));
    assert_eq!(known(2)["flow"], "replicate");
    let refused = all.last().unwrap();
    assert_eq!((&refused["error"], &refused["leader"]), (&json!("not leader"), &json!(1)));
}

#[test]
fn a_trace_on_stdout_is_there_alone_and_can_be_drawn() {
    let mut command = netsim();
    command.args(["raft", "--script", "-", "--trace", "-"]);
    let trace = run_with(command, format!("{ELECTED}state\nexpect 1 state=leader\n")).expect(0);
    let lines = answers(&trace);
    assert_eq!(lines[0]["event"], "trace");
    assert!(lines.iter().all(|line| line["event"].is_string()), "{}", trace.stdout);
    let mut command = netsim();
    command.args(["draw", "-"]);
    assert!(run_with(command, trace.stdout).expect(0).stdout.contains("leader, term 1"));
    let seed = sim(&["raft", "--seed", "3", "--until", "1s", "--trace", "-"]).expect(0);
    assert_eq!(answers(&seed)[0]["event"], "trace");
    let mut command = netsim();
    command.args(["raft", "--script", "-", "--trace", "-"]);
    let failed =
        run_with(command, "nodes 3\nexpect 1 term=7\n").expect(1).says(&["line 2: n1 has term=0, and not term=7"]);
    assert_eq!(answers(&failed)[0]["event"], "trace", "what happened until then");
}

/// No script makes a correct Raft break a promise: `scripts/mutants.sh` runs this with a bug put in.
#[test]
#[cfg_attr(not(mutant = "elected_without_majority"), ignore = "needs NETBELT_MUTANT=elected_without_majority")]
fn a_broken_promise_is_exit_1_and_names_the_line_the_command_and_the_promise() {
    let ended = script("nodes 3 prevote=off\nfire 1 election\ncut 1 2\n# and now another\nfire 2 election\nstate\n");
    let ended = ended.expect(1).says(&["line 5", "election safety"]);
    let violation = answers(&ended).pop().unwrap();
    assert_eq!((&violation["line"], &violation["command"]), (&json!(5), &json!("fire 2 election")));
    assert!(violation["violation"].as_str().unwrap().contains("election safety"), "{violation}");
}
