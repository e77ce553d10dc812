//! Messages in flight, in the order of sending, and what a script does with them.

use super::{Answer, Link, Script};
use crate::node_id::NodeId;
use crate::protocol::Input;
use crate::raft::{self, Raft};
use crate::sim::observe::Observable;
use crate::sim::raft::observe::is_called;
use crate::sim::trace::{Flight, Loss, What};

/// A message on its way.
pub(super) struct Sent {
    id: u64,
    link: Link,
    message: raft::Message,
}

impl Script {
    pub(super) fn send(&mut self, link: Link, message: raft::Message) {
        self.next_flight += 1;
        let sent = Sent { id: self.next_flight, link, message };
        self.trace.moment(self.now, || What::Sent(sent.flight()));
        if self.cuts.contains(&link) {
            self.trace.moment(self.now, || What::Lost(sent.flight(), Loss::Cut));
        } else {
            self.in_flight.push(sent);
        }
    }

    /// Delivers up to `most` messages, of one link or of all, of one kind or of all.
    pub(super) fn deliver(&mut self, link: Option<Link>, kind: Option<&str>, most: usize) -> Result<Answer, String> {
        let mut delivered = 0;
        while delivered < most {
            let Some(place) = self.oldest(link, kind) else { break };
            let sent = self.in_flight.remove(place);
            delivered += 1;
            self.trace.next_step();
            let Link { from, to } = sent.link;
            if self.cuts.contains(&sent.link) {
                self.trace.moment(self.now, || What::Lost(sent.flight(), Loss::Cut));
            } else if self.machine(to).is_none() {
                self.trace.moment(self.now, || What::Lost(sent.flight(), Loss::Down));
            } else {
                self.trace.moment(self.now, || What::Delivered(sent.flight()));
                self.step(to, Input::Received { from: NodeId::numbered(from), message: sent.message })?;
            }
        }
        Ok(Answer::Moved(delivered))
    }

    fn oldest(&self, link: Option<Link>, kind: Option<&str>) -> Option<usize> {
        self.in_flight.iter().position(|sent| {
            link.is_none_or(|link| sent.link == link) && kind.is_none_or(|kind| is_called(&sent.message, kind))
        })
    }

    pub(super) fn lose(&mut self, link: Option<Link>, kind: Option<&str>, most: usize) -> Answer {
        let mut lost = 0;
        while lost < most
            && let Some(place) = self.oldest(link, kind)
        {
            let sent = self.in_flight.remove(place);
            lost += 1;
            self.trace.moment(self.now, || What::Lost(sent.flight(), Loss::Dropped));
        }
        Answer::Moved(lost)
    }

    /// The copy is sent now, behind everything else.
    pub(super) fn duplicate(&mut self, link: Link) -> Answer {
        let Some(place) = self.oldest(Some(link), None) else { return Answer::Moved(0) };
        let message = self.in_flight[place].message.clone();
        self.send(link, message);
        Answer::Moved(1)
    }

    /// The messages of the link change places among themselves.
    pub(super) fn reorder(&mut self, link: Link) -> Answer {
        let places: Vec<_> =
            self.in_flight.iter().enumerate().filter(|(_, sent)| sent.link == link).map(|(place, _)| place).collect();
        for (&a, &b) in places.iter().zip(places.iter().rev()).take(places.len() / 2) {
            self.in_flight.swap(a, b);
        }
        Answer::Moved(places.len())
    }

    pub(super) fn cut(&mut self, links: impl IntoIterator<Item = Link>) -> Answer {
        for link in links {
            if self.cuts.insert(link) {
                self.trace.moment(self.now, || What::Cut { from: link.from, to: link.to });
            }
        }
        Answer::Done
    }

    pub(super) fn join(&mut self, links: impl IntoIterator<Item = Link>) -> Answer {
        for link in links {
            if self.cuts.remove(&link) {
                self.trace.moment(self.now, || What::Joined { from: link.from, to: link.to });
            }
        }
        Answer::Done
    }
}

impl Sent {
    pub(super) fn flight(&self) -> Flight {
        Flight { id: self.id, from: self.link.from, to: self.link.to, label: Raft::label(&self.message) }
    }
}
