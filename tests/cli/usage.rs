//! Command lines that are wrong, and the two that only ask.

use std::net::TcpListener;

use crate::common::{
    Ended, Node, netsim, node_in, raft_ctl, raft_node, run, tcp_echo, udp_listen, udp_send, worker_pool,
};

fn node(arguments: &[&str]) -> Ended {
    let mut command = raft_node();
    command.args(["--id", "n1"]).args(arguments);
    run(command)
}

fn ctl(arguments: &[&str]) -> Ended {
    let mut command = raft_ctl();
    command.args(arguments);
    run(command)
}

#[test]
fn help_and_version_go_to_stdout_and_end_well() {
    for mut tool in [raft_node(), raft_ctl(), netsim()] {
        tool.arg("--help");
        let help = run(tool).expect(0);
        for promised in ["Usage:", "Examples:", "Exit codes:", "--json"] {
            assert!(help.stdout.contains(promised), "no {promised} in:\n{}", help.stdout);
        }
        assert_eq!(help.stderr, "");
    }
    for (mut tool, name) in [(raft_node(), "raft-node"), (raft_ctl(), "raft-ctl"), (netsim(), "netsim")] {
        tool.arg("--version");
        assert_eq!(run(tool).expect(0).stdout, format!("{name} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn what_looks_after_a_cluster_is_shown_by_example() {
    for words in ["snapshot", "restore", "watch", "members", "members add", "members remove", "transfer"] {
        let help = ctl(&words.split(' ').chain(["--help"]).collect::<Vec<_>>()).expect(0).stdout;
        let examples = help.split("Examples:\n").nth(1).unwrap_or_else(|| panic!("no examples in:\n{help}"));
        let shown = examples.lines().filter(|line| line.contains(&format!("raft-ctl {words}"))).count();
        assert!(shown >= 1 && examples.lines().count() >= 2, "{help}");
    }
}

#[test]
fn every_tool_writes_its_completions_and_man_pages() {
    let tools = [raft_node(), raft_ctl(), netsim(), tcp_echo(), udp_listen(), udp_send(), worker_pool()];
    for mut tool in tools {
        let name = std::path::Path::new(tool.get_program()).file_name().unwrap().to_str().unwrap().to_owned();
        let dir = tempfile::tempdir().unwrap();
        tool.arg("--generate").arg(dir.path());
        run(tool).expect(0);
        for file in [
            format!("bash-completion/completions/{name}"),
            format!("zsh/site-functions/_{name}"),
            format!("fish/vendor_completions.d/{name}.fish"),
            format!("man/man1/{name}.1"),
        ] {
            let text =
                std::fs::read_to_string(dir.path().join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(text.contains("json"), "{file} knows the options");
        }
        let pages = std::fs::read_dir(dir.path().join("man/man1")).unwrap();
        let pages: Vec<_> = pages.map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
        assert!(!pages.iter().any(|page| page.contains("-help")), "`help` has no page of its own: {pages:?}");
        assert!(name != "raft-ctl" || pages.contains(&"raft-ctl-members-add.1".to_owned()), "{pages:?}");
    }
    let mut beside = raft_ctl();
    beside.args(["--generate", "/tmp", "status"]);
    run(beside).expect(2).says(&["--generate", "no other arguments"]);
    let mut nowhere = tcp_echo();
    nowhere.args(["--generate", "/dev/null/x"]);
    run(nowhere).expect(6).says(&["/dev/null/x"]);
}

#[test]
fn an_unknown_option_is_named_and_so_is_the_help() {
    for ended in [node(&["--frob"]), ctl(&["--frob", "status"])] {
        let ended = ended.expect(2).says(&["--frob", "--help"]);
        assert_eq!(ended.stdout, "");
    }
    node(&["--electon-timeout", "1s..2s"]).expect(2).says(&["--election-timeout"]);
}

#[test]
fn a_node_without_a_name_is_told_which_option_is_missing() {
    run(raft_node()).expect(2).says(&["--id"]);
    let mut empty = raft_node();
    empty.args(["--id", ""]);
    run(empty).expect(2).says(&["cannot name a node"]);
    let mut spaced = raft_node();
    spaced.args(["--id", "a b"]);
    run(spaced).expect(2).says(&["'a b' cannot name a node", "without spaces"]);
}

#[test]
fn a_bad_address_is_shown_with_a_good_one() {
    for bad in [&["--peer", "n2"], &["--peer", "n2=localhost"], &["--peer", "n2=127.0.0.1:99999"], &["--peer", "n2=:1"]]
    {
        node(bad).expect(2).says(&["--peer", bad[1].trim_start_matches("n2="), "HOST:PORT"]);
    }
    node(&["--peer", "a/b=127.0.0.1:7002"]).expect(2).says(&["--peer", "'a/b' cannot name a node"]);
    for (bad, good) in [
        ("7001", "127.0.0.1:7001"),
        ("localhost", "localhost:7001"),
        ("::1:7001", "[::1]:7001"),
        ("127.0.0.1:seven", "127.0.0.1:7001"),
        ("https://n1:7001", "http://n1:7001"),
        ("http://n1:7001/kv", "http://n1:7001"),
    ] {
        node(&["--listen", bad]).expect(2).says(&["--listen", bad, good]);
    }
    for option in ["--join", "--advertise"] {
        node(&[option, "nowhere"]).expect(2).says(&[option, "nowhere", "nowhere:7001"]);
    }
    node(&["--snapshot-every", "1KiB"]).expect(2).says(&["--snapshot-every", "at least 4096 bytes"]);
    node(&["--peer", "n2=127.0.0.1:1", "--peer", "n2=127.0.0.1:2"]).expect(2).says(&[
        "n2 twice",
        "127.0.0.1:1",
        "127.0.0.1:2",
    ]);
}

#[test]
fn durations_that_cannot_work_are_refused_with_the_reason() {
    node(&["--heartbeat", "50"]).expect(2).says(&["--heartbeat", "'50'", "500ms"]);
    node(&["--heartbeat", "0s"]).expect(2).says(&["--heartbeat", "above zero"]);
    node(&["--heartbeat", "100ms"]).expect(2).says(&["heartbeat (100ms)", "150ms", "raise --election-timeout"]);
    node(&["--election-timeout", "150ms"]).expect(2).says(&["--election-timeout", "150ms..300ms"]);
    node(&["--election-timeout", "300ms..150ms"]).expect(2).says(&["300ms..150ms", "shorter duration comes first"]);
    node(&["--election-timeout", "200ms..200ms"]).expect(2).says(&["must be a range", "150ms..300ms"]);
    node(&["--busy-poll", "often"]).expect(2).says(&["--busy-poll"]);
}

#[test]
fn with_json_a_usage_error_is_an_event_on_stdout_too() {
    // One that the parser finds, and one that is found later.
    for (arguments, word) in [(["--json", "--heartbeat", "50"], "'50'"), (["--json", "--heartbeat", "1s"], "heartbeat")]
    {
        let event = node(&arguments).expect(2).says(&[word]).json();
        assert_eq!((&event["event"], &event["kind"]), (&"error".into(), &"usage".into()), "{event}");
        assert!(event["message"].as_str().is_some_and(|message| message.contains(word)), "{event}");
    }
}

#[test]
fn an_address_that_others_can_reach_needs_an_explicit_yes() {
    let refused = node(&["--listen", "0.0.0.0:0"]).expect(2).says(&["0.0.0.0:0", "--insecure", "--key-file"]);
    assert_eq!(refused.stdout, "");
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--insecure"]).env("PORT", "1");
    assert!(Node::start(command).addr.ip().is_loopback());
    let mut anywhere = raft_node();
    anywhere
        .args(["--id", "n1", "--json", "--listen", "0.0.0.0:0", "--insecure", "--data-dir"])
        .arg(dir.path().join("x"));
    assert!(Node::start(anywhere).addr.ip().is_unspecified());
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let mut command = raft_node();
    command.args(["--id", "n1", "--json", "--listen", &addr]).current_dir(dir.path());
    let event = run(command).expect(6).says(&[&addr, "--listen"]).json();
    assert_eq!(event["kind"], "local", "{event}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "a node that cannot serve makes no data directory");
}

#[test]
fn raft_ctl_refuses_what_makes_no_sense() {
    ctl(&[]).expect(2).says(&["Usage:", "set", "get"]);
    ctl(&["get"]).expect(2).says(&["<KEY>"]);
    ctl(&["set", "k"]).expect(2).says(&["<VALUE>"]);
    ctl(&["--nodes", "localhost", "get", "k"]).expect(2).says(&["--nodes", "HOST:PORT"]);
    ctl(&["--timeout", "2h", "get", "k"]).expect(2).says(&["--timeout", "at most 60s"]);
    ctl(&["bench", "--reads", "2"]).expect(2).says(&["--reads", "from 0 to 1"]);
    ctl(&["bench", "--clients", "0"]).expect(2).says(&["--clients"]);
    ctl(&["set", "k", "v", "--if-absent", "--if-version", "1"]).expect(2).says(&["--if-version"]);
    let event = ctl(&["--json", "get"]).expect(2).json();
    assert_eq!(event["kind"], "usage");
}

#[test]
fn options_of_raft_ctl_may_stand_before_or_after_the_command() {
    for arguments in [["--nodes", "127.0.0.1:1", "get", "k"], ["get", "k", "--nodes", "127.0.0.1:1"]] {
        ctl(&arguments).expect(3).says(&["127.0.0.1:1"]);
    }
}
