//! `netsim raft`: one seed, many seeds, or a script.

use super::results::Results;
use super::{script, sweep};
use crate::cli::{Common, Failure, Output};
use crate::sim::raft::cluster::Cluster;

/// Simulate Raft: seeds that decide every fault, or a script that says what happens
///
/// A seed decides everything: how often each kind of fault happens, when, and to whom. Faults last for --until of virtual
/// time; then all is healed, and every node must serve a write within 3 s. Clients write and read all the time, and what
/// they saw must be linearizable; the properties of Raft's Figure 3 are checked after whatever happens.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    netsim raft --seeds 0..1000\n  \
    netsim raft --seeds 0..100 --nodes 3 --until 10m --faults crash,disk\n  \
    netsim raft --seed 28 --nodes 3 --faults crash,delay --trace - | netsim draw - > run.svg\n  \
    netsim raft --script figure-8.netsim\n\n\
Scripts: one command a line, # begins a comment. A node is 2 or n2. Each answers a JSON line with\n\
    \"ok\"; `state` a line a node; `pending` and `progress` a line a message or a member, then \"ok\".\n\
    What cannot be done now is \"ok\":false with \"error\", and the script goes on. A mistake ends it\n\
    (exit 2), and so does a violation or what is not as expected (exit 1).\n  \
    nodes COUNT [OPTION..]  comes first. Options: prevote=off; checkquorum=off, with which nodes\n                          \
    also vote while they hear a leader; maxappend=1, an append carries\n                          \
    one entry. n2:prevote=off is for n2 alone\n  \
    fire N election|heartbeat   a timer runs out, now\n  \
    elapse MS [N]           time passes for all, or for N alone: timers run out, messages wait\n  \
    propose N TEXT          answers \"index\" and \"term\", or \"error\":\"not leader\"\n  \
    read N                  linearizable: answers \"read\":[..], all that N has applied, when it may\n  \
    deliver A B [TYPE] [COUNT]   the oldest message from A to B arrives, or the COUNT oldest; of this\n                          \
    TYPE only, such as append_entries, heartbeat, request_vote_reply\n  \
    deliver all             messages arrive, oldest first, until none is in flight\n  \
    drop A B [TYPE] [COUNT], drop all   they are lost\n  \
    dup A B                 the oldest is sent again, behind the others\n  \
    reorder A B             the newest comes first\n  \
    cut A B, join A B       one direction; what a cut link has in flight is lost when its turn comes\n  \
    isolate N [M..], heal   all links between these and the others; of everybody\n  \
    hold-disk N, sync N     nothing becomes durable until sync\n  \
    crash N, restart N [OPTION..]   what is not durable is lost\n  \
    wipe N                  N loses its disk and starts as new. It has forgotten its vote and can give\n                          \
    it twice: two leaders of one term. So raft-node lets no wiped node vote,\n                          \
    which the bare machine here does not know of\n  \
    snapshot N              N forgets the log that its state replaces\n  \
    transfer N M            leader N hands over to M\n  \
    add N [OPTION..], remove N   asked of the leader; a new node begins as a learner\n  \
    state [N], pending      nodes; messages in flight\n  \
    progress N              what leader N knows of the others: match_index, next_index, flow\n  \
    expect N FIELD=VALUE..  ends the script with exit 1 when it is not so, and says what is. Fields\n                          \
    are those of `state`, terms (of the log: 1,1,2) and read (the latest\n                          \
    read's answer: x,y, or waits, or none); nobody is none")]
pub(super) struct Options {
    #[command(flatten)]
    sweep: sweep::SeedOptions<Cluster>,
    /// Do what this script says (- is stdin)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "seeds", "seed", "until", "faults", "check_determinism", "workers"])]
    script: Option<String>,
    /// Write what happens as JSON lines to FILE: of the one seed, of the first that fails, or of the script. With - they go to
    /// stdout, in place of the results
    #[arg(long, value_name = "FILE")]
    trace: Option<String>,
}

/// Runs what was asked for.
pub(super) async fn run(options: Options, common: &Common, output: &Output) -> Result<(), Failure> {
    let results = Results::new(output, options.trace.as_deref());
    if let Some(path) = &options.script {
        return script::run(path, &results);
    }
    let nothing = "say what to run: --seeds 0..100, --seed 17 or --script FILE (see netsim raft --help)";
    sweep::run("raft", nothing, &options.sweep, common, &results).await
}
