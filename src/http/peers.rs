//! How a node of any protocol dials its peers and hears them, over an [upgrade].
//!
//! Whom it takes says its [`Admission`]; what it makes of an answer when it dials, its [`Call`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::reply::Reply;
use super::upgrade::{self, Admission, DialError, PeerProtocol};
use crate::defaults::{CONNECT_TIMEOUT, LINK_STANDS};
use crate::net::driver::Handle;
use crate::net::link;
use crate::net::place::Place;
use crate::net::session::Session;
use crate::node_id::NodeId;
use crate::protocol::Protocol;
use crate::wire::Wire;

/// One attempt to reach a peer. As it stands a node says no more than its name, and takes whoever takes it.
pub(super) trait Call {
    /// Adds to the headers what else the dialler says of itself.
    fn introduce(&self, _headers: &mut HeaderMap) {}

    /// What is to be done about an answer.
    fn judge(&mut self, status: StatusCode, _headers: &HeaderMap) -> Verdict {
        if status == StatusCode::SWITCHING_PROTOCOLS { Verdict::Take } else { Verdict::Refused }
    }

    /// A peer that took this node was told that it is there.
    fn reached_at(&self, _own: String) {}
}

/// What a dialler makes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Messages may go.
    Take,
    /// Not now, and nothing is wrong, or it has been said.
    Leave,
    /// The other does not take this node, and says why.
    Refused,
    /// This node does not take the other, for this reason.
    Refuse(&'static str),
    /// Asks once more.
    Again,
}

/// Dials `to` at `addr` as node `from`, which is at `place`.
///
/// # Errors
/// When nobody answers there in time, or somebody who is not `to`, or who does not take the dialler.
pub(super) async fn dial(
    addr: &str,
    protocol: PeerProtocol,
    (from, place): (NodeId, &Place),
    to: NodeId,
    mut call: impl Call,
) -> Result<Option<(TcpStream, Session)>, DialError> {
    let dialled = async {
        loop {
            let (response, own) =
                upgrade::knock(addr, protocol, (from, place), to, |headers| call.introduce(headers)).await?;
            let status = response.status();
            if let Some(own) = own
                && status == StatusCode::SWITCHING_PROTOCOLS
            {
                call.reached_at(own);
            }
            return match call.judge(status, response.headers()) {
                Verdict::Take => {
                    upgrade::into_stream(addr, response).await.map(|stream| Some((stream, Session::Plain)))
                }
                Verdict::Leave => Ok(None),
                Verdict::Refused => Err(upgrade::refused(addr, response).await),
                Verdict::Refuse(why) => {
                    Err(DialError::Refused { addr: addr.to_owned(), status, reason: why.to_owned() })
                }
                Verdict::Again => continue,
            };
        }
    };
    let dialled = tokio::time::timeout(CONNECT_TIMEOUT, dialled).await;
    dialled.unwrap_or_else(|_| Err(DialError::TimedOut { addr: addr.to_owned() }))
}

/// The stream on which each peer is heard.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<BTreeMap<NodeId, CancellationToken>>);

impl Streams {
    /// `from` has connected: a newer stream takes the place of the older one. Cancelled when this one is replaced.
    fn begin(&self, from: NodeId) -> CancellationToken {
        let replaced = CancellationToken::new();
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = streams.insert(from, replaced.clone()) {
            older.cancel();
        }
        replaced
    }
}

