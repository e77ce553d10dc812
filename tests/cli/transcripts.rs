//! The pages' transcripts run as written: each page in a network and among processes of its own, so that its ports are free and
//! it ends nobody else's nodes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::PATIENCE;

/// A page, and what its reader has besides.
#[derive(Default)]
struct Page {
    path: &'static str,
    /// Where a number differs from run to run; all others are compared.
    varies: &'static [&'static str],
    /// What is there before the first command.
    before: &'static str,
    /// The end of a command, and what happens behind it unseen: waiting, and what another hand or another page does. What such
    /// a page does not show may be printed.
    after: &'static [(&'static str, &'static str)],
}

/// What a page's transcript needs around it: a network with a neighbour's place that nobody has, and waiting where a reader
/// would take his time.
const AROUND: &str = r#"
ip link set lo up
ip link add eth0 type veth peer name eth1 && ip address add 192.168.1.1/24 dev eth0 && ip link set eth0 up && ip link set eth1 up
set -m
ready=0
echo silent >.curlrc
export CURL_HOME="$PWD"
# Waits until one more server has said that it is ready.
is_ready() {
    ready=$((ready + 1))
    until [ "$(grep -c 'ready on\|"event":"ready"' "$OUT")" -ge "$ready" ]; do :; done
}
quietly() { "$@" >/dev/null 2>&1; }
says() { "${@:2}" 2>&1 | tr '\n' ' ' | grep -q "$1"; }
# Ends what runs in the background here, and forgets what it knew.
anew() { kill -9 $(jobs -p) && wait; rm -rf n?.raft; } 2>/dev/null
"#;

#[derive(Debug)]
struct Step {
    command: String,
    shown: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_transcript = false;
    for line in page.lines() {
        let Some(line) = line.strip_prefix("    ").map(str::trim_start) else {
            is_transcript &= line.is_empty();
            continue;
        };
        match line.strip_prefix("$ ") {
            Some(command) => {
                is_transcript = true;
                steps.push(Step { command: command.to_owned(), shown: Vec::new() });
            }
            None => {
                steps
                    .last_mut()
                    .filter(|_| is_transcript)
                    .into_iter()
                    .for_each(|step| step.shown.push(line.to_owned()));
            }
        }
    }
    steps
}

/// A line without what differs from run to run: such numbers and their units, ids, the bars of a histogram, blanks.
fn shape(line: &str, varies: &[&str]) -> String {
    let mut shape = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let at = line.len() - rest.len();
        let is_in = |number: usize, around: &str| {
            let (before, after) = around.split_once('#').unwrap();
            line[..at].ends_with(before) && rest[number..].starts_with(after)
        };
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let is_id = word == 16 && rest[..word].bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = if is_id { word } else { number(rest) };
        if number == 0 {
            let is_bar = matches!(first, '█'..='▏');
            shape.extend(Some(first).filter(|_| !is_bar));
        } else if is_id || varies.iter().any(|around| is_in(number, around)) {
            shape.push('#');
        } else {
            shape += &rest[..number];
        }
        rest = &rest[if number == 0 { first.len_utf8() } else { number }..];
    }
    let units: &[_] = if varies == ALL { &["us", "ms", "s", "ns", "MB/s", "GB/s"] } else { &[] };
    shape.split_whitespace().filter(|word| !units.contains(word)).collect::<Vec<_>>().join(" ")
}

/// How long the number is that `text` begins with.
fn number(text: &str) -> usize {
    let digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let inside = |at: usize| digit(at) || digit(at + 1) && matches!(text.as_bytes()[at], b'.' | b',');
    if digit(0) { (1..).find(|at| !inside(*at)).unwrap() } else { 0 }
}

/// Every number may differ.
const ALL: &[&str] = &["#"];

/// The shapes of the lines that a step shows, and of those among `printed` that the page has wrapped.
fn shapes(step: &Step, varies: &[&str], printed: &BTreeSet<String>) -> Vec<String> {
    let mut lines: Vec<_> = step.shown.iter().map(|line| shape(line, varies)).collect();
    let mut at = 0;
    while at < lines.len() {
        let joined = (at + 1..=lines.len()).map(|end| (end, lines[at..end].join(" ")));
        if let Some((end, whole)) = joined.into_iter().find(|(_, whole)| printed.contains(whole)) {
            lines.splice(at..end, [whole]);
        }
        at += 1;
    }
    lines
}

