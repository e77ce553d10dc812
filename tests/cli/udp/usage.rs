//! Command lines that are wrong.

use std::net::UdpSocket;

use super::{listen, send};

#[test]
fn help_has_examples_and_exit_codes() {
    for ended in [listen(&["--help"]), send(&["--help"])] {
        let help = ended.expect(0).stdout;
        for promised in ["Usage:", "Examples:", "Exit codes:", "--json", "--count", "--duration", "--size"] {
            assert!(help.contains(promised), "no {promised} in:\n{help}");
        }
    }
    for (ended, name) in [(listen(&["--version"]), "udp-listen"), (send(&["--version"]), "udp-send")] {
        assert_eq!(ended.expect(0).stdout, format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let event = listen(&["--json", "--listen", &addr]).expect(6).says(&[&addr, "in use", "--listen"]).json();
    assert_eq!((&event["event"], &event["kind"]), (&"error".into(), &"local".into()));
}

#[test]
fn a_name_without_address_is_named() {
    for event in [
        listen(&["--json", "--listen", "nosuchhost.invalid:9000"]).expect(3).says(&["nosuchhost.invalid"]).json(),
        send(&["--json", "nosuchhost.invalid:9000", "x"]).expect(3).says(&["nosuchhost.invalid"]).json(),
    ] {
        assert_eq!((&event["event"], &event["kind"]), (&"error".into(), &"name_not_found".into()));
    }
}

#[test]
fn an_address_of_another_machine_cannot_be_listened_on() {
    listen(&["--listen", "192.0.2.1:0"]).expect(6).says(&["192.0.2.1:0", "address of this machine"]);
}

#[test]
fn values_that_cannot_work_are_refused_with_the_reason() {
    for (arguments, words) in [
        (&["--listen", "9000"][..], &["--listen", "HOST:PORT, such as 127.0.0.1:9000"][..]),
        (&["--listen", ":9000"], &["':9000' has no host", "127.0.0.1:9000, or [::]:9000 to listen on every"]),
        (&["--listen", ":::9000"], &["[::]:9000"]),
        (&["--listen", "127.0.0.1", "9000"], &["an address is one word: 127.0.0.1:9000"]),
        (&["--count", "0"], &["--count"]),
        (&["--duration", "5"], &["--duration", "500ms"]),
        (&["--stats", "0s"], &["--stats", "above zero"]),
        (&["--quiet", "--out", "packets"], &["--quiet", "--out"]),
        (&["--size", "1 potato"], &["--size", "64KiB"]),
        (&["--rcvbuf", "2GiB"], &["--rcvbuf", "1GiB"]),
        (&["--reply-rate", "5"], &["--reply"]),
        (&["--reply", "echo", "--reply-rate", "0"], &["--reply-rate"]),
        (&["--frob"], &["--frob", "--help"]),
    ] {
        listen(arguments).expect(2).says(words);
    }
    for (arguments, words) in [
        (&[][..], &["HOST:PORT"][..]),
        (&["9000", "x"], &["HOST:PORT, such as 127.0.0.1:9000"]),
        (&["[::1]", "hi"], &["'[::1]' has no port"]),
        (&["127.0.0.1", "9000", "hi"], &["'127.0.0.1' has no port", "in one word"]),
        (&["127.0.0.1:0", "x"], &["port 0"]),
        (&["127.0.0.1:9", "--rate", "0", "x"], &["--rate", "a second"]),
        (&["127.0.0.1:9", "--rate", "fast", "x"], &["--rate"]),
        (&["127.0.0.1:9", "--size", "5", "x"], &["--size"]),
        (&["127.0.0.1:9", "--hex", "abc"], &["half a byte"]),
        (&["127.0.0.1:9", "--ttl", "0", "x"], &["--ttl"]),
        (&["127.0.0.1:9", "--wait-reply", "soon", "x"], &["--wait-reply"]),
    ] {
        send(arguments).expect(2).says(words);
    }
}
