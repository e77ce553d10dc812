//! The real world: nodes on UDP sockets of this machine, without a disk.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use netbelt::net::driver::{Driver, Handle};
use netbelt::net::transport::Transport;
use netbelt::net::udp::{Udp, UdpMetrics};
use netbelt::net::writer::NoJournal;
use netbelt::wire::Wire;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::PATIENCE;
use crate::machine::{Gossip, Largest, Raise, Raised};

struct Node {
    handle: Handle<Gossip>,
    raised: mpsc::UnboundedReceiver<Raised>,
    metrics: UdpMetrics,
    tasks: JoinSet<()>,
}

impl Node {
    async fn start(udp: Udp, others: impl IntoIterator<Item = SocketAddr>, seed: u64) -> Self {
        let (events, raised) = mpsc::unbounded_channel();
        let metrics = udp.metrics().clone();
        let (mut driver, handle) =
            Driver::new(Gossip::new(others, seed), seed, Duration::ZERO, NoJournal, udp.clone(), move |event| {
                events.send(event).unwrap();
            });
        let (mut tasks, receiver) = (JoinSet::new(), handle.clone());
        tasks.spawn(async move { driver.run(CancellationToken::new()).await.expect("there is no disk to fail") });
        tasks.spawn(async move { udp.receive(&receiver).await.expect("the socket works") });
        handle.start().await.unwrap();
        Self { handle, raised, metrics, tasks }
    }

    async fn raise(&self, to: u64) {
        self.handle.request(Raise(to)).await.unwrap();
    }

    /// What it comes to know next.
    async fn hears(&mut self) -> Raised {
        timeout(PATIENCE, self.raised.recv()).await.expect("it hears of it").unwrap()
    }

    /// As a crash does it. Its port is free then.
    async fn drop(mut self) {
        self.tasks.shutdown().await;
    }
}

fn bind(addr: &str) -> (Udp, SocketAddr) {
    let udp = Udp::bind(addr, &[addr.parse().unwrap()]).unwrap();
    let addr = udp.local_addr().unwrap();
    (udp, addr)
}

fn datagram(message: Largest) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.freeze()
}

#[tokio::test]
async fn all_come_to_know_a_number_and_one_that_starts_anew_learns_it_again() {
    let sockets: Vec<_> = (0..5).map(|_| bind("127.0.0.1:0")).collect();
    let addrs: Vec<_> = sockets.iter().map(|(_, addr)| *addr).collect();
    let others = |own: SocketAddr| addrs.clone().into_iter().filter(move |addr| *addr != own);
    let mut nodes = Vec::new();
    for ((udp, addr), seed) in sockets.into_iter().zip(1..) {
        nodes.push(Node::start(udp, others(addr), seed).await);
    }
    nodes[0].raise(7).await;
    for node in &mut nodes {
        assert_eq!(node.hears().await, Raised(7));
    }

    nodes.pop().unwrap().drop().await;
    let (udp, addr) = bind(&addrs[4].to_string());
    let mut anew = Node::start(udp, others(addr), 6).await;
    assert_eq!(anew.hears().await, Raised(7), "it had forgotten, and is told");
    anew.raise(8).await;
    for node in &mut nodes {
        assert_eq!(node.hears().await, Raised(8));
    }
}

#[tokio::test]
async fn what_is_no_message_changes_nothing_and_is_counted() {
    let (udp, addr) = bind("127.0.0.1:0");
    let mut node = Node::start(udp, [], 1).await;
    let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let long = [[9; 8].as_slice(), &[0; 2000]].concat();
    for garbage in [&[][..], b"garbage", b"nine long", &long] {
        outside.send_to(garbage, addr).await.unwrap();
    }
    // On one machine datagrams stay in order: when this one is taken, the others have been.
    outside.send_to(&datagram(Largest(7)), addr).await.unwrap();
    assert_eq!(node.hears().await, Raised(7), "and of nothing before");
    assert_eq!((node.metrics.bad.get(), node.metrics.unsent.get()), (4, 0));

    outside.send_to(&datagram(Largest(5)), addr).await.unwrap();
    let mut answer = [0; 64];
    let (len, from) = timeout(PATIENCE, outside.recv_from(&mut answer)).await.expect("it goes on").unwrap();
    assert_eq!((&answer[..len], from), (&datagram(Largest(7))[..], addr));
}

#[tokio::test]
async fn a_socket_of_every_address_knows_a_peer_by_one_address() {
    let (everywhere, addr) = bind("[::]:0");
    let (four, at_four) = bind("127.0.0.1:0");
    let (six, at_six) = bind("[::1]:0");
    let port = addr.port();
    let mut all = [
        Node::start(everywhere, [at_four, at_six], 1).await,
        Node::start(four, [SocketAddr::from(([127, 0, 0, 1], port))], 2).await,
        Node::start(six, [SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))], 3).await,
    ];
    for (from, to) in [(1, 1), (2, 2), (0, 3)] {
        all[from].raise(to).await;
        for node in &mut all {
            assert_eq!(node.hears().await, Raised(to));
        }
    }
    assert!(all.iter().all(|node| node.metrics.bad.get() + node.metrics.unsent.get() == 0));
}

#[tokio::test]
async fn what_cannot_be_sent_is_dropped_and_counted() {
    let (mut udp, _) = bind("127.0.0.1:0");
    let put = |udp: &mut Udp, to: &str| Transport::<Gossip>::put(udp, to.parse().unwrap(), &Largest(7));
    put(&mut udp, "[::1]:9"); // from a socket that has IPv4 alone
    assert_eq!(udp.metrics().unsent.get(), 1);
    put(&mut udp, "127.0.0.1:9"); // where nobody listens, which nobody says
    assert_eq!(udp.metrics().unsent.get(), 1);
}
