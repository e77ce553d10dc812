//! Links of their own: addresses that need an interface, and hosts that are not there.

use std::process::Command;
use std::time::Duration;

use crate::common::net::Net;
use crate::common::{Server, raft_ctl, raft_node, run, tcp_echo, udp_listen, udp_send, within};

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

#[test]
fn an_address_of_a_link_names_its_interface_in_every_tool() {
    let Some(net) = Net::of(2, &[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let serve = |inner: Command| Server::start(net.on(1, &inner));
    let echo = serve(with(tcp_echo(), &["serve", "--json", "--listen", "[fe80::1%eth0]:0"]));
    let udp = serve(with(udp_listen(), &["--json", "--reply", "echo", "--listen", "[fe80::1%eth0]:0"]));
    let data = dir.path().display().to_string();
    let node = ["--json", "--id", "n1", "--insecure", "--listen", "[fe80::1%eth0]:0", "--data-dir", &data];
    let node = serve(with(raft_node(), &node));
    let at = |server: &Server| format!("[fe80::1%eth0]:{}", server.addr.port());

    let ask = |inner: Command| run(net.on(2, &inner));
    assert_eq!(ask(with(tcp_echo(), &["send", &at(&echo), "hello"])).expect(0).stdout, "hello\n");
    let bench = ["bench", &at(&echo), "--conns", "2", "--duration", "100ms", "--warm-up", "0s", "--json"];
    assert!(ask(with(tcp_echo(), &bench)).expect(0).json()["messages"].as_u64() > Some(0));
    let asked = with(udp_send(), &[&at(&udp), "hello", "--wait-reply", "10s"]);
    assert_eq!(ask(asked).expect(0).stdout, "hello\n");
    ask(with(raft_ctl(), &["--nodes", &at(&node), "set", "k", "v"])).expect(0);
    ask(with(raft_ctl(), &["--nodes", &format!("http://{}", at(&node)), "get", "k"])).expect(0);

    // Without it, and with one that is not there.
    for (bad, words, code) in [
        ("[fe80::1]:7000", ["[fe80::1%INTERFACE]:7000", "lo, eth0"], 2),
        ("[fe80::1%eth7]:7000", ["no network interface 'eth7'", "lo, eth0"], 6),
    ] {
        ask(with(tcp_echo(), &["send", bad, "x"])).expect(code).says(&words);
        ask(with(tcp_echo(), &["serve", "--listen", bad])).expect(code).says(&words);
        ask(with(udp_send(), &[bad, "x"])).expect(code).says(&words);
        ask(with(udp_listen(), &["--listen", bad])).expect(code).says(&words);
    }
}

#[test]
fn localhost_is_127_0_0_1_in_every_tool_even_where_the_resolver_says_colon_colon_1_first() {
    let Some(net) = Net::of(1, &[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().display().to_string();
    let first = run(net.on(1, &with(Command::new("getent"), &["ahosts", "localhost"]))).expect(0).stdout;
    assert!(first.starts_with("::1"), "{first}");
    let servers = [
        with(tcp_echo(), &["serve", "--json", "--listen", "localhost:0"]),
        with(udp_listen(), &["--json", "--reply", "echo", "--listen", "localhost:0"]),
        with(raft_node(), &["--json", "--id", "n1", "--listen", "localhost:0", "--data-dir", &data]),
    ];
    let servers = servers.map(|inner| Server::start(net.on(1, &inner)));
    for server in &servers {
        assert_eq!(server.addr.ip().to_string(), "127.0.0.1", "{}", server.ready);
    }
    let at = |server: &Server| format!("localhost:{}", server.addr.port());
    run(net.on(1, &with(tcp_echo(), &["send", &at(&servers[0]), "x"]))).expect(0);
    run(net.on(1, &with(udp_send(), &[&at(&servers[1]), "x", "--wait-reply", "10s"]))).expect(0);
    run(net.on(1, &with(raft_ctl(), &["--nodes", &at(&servers[2]), "set", "k", "v"]))).expect(0);
    // Who listens on the other one alone is found by TCP all the same.
    let six = Server::start(net.on(1, &with(tcp_echo(), &["serve", "--json", "--listen", "[::1]:0"])));
    run(net.on(1, &with(tcp_echo(), &["send", &at(&six), "x"]))).expect(0);
}

#[test]
fn a_host_that_nobody_has_on_the_link_is_out_of_reach_and_not_only_late() {
    let Some(net) = Net::of(2, &[]) else { return };
    // Who is there and only silent is late.
    let silent = Server::start(net.on(2, &with(udp_listen(), &["--json", "--listen", "10.99.0.2:0"])));
    let mut command = udp_send();
    command.args([&silent.addr.to_string(), "anybody?", "--wait-reply", "300ms"]);
    run(net.on(1, &command)).expect(124).says(&["no reply"]);
    // Before the kernel gives up looking for it, and when it does.
    for nobody in ["10.99.0.66:9000", "[fd00:99::66]:9000"] {
        let mut command = udp_send();
        command.args([nobody, "anybody?", "--wait-reply", "200ms"]);
        run(net.on(1, &command)).expect(3).says(&[
            nobody,
            "still waiting to be sent after 200ms",
            "nobody on the link",
        ]);
    }
    for nobody in ["10.99.0.77:9000", "[fd00:99::77]:9000"] {
        let mut command = udp_send();
        command.args(["--json", nobody, "anybody?", "--wait-reply", "60s"]);
        let mut process = crate::common::Process::start(net.on(1, &command));
        let error = within(Duration::from_secs(30), "the kernel's word", || {
            let events = process.out.events();
            events.into_iter().find(|event| event["event"] == "error").ok_or("nothing yet")
        });
        assert_eq!(process.ended().code(), Some(3), "{error}");
        assert_eq!(error["kind"], "unreachable");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&format!("cannot reach {nobody}")), "{message}");
    }
}
