//! Messages in flight, in the order of sending, and what a script does with them.

use std::collections::BTreeSet;

use super::command::Link;
use super::recorder::Recorder;
use crate::raft::{self, Raft};
use crate::sim::observe::Observable;
use crate::sim::raft::observe::is_called;
use crate::sim::trace::{Flight, Loss, What};

/// A message on its way.
pub(super) struct Sent {
    id: u64,
    pub(super) link: Link,
    pub(super) message: raft::Message,
}

/// All of them, and the links that take nothing.
#[derive(Default)]
pub(super) struct Network {
    /// In the order of sending.
    in_flight: Vec<Sent>,
    cuts: BTreeSet<Link>,
    latest: u64,
}

impl Network {
    pub(super) fn send(&mut self, link: Link, message: raft::Message, recorder: &mut Recorder) {
        self.latest += 1;
        let sent = Sent { id: self.latest, link, message };
        recorder.note(|| What::Sent(sent.flight()));
        if self.is_cut(link) {
            recorder.note(|| What::Lost(sent.flight(), Loss::Cut));
        } else {
            self.in_flight.push(sent);
        }
    }

    pub(super) fn is_cut(&self, link: Link) -> bool {
        self.cuts.contains(&link)
    }

    /// The links that are cut.
    pub(super) const fn cuts(&self) -> &BTreeSet<Link> {
        &self.cuts
    }

    /// The messages, oldest first.
    pub(super) fn in_flight(&self) -> &[Sent] {
        &self.in_flight
    }

    /// Takes the oldest message out, of one link or of all, of one kind or of all.
    pub(super) fn take(&mut self, link: Option<Link>, kind: Option<&str>) -> Option<Sent> {
        let place = self.in_flight.iter().position(|sent| {
            link.is_none_or(|link| sent.link == link) && kind.is_none_or(|kind| is_called(&sent.message, kind))
        })?;
        Some(self.in_flight.remove(place))
    }

    /// Loses up to `most` messages, and says how many.
    pub(super) fn lose(
        &mut self,
        link: Option<Link>,
        kind: Option<&str>,
        most: usize,
        recorder: &mut Recorder,
    ) -> usize {
        let lost = std::iter::from_fn(|| self.take(link, kind)).take(most);
        lost.map(|sent| recorder.note(|| What::Lost(sent.flight(), Loss::Dropped))).count()
    }

    /// The copy of the oldest is sent now, behind everything else. How many there are.
    pub(super) fn duplicate(&mut self, link: Link, recorder: &mut Recorder) -> usize {
        let Some(oldest) = self.in_flight.iter().find(|sent| sent.link == link) else { return 0 };
        self.send(link, oldest.message.clone(), recorder);
        1
    }

    /// The messages of the link change places among themselves. How many do.
    pub(super) fn reorder(&mut self, link: Link) -> usize {
        let places: Vec<_> =
            self.in_flight.iter().enumerate().filter(|(_, sent)| sent.link == link).map(|(place, _)| place).collect();
        for (&a, &b) in places.iter().zip(places.iter().rev()).take(places.len() / 2) {
            self.in_flight.swap(a, b);
        }
        places.len()
    }

    pub(super) fn cut(&mut self, links: impl IntoIterator<Item = Link>, recorder: &mut Recorder) {
        for link in links {
            if self.cuts.insert(link) {
                recorder.note(|| What::Cut { from: link.from, to: link.to });
            }
        }
    }

    pub(super) fn join(&mut self, links: impl IntoIterator<Item = Link>, recorder: &mut Recorder) {
        for link in links {
            if self.cuts.remove(&link) {
                recorder.note(|| What::Joined { from: link.from, to: link.to });
            }
        }
    }
}

impl Sent {
    pub(super) fn flight(&self) -> Flight {
        Flight { id: self.id, from: self.link.from, to: self.link.to, label: Raft::label(&self.message) }
    }
}
