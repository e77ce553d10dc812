//! What a newcomer meets first: docs/raft-in-five-minutes.md, its pictures, and the scripts that play with real processes.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::common::{Ended, PATIENCE, netsim, run};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where the binaries are.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_netsim")).parent().unwrap().to_owned()
}

/// A shell in `dir` that finds the tools, and ports that two runs at once do not share.
fn shell(dir: &Path) -> Command {
    let mut command = Command::new("sh");
    let path = std::env::var("PATH").unwrap_or_default();
    command.current_dir(dir).stdin(Stdio::null());
    command.env("PATH", format!("{}:{path}", tools().display())).env("NETBELT_BIN", tools());
    command.env("RAFT_PORT", free_ports().to_string());
    for variable in ["RAFT_DIR", "RAFT_FLAGS", "RAFT_NODES"] {
        command.env_remove(variable);
    }
    command
}

/// The first of three free ports, where no connection of somebody else begins.
fn free_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 20_000 + (std::process::id() % 1_000) as u16 * 10;
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let tried = std::iter::repeat_with(|| begin + NEXT.fetch_add(3, Ordering::Relaxed) % 2_000);
    tried.take(600).find(|port| (*port..port + 3).all(free)).expect("three free ports")
}

/// The top of the project as the reader of a page sees it, where what a command writes stays.
fn a_place_to_read_in() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["docs", "scripts", "README.md"] {
        symlink(root().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

/// The commands of a page and what it says they print.
fn transcript(page: &str) -> Vec<(String, String)> {
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in page.lines() {
        match line.strip_prefix("    ") {
            Some(text) if text.starts_with("$ ") => commands.push((text[2..].to_owned(), String::new())),
            Some(text) => {
                if let Some((_, printed)) = commands.last_mut() {
                    *printed += &format!("{text}\n");
                }
            }
            None => {}
        }
    }
    commands
}

/// Which node leads is not the same each time, nor how wide a column is: numbers and blanks count as equal.
fn shape(text: &str) -> String {
    let digits = text.split_whitespace().map(|word| word.replace(|c: char| c.is_ascii_digit(), "#"));
    digits.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_command_of_raft_in_five_minutes_runs_as_written_and_prints_what_it_says() {
    let place = a_place_to_read_in();
    let page = fs::read_to_string(root().join("docs/raft-in-five-minutes.md")).unwrap();
    let commands = transcript(&page);
    assert!(commands.len() >= 12, "{commands:?}");
    let mut lines = "set -e\ntrap '[ ! -e .raft-cluster ] || ./scripts/raft-cluster.sh down' EXIT\n".to_owned();
    for (command, _) in &commands {
        lines += &format!("{command}\nprintf '\\036'\n");
    }
    let mut command = shell(place.path());
    command.args(["-c", &lines]);
    let mut command = assert_cmd::Command::from_std(command);
    let output = command.timeout(4 * PATIENCE).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let printed: Vec<_> = stdout.split('\u{1e}').collect();
    assert!(output.status.success(), "after {printed:#?}:\n{stderr}");
    assert_eq!(printed.len(), commands.len() + 1, "{printed:#?}");
    for ((command, said), printed) in commands.iter().zip(&printed) {
        // When a node notices who leads varies: of the table only the first line counts.
        let lines = if command == "raft-ctl status" { 1 } else { usize::MAX };
        let of = |text: &str| shape(&text.lines().take(lines).collect::<Vec<_>>().join("\n"));
        assert_eq!(of(printed), of(said), "{command} printed\n{printed}");
    }
    let mut pictures = 0;
    for (command, _) in &commands {
        let Some((_, file)) = command.split_once("> ").filter(|(_, file)| file.ends_with(".svg")) else { continue };
        pictures += 1;
        let (drawn, shown) = (place.path().join(file), root().join("docs").join(format!("raft-{file}")));
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(read(&drawn) == read(&shown), "{} is not what its command draws: run docs/draw.sh", shown.display());
        assert!(page.contains(&format!("](raft-{file})")), "{file} is not in the page");
    }
    assert_eq!(pictures, 4, "an election, a repair, a split vote, a partition");
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let top: Vec<_> = readme.lines().take(30).collect();
    assert!(top.iter().any(|line| line.contains("docs/raft-in-five-minutes.md")), "{top:#?}");
}

#[test]
fn the_examples_in_the_help_of_netsim_draw_something_worth_seeing() {
    let place = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for arguments in [&["--help"][..], &["raft", "--help"], &["draw", "--help"]] {
        let mut command = netsim();
        command.args(arguments);
        let help = run(command).expect(0).stdout;
        for line in help.lines().map(str::trim).filter(|line| line.contains("raft --seed ") && line.contains('|')) {
            let mut command = shell(place.path());
            command.args(["-c", line]);
            run(command).expect(0);
            let file = place.path().join(line.rsplit("> ").next().unwrap());
            let svg = fs::read_to_string(&file).unwrap();
            for part in ["leader, t", ">crash<", "votes it has", "most happens here"] {
                assert!(svg.contains(part), "{line}: no {part:?}");
            }
            let arrows = svg.matches("clip-path=").count();
            assert!((10..=150).contains(&arrows), "{line}: {arrows} arrows");
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
}

/// Runs `raft-cluster.sh` with its directory below `dir`.
fn cluster(dir: &Path, port: u16, arguments: &[&str]) -> Ended {
    let mut command = shell(dir);
    command.arg(root().join("scripts/raft-cluster.sh")).args(arguments);
    command.env("RAFT_DIR", dir.join("new/deep")).env("RAFT_PORT", port.to_string());
    run(command)
}

/// Stops a cluster however its test ends.
struct Stopped<'a>(&'a Path, u16);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        cluster(self.0, self.1, &["down"]); // fails when there is none, which is as well
    }
}

/// Processes that were told of this directory.
fn processes_in(dir: &Path) -> Vec<String> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    let lines = processes.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains("raft-node") && line.contains(dir.to_str().unwrap())).collect()
}

