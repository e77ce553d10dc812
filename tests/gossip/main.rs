//! A protocol that netbelt does not have, to show what a new one needs: a machine, a scenario and a checker for the simulated
//! world, and for the real one a socket, or connections and a disk. It imports nothing of Raft.

mod machine;
mod simulation;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use machine::{Gossip, Largest, Raise, Raised};
use netbelt::host::{Host, Output};
use netbelt::protocol::{Input, Time};

/// Who has heard nothing for so long never will.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn who_hears_a_smaller_number_answers_with_the_larger_one() {
    let other = SocketAddr::from(([10, 0, 0, 2], 1));
    let mut host = Host::new(Gossip::new([other], 1), 1);
    host.step(Time::ZERO, Input::Requested(Raise(7)));
    host.step(Time::ZERO, Input::Received { from: other, message: Largest(5) });
    assert!(matches!(host.next_output(), Some(Output::Emit(Raised(7)))));
    assert!(matches!(host.next_output(), Some(Output::Send { to, message: Largest(7) }) if to == other));
    assert!(host.next_output().is_none() && host.machine().largest() == 7);
}
