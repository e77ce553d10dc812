//! The real world with a disk: nodes on TCP connections of this machine, each with a log.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use netbelt::net::disk::{Log, Options};
use netbelt::net::driver::{Driver, Handle};
use netbelt::net::link;
use netbelt::net::links::Links;
use netbelt::net::session::Session;
use netbelt::net::tcp::{self, Acceptor};
use netbelt::net::writer::{DiskMetrics, RecordKind, Writer};
use netbelt::wire::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::PATIENCE;
use crate::machine::{Gossip, Largest, Raise, Raised};

struct Node {
    handle: Handle<Gossip<Largest>>,
    raised: mpsc::UnboundedReceiver<Raised>,
    tasks: JoinSet<()>,
    _links: Links<SocketAddr>,
}

impl Node {
    /// A node on its port, and on the log in `dir`, if there is one already.
    async fn start(dir: &Path, listener: TcpListener, all: &[SocketAddr], seed: u64) -> Self {
        let own = listener.local_addr().unwrap();
        let others: Vec<_> = all.iter().copied().filter(|addr| *addr != own).collect();
        let mut recovery = Log::open(dir, Options::new(seed)).unwrap();
        let records = recovery.by_ref().map(|record| Largest::decode(record.unwrap()).unwrap());
        let machine = Gossip::recovered(records, others.clone(), seed);
        let (log, _) = recovery.finish().unwrap();
        let disk = Writer::start(log, DiskMetrics::default(), RecordKind::default()).unwrap();

        let (links, (events, raised)) = (Links::default(), mpsc::unbounded_channel());
        let on_event = move |event| events.send(event).unwrap();
        let (mut driver, handle) = Driver::new(machine, seed, Duration::ZERO, disk, links.clone(), on_event);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { driver.run(CancellationToken::new()).await.expect("the disk works") });
        tasks.spawn(accept(listener, handle.clone()));
        let wanted = others.iter().map(|other| (*other, other.to_string())).collect();
        links.set(&wanted, |_, addr, outbox| async move {
            let dial = || async {
                let mut stream = tcp::dial(&addr).await?;
                stream.write_u16(own.port()).await?; // who speaks
                Ok::<_, io::Error>(Some((stream, Session::default())))
            };
            link::keep_up(&addr, &outbox, dial).await;
        });
        handle.start().await.unwrap();
        Self { handle, raised, tasks, _links: links }
    }

    async fn raise(&self, to: u64) {
        self.handle.request(Raise(to)).await.unwrap();
    }

    /// What it comes to know next.
    async fn hears(&mut self) -> Raised {
        timeout(PATIENCE, self.raised.recv()).await.expect("it hears of it").unwrap()
    }

    /// As a crash does it. Its port is free then.
    async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Takes the others' links; they end with this task.
async fn accept(listener: TcpListener, handle: Handle<Gossip<Largest>>) {
    let (mut acceptor, mut links) = (Acceptor::new(listener), JoinSet::new());
    loop {
        let (mut stream, _) = acceptor.next().await;
        let handle = handle.clone();
        links.spawn(async move {
            if let Ok(port) = stream.read_u16().await {
                let _ = link::receive((Ipv4Addr::LOCALHOST, port).into(), (stream, Session::default()), &handle).await; // a crash may cut it off
            }
        });
    }
}

fn bind(addr: SocketAddr) -> TcpListener {
    tcp::bind("here", &[addr]).unwrap()
}

/// Waits until no thread of this process writes a log: they end a moment after their nodes.
async fn disks_at_rest() {
    let comms = || fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path().join("comm"));
    let is_disk = |comm| fs::read_to_string(comm).is_ok_and(|name| name == "disk\n");
    let at_rest = async {
        while comms().any(is_disk) {
            yield_now().await;
        }
    };
    timeout(PATIENCE, at_rest).await.expect("a disk without a node has nothing to do");
}

#[tokio::test]
async fn a_killed_node_still_knows_its_number_from_its_log_and_tells_it_to_one_that_lost_its_disk() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let listeners = [(); 3].map(|()| bind((Ipv4Addr::LOCALHOST, 0).into()));
    let addrs = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let mut nodes = Vec::new();
    for ((listener, dir), seed) in listeners.into_iter().zip(&dirs).zip(1..) {
        nodes.push(Node::start(dir.path(), listener, &addrs, seed).await);
    }
    nodes[0].raise(7).await;
    for node in &mut nodes {
        assert_eq!(node.hears().await, Raised(7));
    }
    for node in nodes {
        node.kill().await;
    }
    disks_at_rest().await;

    let mut kept = Node::start(dirs[2].path(), bind(addrs[2]), &addrs, 4).await;
    let largest = kept.handle.inspect(Gossip::largest).await.unwrap();
    assert_eq!(largest, 7, "there is nobody who could have told it");
    let empty = tempfile::tempdir().unwrap();
    let mut anew = Node::start(empty.path(), bind(addrs[0]), &addrs, 5).await;
    assert_eq!(anew.hears().await, Raised(7));
    anew.raise(8).await;
    assert_eq!(kept.hears().await, Raised(8));
}
