//! A leader that is cut off from the others and does not notice for a long while.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use tempfile::TempDir;

use crate::common::cluster::{reserve_port, status};
use crate::common::http::{self, set_body, value_in};
use crate::common::{Node, eventually, raft_node};

/// A cable that can be cut: while it is, nothing comes through, and nobody is told.
#[derive(Clone, Debug, Default)]
struct Cable(Arc<(Mutex<bool>, Condvar)>);

impl Cable {
    fn cut(&self, is_cut: bool) {
        *self.0.0.lock().unwrap() = is_cut;
        self.0.1.notify_all();
    }

    /// An address that leads to `to` through this cable.
    fn to(&self, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let cable = self.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(to) else { continue };
                let (near_again, far_again) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (there, back) = (cable.clone(), cable.clone());
                std::thread::spawn(move || there.pump(near, far));
                std::thread::spawn(move || back.pump(far_again, near_again));
            }
        });
        addr
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let _ = to.set_nodelay(true);
        let mut buffer = [0; 16 << 10];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |is_cut| *is_cut).unwrap());
            if to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}

/// Three nodes; what n1 says to the others and they to it goes through one cable.
struct Scene {
    addrs: [SocketAddr; 3],
    cable: Cable,
    /// How each node reaches each other one.
    routes: [[SocketAddr; 3]; 3],
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let addrs = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], reserve_port())));
        let cable = Cable::default();
        let route = |from: usize, to: usize| if from == 0 || to == 0 { cable.to(addrs[to]) } else { addrs[to] };
        let routes = [0, 1, 2].map(|from| [0, 1, 2].map(|to| route(from, to)));
        Self { addrs, cable, routes, dir: tempfile::tempdir().unwrap() }
    }

    fn start(&self, number: usize, election_timeout: &str) -> Node {
        let name = |number: usize| format!("n{}", number + 1);
        let mut command = raft_node();
        command.args(["--json", "--id", &name(number), "--listen", &self.addrs[number].to_string()]);
        command
            .args(["--election-timeout", election_timeout])
            .arg("--data-dir")
            .arg(self.dir.path().join(name(number)));
        for other in (0..3).filter(|other| *other != number) {
            command.args(["--peer", &format!("{}={}", name(other), self.routes[number][other])]);
        }
        Node::start(command)
    }

    /// Waits until these nodes follow one leader among `candidates`; gives its number.
    #[track_caller]
    fn wait_for_leader(&self, nodes: &[usize], candidates: &[usize]) -> usize {
        eventually("a leader", || {
            let told: Vec<_> = nodes.iter().map(|number| status(self.addrs[*number])).collect();
            let leader = candidates.iter().find(|number| {
                let follows = |s: &serde_json::Value| s["leaderId"] == format!("n{}", **number + 1).as_str();
                told.iter().all(|status| status.as_ref().is_ok_and(follows))
            });
            leader.copied().ok_or_else(|| format!("{told:?}"))
        })
    }
}

#[test]
fn a_leader_that_was_cut_off_never_answers_with_the_old_value() {
    let scene = Scene::new();
    // n1 leads, for the others are slow to seek election; and it believes in itself for 3 s without hearing from them.
    let n1 = scene.start(0, "3s..3100ms");
    let slow = [1, 2].map(|number| scene.start(number, "10s..11s"));
    scene.wait_for_leader(&[0, 1, 2], &[0]);
    // Restarted one after the other, they become quick.
    let others: Vec<_> = slow
        .into_iter()
        .zip([1, 2])
        .map(|(mut node, number)| {
            assert_eq!(node.stop().code(), Some(0));
            drop(node);
            let node = scene.start(number, "150ms..300ms");
            scene.wait_for_leader(&[0, 1, 2], &[0, 1, 2]);
            node
        })
        .collect();
    assert_eq!(scene.wait_for_leader(&[0, 1, 2], &[0, 1, 2]), 0, "n1 has led all the time");
    n1.set("k", "old");

    scene.cable.cut(true);
    let next = scene.wait_for_leader(&[1, 2], &[1, 2]);
    let successor = &others[next - 1];
    successor.set("k", "new");
    assert_eq!(status(n1.addr).unwrap()["state"], "leader", "it does not know yet");
    for _ in 0..3 {
        assert_eq!(n1.get("/kv/k?timeout=100ms").expect(503).error(), "no majority answered in time");
        assert_eq!(n1.get("/kv?timeout=100ms").expect(503).error(), "no majority answered in time");
        let answer = n1.ask("POST", "/kv?timeout=100ms", &set_body("k", "lost"));
        assert!(matches!(answer.status, 503 | 504), "{answer:?}");
    }
    assert_eq!(value_in(&n1.get("/kv/k?consistency=stale")).as_deref(), Some("old"), "stale is what it says");
    assert_eq!(successor.value("k").as_deref(), Some("new"));

    scene.cable.cut(false);
    let read = eventually("n1 to be heard again", || match http::get(n1.addr, "/kv/k?timeout=1s") {
        Ok(answer) if answer.status == 200 => Ok(answer),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(value_in(&read).as_deref(), Some("new"), "what it wrote while it was cut off is gone");
}
