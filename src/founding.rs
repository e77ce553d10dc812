//! When a new node may begin: how a majority that lost its disks is kept from beginning a second cluster beside what is left.
//!
//! A wiped member is known by its peers' memory: they met another data directory under its name. That keeps it from voting
//! with them, but not from voting with others that were wiped, too, and two wiped nodes of three are a majority. So a node with
//! an empty directory is *new*: it neither sends nor takes a message of its protocol. It has *begun* for ever once each of its
//! peers has vouched for it, and before that it promised nothing to anybody. A peer vouches by saying that it knows the node
//! by exactly this directory; for it
//!
//! - remembers, durably and for ever, whom it knew when it began;
//! - and while it is new it takes, and writes down, whoever comes: it has no data that could be forgotten beside it.
//!
//! So whoever has begun knows each peer by the directory with which that peer began, or may yet begin. One that is emptied
//! afterwards is vouched for by nobody who has data, waits for ever, and says so. A node that has begun and is still alone is
//! no different from one whose peers are down, so a crash between any two steps costs nothing: what was written down is there,
//! and a vouching that was heard and forgotten is asked for again.
//!
//! Whether a directory is the same one, and what is durable, is the affair of whoever uses this: `net` and `sim` do.

/// What a node says to a peer before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The random number of its data directory.
    pub incarnation: u64,
    /// Whether it has begun, and so may have data.
    pub has_begun: bool,
    /// The directory by which it knows the one it speaks to.
    pub knows: Option<u64>,
}

/// What an introduction means to a new node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The peer vouches for it.
    Vouched,
    /// The peer is new, and has not met it yet.
    NotYet,
    /// The peer has begun with another directory under this name, or without any.
    HasData,
}

/// What that says to a new node whose directory is `own`.
pub fn word(own: u64, said: &Introduction) -> Word {
    match (said.knows, said.has_begun) {
        (Some(known), _) if known == own => Word::Vouched,
        (_, false) => Word::NotYet,
        (_, true) => Word::HasData,
    }
}

/// Whether a node takes who introduces itself for the peer of that name, which it remembers by the directory `known`. When
/// it does, it remembers that one. `is_awaited`: an operator has said that the peer has never had data.
pub fn takes(has_begun: bool, known: Option<u64>, is_awaited: bool, said: &Introduction) -> bool {
    match known {
        _ if !has_begun || cfg!(mutant = "wiped_node_taken") => true,
        Some(known) => known == said.incarnation,
        // One that has begun is vouched for by others; it can have been a member where this node never was.
        None => said.has_begun || is_awaited,
    }
}

/// Whether a new node may begin: each of its peers is remembered by the directory, the first, with which it vouched, the
/// second.
pub fn may_begin(peers: impl IntoIterator<Item = (Option<u64>, Option<u64>)>) -> bool {
    cfg!(mutant = "wiped_node_votes") || peers.into_iter().all(|(known, vouched)| known.is_some() && known == vouched)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Introduction = Introduction { incarnation: 2, has_begun: false, knows: None };
    const BEGUN: Introduction = Introduction { incarnation: 2, has_begun: true, knows: None };

    #[test]
    fn a_new_node_is_vouched_for_by_who_knows_its_directory_alone() {
        for said in [NEW, BEGUN] {
            assert_eq!(word(1, &Introduction { knows: Some(1), ..said }), Word::Vouched);
        }
        for knows in [None, Some(7)] {
            assert_eq!(word(1, &Introduction { knows, ..NEW }), Word::NotYet);
            assert_eq!(word(1, &Introduction { knows, ..BEGUN }), Word::HasData);
        }
    }

    #[test]
    fn a_new_node_takes_everybody_and_one_that_has_begun_nobody_who_is_emptied() {
        assert!(takes(false, Some(7), false, &NEW) && takes(false, None, false, &BEGUN));
        assert!(takes(true, Some(2), false, &NEW) && takes(true, Some(2), false, &BEGUN));
        assert!(!takes(true, Some(7), true, &NEW) && !takes(true, Some(7), false, &BEGUN));
        assert!(!takes(true, None, false, &NEW) && takes(true, None, true, &NEW) && takes(true, None, false, &BEGUN));
    }

    #[test]
    fn it_begins_when_all_have_vouched_as_those_that_it_remembers() {
        assert!(may_begin([]) && may_begin([(Some(2), Some(2)), (Some(3), Some(3))]));
        for missing in [(Some(2), None), (Some(2), Some(7)), (None, None), (None, Some(2))] {
            assert!(!may_begin([(Some(3), Some(3)), missing]), "{missing:?}");
        }
    }
}
