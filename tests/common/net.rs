//! Machines of their own for tests: network namespaces on one bridge, each with an address, a link-local one and names.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Machines 1, 2, ... at 10.99.0.1, ... and fe80::1, ..., each with an interface eth0 and the same names. Gone when dropped.
#[derive(Debug)]
pub(crate) struct Net {
    prefix: String,
    machines: u8,
}

impl Net {
    /// So many machines, which find each other by these names: the first one's, the second one's, ... Says so and gives nothing
    /// where this process may not make any.
    pub(crate) fn of(machines: u8, names: &[&str]) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("nbt{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let net = Self { prefix, machines };
        let probes: [&[&str]; 2] =
            [&["netns", "add", &net.name(0)], &["-n", &net.name(0), "link", "add", "hub", "type", "bridge"]];
        for probe in probes {
            let why = match Command::new("ip").args(probe).output() {
                Ok(made) if made.status.success() => continue,
                Ok(made) => text(&made.stderr),
                Err(error) => error.to_string(),
            };
            eprintln!("SKIPPED: this test wants network namespaces: root, and ip of iproute2 ({})", why.trim());
            return None;
        }
        net.ip(0, "link set hub up");
        let hosts: String = (1..).zip(names).map(|(number, name)| format!("{} {name}\n", Self::addr(number))).collect();
        for number in 1..=machines {
            run_ip(&["netns", "add", &net.name(number)]);
            fs::create_dir_all(net.etc(number)).expect("root may write there");
            fs::write(net.etc(number).join("hosts"), format!("::1 localhost\n127.0.0.1 localhost\n{hosts}"))
                .expect("it is new");
            net.ip(0, &format!("link add to{number} type veth peer name eth0 netns {}", net.name(number)));
            net.ip(0, &format!("link set to{number} master hub up"));
            net.ip(number, "link set lo up");
            net.ip(number, "link set eth0 addrgenmode none"); // the only link-local address is the one below
            net.ip(number, "link set eth0 up");
            net.ip(number, &format!("addr add {}/24 dev eth0", Self::addr(number)));
            net.ip(number, &format!("addr add fe80::{number}/64 dev eth0 nodad"));
            net.ip(number, &format!("addr add fd00:99::{number}/64 dev eth0 nodad"));
        }
        Some(net)
    }

    /// Where a machine is.
    pub(crate) fn addr(number: u8) -> String {
        format!("10.99.0.{number}")
    }

    /// The same command on a machine.
    pub(crate) fn on(&self, number: u8, inner: &Command) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(number)]).arg(inner.get_program()).args(inner.get_args());
        for (variable, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        if let Some(dir) = inner.get_current_dir() {
            command.current_dir(dir);
        }
        command
    }

    fn name(&self, number: u8) -> String {
        format!("{}-{number}", self.prefix)
    }

    /// What `ip netns exec` puts in place of the files in /etc.
    fn etc(&self, number: u8) -> PathBuf {
        PathBuf::from("/etc/netns").join(self.name(number))
    }

    fn ip(&self, number: u8, arguments: &str) {
        let name = self.name(number);
        let words: Vec<_> = ["-n", &name].into_iter().chain(arguments.split(' ')).collect();
        run_ip(&words);
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for number in 0..=self.machines {
            let _ = Command::new("ip").args(["netns", "del", &self.name(number)]).output(); // it may not have been made
            let _ = fs::remove_dir_all(self.etc(number));
        }
    }
}

fn run_ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().expect("there is ip");
    assert!(done.status.success(), "ip {arguments:?}: {}", text(&done.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