/// The script that does what the page says, and waits where what comes next counts on it.
fn script(page: &Page, steps: &[Step], dir: &Path) -> String {
    let mut script = AROUND.to_owned() + page.before;
    let mut ends_by_itself = false;
    for Step { command, shown } in steps {
        if let Some(file) = command.strip_prefix("cat ") {
            fs::write(dir.join(file), shown.join("\n") + "\n").unwrap(); // the reader writes it
        }
        if is_left_out(command) {
            continue;
        }
        let in_background = command.ends_with('&');
        if in_background && ends_by_itself {
            script += "wait\n";
        }
        // Who reads has one job at a time; a shell that nobody watches may number them otherwise.
        writeln!(script, "{}", command.replace("%1", "$server")).unwrap();
        if in_background {
            let is_client = ["curl ", "raft-ctl "].iter().any(|client| command.starts_with(client));
            script += if is_client { "" } else { "server=$!\nis_ready\n" };
            ends_by_itself = command.contains("--count");
        }
        if command == "kill %1" {
            script += "wait $server\n";
        }
        for (_, unseen) in page.after.iter().filter(|(end, _)| command.ends_with(end)) {
            script += &format!("{unseen}\n");
        }
    }
    script + "kill $(jobs -p) 2>/dev/null; wait\n"
}

/// It takes two hands, or is a test of its own.
fn is_left_out(command: &str) -> bool {
    command.contains("meanwhile") || command == "./scripts/raft-disaster.sh"
}

#[track_caller]
fn runs_as_written(page: &Page) {
    let container = ["--net", "--pid", "--fork", "--mount-proc"];
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(page.path)).unwrap();
    let works = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let wanted =
        ["ip", "curl", "jq", "zstd"].iter().filter(|tool| **tool == "ip" || text.contains(&format!("{tool} ")));
    let mut missing: Vec<_> = wanted.filter(|tool| !works(Command::new(tool).arg("-V"))).collect();
    let network = "ip link set lo up && ip link add eth0 type veth peer name eth1";
    if !works(Command::new("unshare").args(container).args(["sh", "-c", network])) {
        missing.push(&"namespaces (root, and unshare)");
    }
    if !missing.is_empty() {
        assert!(std::env::var_os("NETBELT_CI").is_none(), "CI skips no transcript: it wants {missing:?}");
        return eprintln!("SKIPPED: the transcript of {} wants {missing:?}", page.path);
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["docs", "scripts"] {
        symlink(root.join(name), dir.path().join(name)).unwrap();
    }
    let steps = steps(&text);
    assert!(steps.len() >= 2, "{steps:?}");
    let script = script(page, &steps, dir.path());
    fs::write(dir.path().join("transcript.sh"), &script).unwrap();
    let out = dir.path().join("transcript.out");
    let output = fs::File::create(&out).unwrap();
    let tools = Path::new(env!("CARGO_BIN_EXE_netsim")).parent().unwrap();
    let mut command = Command::new("timeout");
    command.args(["-k", "1", &(4 * PATIENCE).as_secs().to_string(), "unshare"]).args(container);
    command.args(["bash", "transcript.sh"]).current_dir(dir.path()).stdin(Stdio::null());
    command.env("PATH", format!("{}:{}", tools.display(), std::env::var("PATH").unwrap())).env("OUT", &out);
    command.env("NETBELT_BIN", tools).env("XDG_STATE_HOME", dir.path()).env_remove("RAFT_NODES");
    command.stdout(output.try_clone().unwrap()).stderr(output);
    let ended = command.status().unwrap();
    let printed = fs::read_to_string(&out).unwrap();
    assert!(ended.success(), "{ended}: the transcript of {} did not come to its end:\n{script}\n{printed}", page.path);

    // A log tells the time, which no page does.
    let without_time = |line: &str| line.strip_prefix("#-#-#T#:#:#Z ").unwrap_or(line).to_owned();
    let printed: BTreeSet<_> = printed.lines().map(|line| without_time(&shape(line, page.varies))).collect();
    let shown = steps.iter().filter(|step| !is_left_out(&step.command));
    let shown: BTreeSet<_> = shown.flat_map(|step| shapes(step, page.varies, &printed)).collect();
    let missing: Vec<_> = shown.difference(&printed).filter(|line| *line != "...").collect();
    assert!(missing.is_empty(), "{} shows what nobody printed: {missing:#?}\nprinted: {printed:#?}", page.path);
    if !shown.contains("...") && page.before.is_empty() && page.after.is_empty() {
        let more: Vec<_> = printed.difference(&shown).collect();
        assert!(more.is_empty(), "{} does not show: {more:#?}", page.path);
    }
}

#[test]
fn the_transcripts_of_worker_pool_run_as_written() {
    let varies = &["\"ms\":#", "\"seconds\":#", "in # s", "worker #:"];
    runs_as_written(&Page { path: "docs/worker-pool.md", varies, ..Page::default() });
}

#[test]
fn the_transcripts_of_the_udp_tools_run_as_written() {
    runs_as_written(&Page { path: "docs/udp.md", varies: ALL, ..Page::default() });
}

#[test]
fn the_transcripts_of_tcp_echo_run_as_written() {
    runs_as_written(&Page { path: "docs/tcp-echo.md", varies: ALL, ..Page::default() });
}

