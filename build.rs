//! Puts a known bug back, when asked to: `NETBELT_MUTANT=commit_old_term cargo test`.
//!
//! An instrument that finds nothing proves nothing, so `scripts/mutants.sh` shows each of them these bugs, one at a time. In
//! the code a bug is `cfg!(mutant = "..")`; without the variable there is none.

use std::env;

/// Every bug by name.
const MUTANTS: &[&str] = &[
    // Elections.
    "elected_without_majority",
    "vote_for_shorter_log",
    "vote_not_persisted",
    "vote_cleared_in_same_term",
    "pre_vote_raises_term",
    "no_stickiness",
    "no_check_quorum",
    // Replication.
    "commit_old_term",
    "commit_beyond_append",
    "overtaken_append_truncates",
    "old_leader_followed",
    "no_back_off",
    "reply_before_persist",
    "leads_with_a_disk_that_stands_still",
    "impatient_with_slow_disks",
    // Reads.
    "read_without_majority",
    "read_before_first_commit",
    "follower_read_does_not_wait",
    "questions_counted_anew",
    // Snapshots.
    "snapshot_whole_at_its_beginning",
    "snapshot_forgets_tail",
    "snapshot_forgets_vote",
    "install_takes_any_part",
    "full_window_stays_full",
    // Members and leadership.
    "learner_counts",
    "change_before_first_commit",
    "two_changes_at_once",
    "truncation_keeps_members",
    // Sessions.
    "retry_applied_twice",
    "failed_condition_forgotten",
    "forgotten_name_runs_again",
    "snapshot_forgets_sessions",
    // Between HTTP and the machine.
    "refused_after_proposal",
    // Who a node is.
    "wiped_node_votes",
    "wiped_node_taken",
    // Bully.
    "bully_promise_not_persisted",
    "bully_two_promises_a_term",
    "bully_leads_without_majority",
    "bully_no_step_down",
    "bully_lease_without_grace",
    "bully_promises_while_it_hears",
    "bully_promises_right_after_a_restart",
    "bully_follows_a_lower_term",
    // The host.
    "messages_before_barrier",
    "later_batch_durable_too_soon",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=NETBELT_MUTANT");
    let names: Vec<_> = MUTANTS.iter().map(|name| format!("{name:?}")).collect();
    println!("cargo::rustc-check-cfg=cfg(mutant, values({}))", names.join(", "));
    match env::var("NETBELT_MUTANT") {
        Ok(name) if MUTANTS.contains(&name.as_str()) => println!("cargo::rustc-cfg=mutant={name:?}"),
        Ok(name) if !name.is_empty() => {
            println!("cargo::error=NETBELT_MUTANT: there is no bug called '{name}'; build.rs lists them");
        }
        Ok(_) | Err(_) => {}
    }
}