/// Answers a peer that dials this node, and hears it from then on.
pub(super) fn accept<A, P>(
    request: Request<Incoming>,
    admission: &Arc<A>,
    streams: &Arc<Streams>,
    handle: &Handle<P>,
) -> Reply
where
    A: Admission + Send + Sync + 'static,
    P: Protocol<Peer = NodeId, Message: Wire + Send, Command: Send, Timer: Send> + 'static,
{
    let (hears, streams, handle) = (Arc::clone(admission), Arc::clone(streams), handle.clone());
    upgrade::accept(request, &**admission, async move |from, stream| {
        let replaced = streams.begin(from);
        tracing::debug!("{from} is connected");
        let since = Instant::now();
        tokio::select! {
            received = link::receive(from, (stream, Session::Plain), &handle) => match received {
                Ok(()) => tracing::debug!("{from} has hung up"),
                Err(error) => hears.hung_up(from, &error.to_string(), since.elapsed() > LINK_STANDS),
            },
            () = replaced.cancelled() => tracing::debug!("{from} has connected anew"),
            () = hears.until_unwanted(from) => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use bytes::{BufMut, Bytes, BytesMut};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;
    use crate::http::server::{self, AsyncHandler};
    use crate::http::upgrade::Version;
    use crate::net::driver::Driver;
    use crate::net::link::Outbox;
    use crate::net::links::Links;
    use crate::net::writer::NoJournal;
    use crate::protocol::{Effects, Input, NoRecord, Time};
    use crate::wire::{WireError, at_end};

    const SAYS: PeerProtocol = PeerProtocol { name: "netbelt-parrot", number: 7 };

    /// Says to another what it is asked to, and tells what it hears.
    struct Parrot;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Word(u8);

    impl Wire for Word {
        fn encode(&self, out: &mut BytesMut) {
            out.put_u8(self.0);
        }

        fn decode(mut bytes: Bytes) -> Result<Self, WireError> {
            let word = bytes.split_to(1.min(bytes.len())).first().copied().ok_or(WireError::Truncated)?;
            at_end(&bytes).map(|()| Self(word))
        }
    }

    impl Protocol for Parrot {
        type Peer = NodeId;
        type Message = Word;
        type Command = (NodeId, Word);
        type Timer = ();
        type Record = NoRecord;
        type Event = (NodeId, Word);

        fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Effects<Self>) {
            match input {
                Input::Requested((to, word)) => out.send(to, word),
                Input::Received { from, message } => out.emit((from, message)),
                Input::Started | Input::Elapsed(()) | Input::Synced { .. } => {}
            }
        }
    }

    /// Takes whoever knows its name.
    struct Open(NodeId);

    impl Admission for Open {
        const PROTOCOL: PeerProtocol = SAYS;
        type Hello = ();

        fn id(&self) -> NodeId {
            self.0
        }

        fn hello_in(_: &HeaderMap) -> Result<(), &'static str> {
            Ok(())
        }

        fn admit(&self, _: NodeId, (): &(), _: Option<&str>, _: Option<Version>) -> Result<HeaderMap, Box<Reply>> {
            Ok(HeaderMap::new())
        }
    }

    struct Plain;

    impl Call for Plain {}

    #[derive(Clone)]
    struct Node(Arc<Open>, Arc<Streams>, Handle<Parrot>);

    impl AsyncHandler for Node {
        async fn answer(&self, request: Request<Incoming>, _: bool) -> Reply {
            accept(request, &self.0, &self.1, &self.2)
        }
    }

    /// Node `id`, which dials these; and what it hears.
    fn start(
        id: NodeId,
        listener: TcpListener,
        others: &BTreeMap<NodeId, String>,
    ) -> (Handle<Parrot>, mpsc::UnboundedReceiver<(NodeId, Word)>) {
        let (place, links) = (Place::Listening(listener.local_addr().unwrap()), Links::default());
        links.set(others, |to, addr: String, outbox: Arc<Outbox>| {
            let place = place.clone();
            async move { link::keep_up(&addr, &outbox, || dial(&addr, SAYS, (id, &place), to, Plain)).await }
        });
        let (hears, heard) = mpsc::unbounded_channel();
        let on_event = move |event| hears.send(event).unwrap_or_default();
        let (mut driver, handle) = Driver::new(Parrot, 1, Duration::ZERO, NoJournal, links, on_event);
        tokio::spawn(async move { driver.run(CancellationToken::new()).await });
        let node = Node(Arc::new(Open(id)), Arc::default(), handle.clone());
        tokio::spawn(server::serve(listener, node, CancellationToken::new()));
        (handle, heard)
    }

    #[tokio::test]
    async fn two_nodes_of_another_protocol_dial_and_hear_each_other_and_nobody_else() {
        let (n1, n2) = (NodeId::numbered(1), NodeId::numbered(2));
        let listeners =
            [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let addrs: Vec<SocketAddr> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let [first, second] = listeners;
        let (one, mut heard_by_one) = start(n1, first, &BTreeMap::from([(n2, addrs[1].to_string())]));
        let (two, mut heard_by_two) = start(n2, second, &BTreeMap::from([(n1, addrs[0].to_string())]));
        for (says, to, from, heard) in [(&one, n2, n1, &mut heard_by_two), (&two, n1, n2, &mut heard_by_one)] {
            // Until the link is up, what is said is lost.
            let said = loop {
                says.request((to, Word(9))).await.unwrap();
                if let Ok(said) = tokio::time::timeout(Duration::from_millis(20), heard.recv()).await {
                    break said;
                }
            };
            assert_eq!(said, Some((from, Word(9))));
        }
        let place = Place::Said("n3.example:1".to_owned());
        let n3 = (NodeId::numbered(3), &place);
        let other = dial(&addrs[0].to_string(), SAYS, n3, n2, Plain).await.unwrap_err();
        assert!(matches!(&other, DialError::Refused { status: StatusCode::MISDIRECTED_REQUEST, .. }), "{other}");
        let newer = PeerProtocol { number: 8, ..SAYS };
        let other = dial(&addrs[0].to_string(), newer, n3, n1, Plain).await.unwrap_err().to_string();
        assert!(other.contains("speaks netbelt-parrot/7") && other.contains("speaks netbelt-parrot/8"), "{other}");
    }
}