#[test]
fn the_transcripts_of_netsim_run_as_written() {
    let varies = &["in # s", ": # hours", ", # times", ", # at a time"];
    runs_as_written(&Page { path: "docs/netsim.md", varies, ..Page::default() });
}

#[test]
fn the_transcripts_of_the_readme_run_as_written() {
    runs_as_written(&Page { path: "README.md", varies: ALL, ..Page::default() });
}

#[test]
fn the_transcripts_of_raft_ctl_run_as_written() {
    let after = &[
        ("raft-cluster.sh up 3", "quietly raft-ctl transfer n2"),
        ("raft-node --id n3')\"", "until says 'n1 warns.*n2 warns' raft-ctl status; do :; done"),
        ("watch user/ &", "until grep -q 'set.user/0' \"$OUT\"; do quietly raft-ctl set user/0 x; done"),
        ("set user/7 ada", "until grep -q 'set.user/7' \"$OUT\"; do :; done"),
    ];
    runs_as_written(&Page { path: "docs/raft-ctl.md", varies: ALL, after, ..Page::default() });
}

#[test]
fn the_transcripts_of_raft_node_run_as_written() {
    let after = &[
        ("n3=127.0.0.1:7003 &", "anew"),
        ("raft-cluster.sh kill n2", "until says 'n[13]' raft-ctl --nodes 127.0.0.1:7001 leader; do :; done"),
        ("raft-cluster.sh down", "quietly ./scripts/raft-cluster.sh up 3"),
        ("prefix=user/' &", "until grep -q '^id: ' \"$OUT\"; do :; done"),
        (
            "-d '{\"key\":\"user/7\",\"value\":\"ada\"}' 127.0.0.1:7001/kv",
            "until grep -q '^data: ' \"$OUT\"; do :; done",
        ),
        ("--join 127.0.0.1:7001 --quiet &", "until says 'n4 *[^ ]* *voter' raft-ctl members; do :; done"),
        ("transfer n4", "anew; ./scripts/raft-cluster.sh down"),
        (
            "n3=127.0.0.1:7003 --quiet &",
            "until says 'n2 (does not.*n3 (does not' curl 127.0.0.1:7001/health; do :; done",
        ),
        (
            "7001/health",
            "anew; rm -r .raft-cluster; cluster=./scripts/raft-cluster.sh; quietly $cluster up 3; $cluster down
            $cluster wipe n1; $cluster wipe n2; $cluster restart n3; $cluster restart n2; $cluster restart n1
            until says 'refused by n3' curl 127.0.0.1:7001/health; do :; done",
        ),
    ];
    runs_as_written(&Page { path: "docs/raft-node.md", varies: ALL, after, ..Page::default() });
}

#[test]
fn the_transcripts_of_upgrades_run_as_written() {
    let before = r#"
quietly ./scripts/raft-cluster.sh up 3
until says 'n1.*"netbelt".*n2.*"netbelt".*n3.*"netbelt"' curl 127.0.0.1:7001/status; do :; done
"#;
    let after = &[(
        "| {id, netbelt, dataFormat})'",
        "./scripts/raft-cluster.sh down; cp -r .raft-cluster/n1 n1.raft; sed -i 's/\"format\": *2/\"format\":3/' n1.raft/netbelt.json",
    )];
    runs_as_written(&Page { path: "docs/upgrades.md", varies: ALL, before, after });
}

#[test]
fn the_transcripts_of_a_lost_majority_run_as_written() {
    // n2 and n3 are lost, disks and all, while n1 writes what nobody else has.
    let before = r#"
for id in 1 2 3; do
    peers=$(for peer in 1 2 3; do [ $peer = $id ] || echo "--peer n$peer=127.0.0.1:700$peer"; done)
    raft-node --id n$id --listen 127.0.0.1:700$id $peers --quiet >/dev/null 2>&1 &
    eval "n$id=$!"
done
until quietly raft-ctl leader; do :; done
quietly raft-ctl transfer n1
quietly raft-ctl bench --clients 8 --reads 0 --duration 1m &
until curl 127.0.0.1:7001/status | jq -e '.commitIndex > 20' >/dev/null; do :; done
kill -9 $n2 $n3
until curl 127.0.0.1:7001/status | jq -e '.lastIndex - .commitIndex > 1' >/dev/null; do :; done
kill $!
wait $! $n2 $n3 2>/dev/null
rm -r n2.raft n3.raft
"#;
    let after = &[
        ("--out n1.backup", "kill -9 $n1; wait $n1 2>/dev/null"),
        ("127.0.0.1:7003 --join 127.0.0.1:7001 &", "until says 'voter.*voter.*voter' raft-ctl members; do :; done"),
    ];
    runs_as_written(&Page { path: "docs/lost-majority.md", varies: ALL, before, after });
}