#[test]
fn a_cluster_that_does_not_come_up_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_ports();
    let _taken = TcpListener::bind(("127.0.0.1", port + 2)).unwrap();
    cluster(dir.path(), port, &["up", "3"]).expect(1).says(&["n3 did not start", &(port + 2).to_string()]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the directories it made are gone");
    assert_eq!(processes_in(dir.path()), [] as [&str; 0]);
    cluster(dir.path(), port, &["up", "many"]).expect(1).says(&["'many' is no number of nodes"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_cluster_that_does_not_come_up_again_is_stopped_and_keeps_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_ports();
    let _stopped = Stopped(dir.path(), port);
    cluster(dir.path(), port, &["up", "3"]).expect(0);
    cluster(dir.path(), port, &["down"]).expect(0);
    let _taken = TcpListener::bind(("127.0.0.1", port + 2)).unwrap();
    cluster(dir.path(), port, &["up"]).expect(1).says(&["n3 did not start"]);
    assert_eq!(processes_in(dir.path()), [] as [&str; 0]);
    for node in ["n1", "n2", "n3"] {
        assert!(dir.path().join("new/deep").join(node).is_dir(), "the data of {node} is there");
    }
}

#[test]
fn every_exercise_asks_its_question_before_it_answers() {
    for name in ["basics", "failover", "partition", "persistence"] {
        let text = fs::read_to_string(root().join(format!("scripts/raft-{name}.sh"))).unwrap();
        let mut asked = text.split("\nstep ").next().unwrap().contains("\nask \"");
        assert!(asked || !text.split("\nstep ").next().unwrap().contains("\ncheck "), "{name} answers first");
        for part in text.split("\nstep ").skip(1) {
            let (question, answer) = (part.find("\nask \""), part.find("\ncheck "));
            assert!(question < answer || answer.is_none(), "{name} answers before it asks: step {part}");
            assert!(question.is_some(), "{name} asks nothing: step {part}");
            asked = true;
        }
        assert!(asked, "{name} asks nothing");
    }
}

#[test]
fn a_node_that_asks_for_pre_votes_says_so_and_not_that_it_is_a_candidate() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_ports();
    let _stopped = Stopped(dir.path(), port);
    cluster(dir.path(), port, &["up", "2"]).expect(0);
    let log = |node| fs::read_to_string(dir.path().join(format!("new/deep/{node}.log"))).unwrap();
    let logs = log("n1") + &log("n2");
    let (asked, stood) = (logs.find("asks for pre-votes, still in term 0"), logs.find("candidate in term 1"));
    assert!(asked.is_some() && stood.is_some(), "{logs}");
    assert!(!logs.contains("candidate in term 0"), "{logs}");
}
