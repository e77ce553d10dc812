//! Why a node is not spoken to, in words for both sides.

use thiserror::Error;

use crate::net::identity::random_id::RandomId;

/// Why a node is not spoken to. The text is for both sides.
#[derive(Debug, Error)]
pub enum PeerRejected {
    /// It belongs elsewhere.
    #[error(
        "{peer} belongs to cluster {theirs} and {me} to cluster {ours}: check --peer and --join of both, and keep both data \
         directories, since each may have data that nobody else has"
    )]
    OtherCluster {
        /// This node.
        me: String,
        /// The other.
        peer: String,
        /// This node's cluster.
        ours: RandomId,
        /// The other's.
        theirs: RandomId,
    },
    /// It has not the past of the node of that name.
    #[error(
        "{me} knows {peer} by another data directory: it was wiped, or replaced, and must not vote with what it forgot; \
         remove the member and add it again: raft-ctl members remove {peer}, then raft-node --id {peer} --join HOST:PORT with \
         a new, empty --data-dir"
    )]
    OtherIncarnation {
        /// This node.
        me: String,
        /// The other.
        peer: String,
    },
    /// It has not begun, and this node has data, which the node of that name may have vouched for.
    #[error(
        "{peer} has a new, empty data directory, and {me} has data{} and does not know {peer} by that directory: {peer} must not \
         vote with what it forgot. Keep the data directory of {me}. Start {peer} with its old directory; if that is lost: \
         raft-ctl members remove {peer}, then raft-node --id {peer} --join HOST:PORT with an empty --data-dir; if those of a \
         majority are lost, first stop {me} and start it once with --force-new-cluster",
        .cluster.map_or_else(String::new, |cluster| format!(" of cluster {cluster}"))
    )]
    Emptied {
        /// This node.
        me: String,
        /// The other.
        peer: String,
        /// This node's cluster, once it is known.
        cluster: Option<RandomId>,
    },
    /// It has the past of the node of that name only up to some day.
    #[error(
        "{me} knows {peer} by another copy of its data directory, whose start {start} is unknown to this one: it was cloned, or \
         put back to how it was before, and must not vote with what it forgot; stop this copy and start the other one, or, if \
         that is gone, remove the member and add it again: raft-ctl members remove {peer}, then raft-node --id {peer} --join \
         HOST:PORT with a new, empty --data-dir. If this copy is the right one, and no other is ever started again: raft-ctl \
         members vouch {peer} --nodes with the address of {me}"
    )]
    OtherPast {
        /// This node.
        me: String,
        /// The other.
        peer: String,
        /// The number of the start that it should know.
        start: u64,
    },
    /// It is no member any more.
    #[error(
        "{peer} was removed from the cluster of {me}; to let it in again: raft-node --id {peer} --join HOST:PORT with an empty \
         --data-dir"
    )]
    Removed {
        /// This node.
        me: String,
        /// The other.
        peer: String,
    },
    /// Nothing speaks for it.
    #[error(
        "{peer} is not a member of the cluster of {me}: check --peer of {me}; a new node joins when it is started with an \
         empty --data-dir and --join HOST:PORT of a member"
    )]
    NotAMember {
        /// This node.
        me: String,
        /// The other.
        peer: String,
    },
    /// It cannot be remembered.
    #[error("{me} cannot remember {peer}: {why}")]
    Forgetful {
        /// This node.
        me: String,
        /// The other.
        peer: String,
        /// What failed.
        why: String,
    },
}
