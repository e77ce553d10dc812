//! The pages' transcripts run as written: each page in a network and among processes of its own, so that its ports are free and
//! it ends nobody else's nodes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::PATIENCE;

/// What a page's transcript needs around it: a network with a neighbour's place that nobody has, and waiting where a reader
/// would take his time.
const AROUND: &str = r#"
ip link set lo up
ip link add eth0 type veth peer name eth1 && ip address add 192.168.1.1/24 dev eth0 && ip link set eth0 up && ip link set eth1 up
set -m
ready=0
# Waits until one more server has said that it is ready.
is_ready() {
    ready=$((ready + 1))
    until [ "$(grep -c 'ready on\|"event":"ready"' "$OUT")" -ge "$ready" ]; do :; done
}
"#;

#[derive(Debug)]
struct Step {
    command: String,
    shown: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("    ")) {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.to_owned(), shown: Vec::new() }),
            None => {
                if let Some(step) = steps.last_mut() {
                    step.shown.push(line.to_owned());
                }
            }
        }
    }
    steps
}

/// A line without what differs from run to run: numbers and their units, the bars of a histogram, blanks.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    let mut chars = line.chars().filter(|c| !matches!(c, '█'..='▏')).peekable();
    while let Some(c) = chars.next() {
        if c.is_ascii_digit() {
            while chars.next_if(|c| c.is_ascii_digit() || matches!(c, '.' | ',')).is_some() {}
            shape.push('#');
        } else {
            shape.push(c);
        }
    }
    let words = shape.split_whitespace().filter(|word| !["us", "ms", "s", "ns", "MB/s", "GB/s"].contains(word));
    words.collect::<Vec<_>>().join(" ")
}

/// The script that does what the page says, and waits where what comes next counts on it.
fn script(steps: &[Step], dir: &Path) -> String {
    let mut script = AROUND.to_owned();
    let mut ends_by_itself = false;
    for Step { command, shown } in steps {
        if let Some(file) = command.strip_prefix("cat ") {
            fs::write(dir.join(file), shown.join("\n") + "\n").unwrap(); // the reader writes it
        }
        if command.contains("meanwhile") {
            continue; // it takes two hands
        }
        let in_background = command.ends_with('&');
        if in_background && ends_by_itself {
            script += "wait\n";
        }
        // Who reads has one job at a time; a shell that nobody watches may number them otherwise.
        writeln!(script, "{}", command.replace("%1", "$server")).unwrap();
        if in_background {
            script += "server=$!\nis_ready\n";
            ends_by_itself = command.contains("--count");
        }
        if command == "kill %1" {
            script += "wait $server\n";
        }
    }
    script + "kill $(jobs -p) 2>/dev/null; wait\n"
}

#[track_caller]
fn runs_as_written(page: &str) {
    let container = ["--net", "--pid", "--fork", "--mount-proc"];
    let has_ip = Command::new("ip").arg("-V").output().is_ok_and(|ip| ip.status.success());
    if !has_ip || !Command::new("unshare").args(container).arg("true").output().is_ok_and(|made| made.status.success())
    {
        return eprintln!("SKIPPED: transcripts want namespaces: root, unshare, and ip of iproute2");
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    for name in ["docs", "scripts"] {
        symlink(root.join(name), dir.path().join(name)).unwrap();
    }
    let text = fs::read_to_string(root.join(page)).unwrap();
    let steps = steps(&text);
    assert!(steps.len() >= 4, "{steps:?}");
    let script = script(&steps, dir.path());
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
    assert!(ended.success(), "{ended}: the transcript of {page} did not come to its end:\n{script}\n{printed}");

    let shown = steps.iter().filter(|step| !step.command.contains("meanwhile")).flat_map(|step| &step.shown);
    let shown: BTreeSet<_> = shown.map(|line| shape(line)).collect();
    let printed: BTreeSet<_> = printed.lines().map(shape).collect();
    let missing: Vec<_> = shown.difference(&printed).filter(|line| *line != "...").collect();
    assert!(missing.is_empty(), "{page} shows what nobody printed: {missing:#?}\nprinted: {printed:#?}");
    if !shown.contains("...") {
        let more: Vec<_> = printed.difference(&shown).collect();
        assert!(more.is_empty(), "{page} does not show: {more:#?}");
    }
}

#[test]
fn the_transcripts_of_worker_pool_run_as_written() {
    runs_as_written("docs/worker-pool.md");
}

#[test]
fn the_transcripts_of_the_udp_tools_run_as_written() {
    runs_as_written("docs/udp.md");
}

#[test]
fn the_transcripts_of_tcp_echo_run_as_written() {
    runs_as_written("docs/tcp-echo.md");
}

#[test]
fn the_transcripts_of_netsim_run_as_written() {
    runs_as_written("docs/netsim.md");
}

#[test]
fn the_transcripts_of_the_readme_run_as_written() {
    runs_as_written("README.md");
}
