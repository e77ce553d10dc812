//! Reads a trace: by the rules of [`Look`](crate::sim::observe::Look), whatever protocol it is of.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use super::line::{EntryLine, Line, MOST_LANES};
use super::timeline::{
    Arrow, Axis, Band, CutOff, Kind, LONGEST_LOG, LogAt, LogEntry, Lost, Mark, Role, Timeline, What,
};

/// No line of a trace is longer, unless it is none.
const LONGEST_LINE: u64 = 16 << 20;

/// Not a trace.
#[derive(Debug, thiserror::Error)]
pub(super) enum TraceError {
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    #[error("line {line}: {what}")]
    Wrong { line: usize, what: String },
    #[error("nothing happens in it")]
    Empty,
}

/// Reads a trace.
pub(super) fn read(mut lines: impl BufRead) -> Result<Timeline, TraceError> {
    let mut reader: Option<Reader> = None;
    for number in 1.. {
        let mut text = String::new();
        if io::Read::take(&mut lines, LONGEST_LINE).read_line(&mut text)? == 0 {
            break;
        }
        let wrong = |what: String| TraceError::Wrong { line: number, what };
        let line: Line = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        match &mut reader {
            None if line.event == "trace" => reader = Some(Reader::new(&line)),
            None => return Err(wrong("the first line is not {\"event\":\"trace\",..}".to_owned())),
            Some(reader) => reader.take(&line).map_err(wrong)?,
        }
    }
    reader.ok_or(TraceError::Empty)?.finish().ok_or(TraceError::Empty)
}

/// A trace being read.
#[derive(Default)]
struct Reader {
    /// The band that each node is in.
    open: BTreeMap<usize, Band>,
    flying: BTreeMap<u64, Arrow>,
    /// Who has voted for each candidate so far, and how many vote.
    votes: BTreeMap<usize, BTreeSet<usize>>,
    voters: BTreeMap<usize, usize>,
    /// The first index and the entries of each log.
    logs: BTreeMap<usize, (u64, Vec<LogEntry>)>,
    /// Links that are cut; and the first and last of neighbours who are cut off, with the time since when.
    cut: BTreeSet<(usize, usize)>,
    isolated: BTreeMap<(usize, usize), f64>,
    /// What [`Role::Plain`] has said so far.
    plain: Vec<String>,
    /// Whether it is Raft's, which its roles tell: then messages have its families, and who has said nothing is a follower.
    is_raft: bool,
    timeline: Timeline,
}

impl Reader {
    fn new(header: &Line) -> Self {
        let axis = if header.word("axis") == Some("step") { Axis::Steps } else { Axis::Time };
        let nodes = header.place("nodes").unwrap_or_default().min(MOST_LANES);
        let from = if axis == Axis::Steps { 1.0 } else { 0.0 };
        // In a script a node tells its role only when that changes; no other protocol has scripts.
        let is_raft = axis == Axis::Steps;
        Self { is_raft, timeline: Timeline { axis, nodes, from, ..Timeline::default() }, ..Self::default() }
    }

    fn take(&mut self, line: &Line) -> Result<(), String> {
        let at = match self.timeline.axis {
            Axis::Time => line.time_us as f64,
            Axis::Steps => line.step as f64,
        };
        self.timeline.to = self.timeline.to.max(at);
        match line.event.as_str() {
            "send" => self.send(line, at)?,
            "deliver" | "drop" => self.arrive(line, at),
            "wipe" => self.wipe(line.id()?, at),
            "crash" => self.crash(line.id()?, at),
            "start" => self.start(line.id()?, at),
            "pause" => self.pause(line, at)?,
            "cut" | "join" | "heal" => self.change_links(line, at)?,
            "line" => self.script(line, at),
            "persist" => {} // not drawn
            "role" => self.role(line, line.id()?, at),
            _ => self.look(line, at),
        }
        Ok(())
    }

    fn mark(&mut self, at: f64, what: What) {
        self.timeline.marks.push(Mark { at, what });
    }

    fn send(&mut self, line: &Line, at: f64) -> Result<(), String> {
        let (from, to) = line.link()?;
        let arrow = self.arrow(line, from, to, at);
        self.timeline.nodes = self.timeline.nodes.max(from).max(to);
        self.flying.insert(line.number("msg").ok_or("it names no msg")?, arrow);
        Ok(())
    }

    fn arrive(&mut self, line: &Line, at: f64) {
        let Some(mut arrow) = line.number("msg").and_then(|msg| self.flying.remove(&msg)) else { return };
        arrow.ended = Some(at);
        if line.event == "drop" {
            let down = line.word("why") == Some("down");
            arrow.lost = Some(if down { Lost::AtTheEnd } else { Lost::OnItsWay });
            arrow.says += match line.word("why") {
                Some("down") => ": the receiver is down",
                Some("cut") => ": lost, the link is cut",
                _ => ": lost",
            };
        } else {
            self.count(&arrow, line.number("term"), at);
        }
        self.timeline.arrows.push(arrow);
    }

    fn wipe(&mut self, node: usize, at: f64) {
        // It is stopped for that, and starts at once: one sign is enough.
        self.timeline.marks.retain(|mark| mark.at < at || mark.what != What::Crash { node });
        self.mark(at, What::Wipe { node });
        self.open.insert(node, Band { node, from: at, to: at, role: Role::Started, term: None, says: String::new() });
        self.logs.remove(&node);
        self.timeline.logs.push(LogAt { node, at, first: 1, entries: Vec::new() });
    }

    fn crash(&mut self, node: usize, at: f64) {
        for pause in self.timeline.pauses.iter_mut().filter(|pause| pause.node == node) {
            pause.to = pause.to.min(at);
        }
        self.enter(node, at, Role::Down, None, String::new());
        self.mark(at, What::Crash { node });
    }

    fn start(&mut self, node: usize, at: f64) {
        let before = self.open.get(&node);
        let restart = before.is_some_and(|band| band.role == Role::Down);
        let (term, says) = before.map_or((None, String::new()), |band| (band.term, band.says.clone()));
        self.enter(node, at, Role::Started, term, says);
        if let Some((first, log)) = self.logs.get(&node) {
            self.timeline.logs.push(LogAt { node, at, first: *first, entries: log.clone() });
        }
        if restart {
            self.mark(at, What::Start { node });
        }
    }

    fn pause(&mut self, line: &Line, at: f64) -> Result<(), String> {
        let to = at + line.number("lasts_us").ok_or("it names no lasts_us")? as f64;
        let node = line.id()?;
        self.timeline.pauses.push(Band { node, from: at, to, role: Role::Follower, term: None, says: String::new() });
        Ok(())
    }

    fn change_links(&mut self, line: &Line, at: f64) -> Result<(), String> {
        let what = match line.event.as_str() {
            "heal" => {
                self.cut.clear();
                What::Heal
            }
            "cut" => {
                let (from, to) = line.link()?;
                self.cut.insert((from, to));
                What::Cut { from, to }
            }
            _ => {
                let (from, to) = line.link()?;
                self.cut.remove(&(from, to));
                What::Join { from, to }
            }
        };
        self.mark(at, what);
        self.look_at_links(at);
        Ok(())
    }

    /// A line of a script, unless it only looks at the nodes.
    fn script(&mut self, line: &Line, at: f64) {
        let text = line.word("text").unwrap_or_default().to_owned();
        let looks = ["state", "pending", "progress", "expect"];
        if !looks.contains(&text.split_whitespace().next().unwrap_or_default()) {
            self.timeline.lines.push((at, line.place("line").unwrap_or_default(), text));
        }
    }

    /// What a protocol tells of a node, by the rules of [`Look`](crate::sim::observe::Look).
    fn look(&mut self, line: &Line, at: f64) {
        let Some(node) = line.place("id") else { return };
        let log = || Some((line.number("first")?, line.number("keep")?, line.entries()?));
        match (line.event.as_str(), line.number("commit"), log()) {
            ("commit", Some(index), _) => self.mark(at, What::Commit { node, index }),
            ("log", _, Some((first, keep, entries))) => self.log(node, at, first, keep, entries),
            (name, _, _) => {
                let facts = line.facts(&["id"]);
                let says = if facts.is_empty() { name.to_owned() } else { format!("{name}: {facts}") };
                self.mark(at, What::Told { node, says });
            }
        }
    }

    fn role(&mut self, line: &Line, node: usize, at: f64) {
        let (term, voters) = (line.number("term"), line.place("voters"));
        self.is_raft |= voters.is_some();
        let says = match term.zip(voters) {
            Some((term, _)) => format!("term {term}"),
            None => line.facts(&["id", "state"]),
        };
        let role = match line.word("state") {
            Some("leader") => Role::Leader,
            Some("candidate") if line.flag("pre_vote") == Some(true) => Role::PreCandidate,
            Some("candidate") => Role::Candidate,
            Some("follower") => Role::Follower,
            Some(other) => Role::Other(place_of(&mut self.timeline.words.states, other)),
            None => Role::Plain(place_of(&mut self.plain, &says)),
        };
        self.voters.insert(node, voters.unwrap_or(self.timeline.nodes));
        self.enter(node, at, role, term, says);
    }

    fn log(&mut self, node: usize, at: f64, first: u64, keep: u64, entries: Vec<EntryLine>) {
        let (begins, log) = self.logs.entry(node).or_default();
        *begins = first;
        log.retain(|entry| (first..=keep).contains(&entry.index));
        log.extend(entries.into_iter().map(|EntryLine { index, term, data }| LogEntry {
            index,
            term,
            says: data.unwrap_or_default(),
        }));
        // Long logs are not drawn, and need not be remembered at each change.
        log.truncate(LONGEST_LOG + 1);
        self.timeline.logs.push(LogAt { node, at, first, entries: log.clone() });
    }

    fn arrow(&mut self, line: &Line, from: usize, to: usize, sent: f64) -> Arrow {
        let name = line.word("type").unwrap_or_default();
        let entries = line.entries().unwrap_or_default();
        let known = of_raft(name, !entries.is_empty()).filter(|_| self.is_raft);
        let kind = known
            .unwrap_or_else(|| Kind::Other(place_of(&mut self.timeline.words.types, name.trim_end_matches("_reply"))));
        let answer = line.flag("granted").or(line.flag("success"));
        let mut says = format!("{name} from n{from} to n{to}");
        match line.number("term").filter(|_| self.is_raft) {
            Some(term) => says += &format!(", term {term}"),
            None => {
                let facts = line.facts(&["msg", "from", "to", "type"]);
                says += &if facts.is_empty() { facts } else { format!(": {facts}") };
            }
        }
        match (answer, &*entries) {
            _ if !self.is_raft => {}
            (Some(yes), _) => says += if yes { ": yes" } else { ": no" },
            (None, []) => {}
            (None, entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|entry| format!("{} {}", entry.index, entry.data.as_deref().unwrap_or("no-op")))
                    .collect();
                says += &format!(": {}", entries.join(", "));
            }
        }
        let entries = entries.first().zip(entries.last()).map(|(first, last)| (first.index, last.index));
        Arrow { from, to, sent, ended: None, lost: None, kind, reply: name.ends_with("_reply"), says, entries, answer }
    }

    fn enter(&mut self, node: usize, at: f64, role: Role, term: Option<u64>, says: String) {
        self.timeline.nodes = self.timeline.nodes.max(node);
        if let Some(band) = self.open.get_mut(&node) {
            let (term, says) = if role == Role::Down { (band.term, band.says.clone()) } else { (term, says) };
            let has_said_nothing = band.says.is_empty() && term == Some(0);
            if band.role == Role::Started && role == Role::Follower && (has_said_nothing || band.says == says) {
                (band.role, band.term, band.says) = (role, term, says.clone()); // as every node of Raft's starts
            }
            if (band.role, &band.says) == (role, &says) {
                return; // it has only found out whom to follow
            }
            self.votes.remove(&node);
            band.to = at;
            let next = Band { node, from: at, to: at, role, term, says };
            let last = std::mem::replace(band, next);
            if last.from < at {
                self.timeline.bands.push(last);
            }
        } else {
            self.open.insert(node, Band { node, from: at, to: at, role, term, says });
        }
    }

    /// A vote that counts: of this candidacy, and not heard before.
    fn count(&mut self, reply: &Arrow, term: Option<u64>, at: f64) {
        let node = reply.to;
        let Some(band) = self.open.get(&node).filter(|_| reply.reply && reply.answer == Some(true)) else { return };
        let pre = match (band.role, reply.kind) {
            (Role::PreCandidate, Kind::PreVote) if term == band.term.map(|term| term + 1) => true,
            (Role::Candidate, Kind::Vote) if term == band.term => false,
            _ => return,
        };
        let votes = self.votes.entry(node).or_default();
        if votes.insert(reply.from) {
            let of = self.voters.get(&node).copied().unwrap_or(self.timeline.nodes);
            let what = What::Votes { node, votes: votes.len() + 1, of, pre };
            self.timeline.marks.push(Mark { at, what });
        }
    }

    /// Nodes that no link joins with a majority, in either direction, are shown as cut off from it.
    fn look_at_links(&mut self, at: f64) {
        let nodes: Vec<usize> = self.open.keys().copied().collect();
        let mut off = BTreeSet::new();
        for (first, last) in self.groups(&nodes) {
            off.insert((first, last));
            self.isolated.entry((first, last)).or_insert(at);
        }
        let over: Vec<_> = self.isolated.extract_if(.., |group, _| !off.contains(group)).collect();
        for ((first, last), from) in over {
            if from < at {
                self.timeline.isolations.push(CutOff { first, last, from, to: at });
            }
        }
    }

    /// Groups of neighbouring lanes that are cut off together.
    fn groups(&self, nodes: &[usize]) -> Vec<(usize, usize)> {
        let joined = |a: usize, b: usize| !self.cut.contains(&(a, b)) || !self.cut.contains(&(b, a));
        let mut parts: Vec<BTreeSet<usize>> = Vec::new();
        for &node in nodes {
            let (with, without): (Vec<_>, Vec<_>) =
                parts.into_iter().partition(|part| part.iter().any(|other| joined(node, *other)));
            parts = without;
            parts.push(with.into_iter().flatten().chain([node]).collect());
        }
        let minorities = parts.iter().filter(|part| 2 * part.len() <= nodes.len());
        minorities
            .flat_map(|part| {
                part.iter().filter(|node| !part.contains(&(**node - 1))).map(move |first| {
                    let last = (*first..).take_while(|node| part.contains(node)).last();
                    (*first, last.unwrap_or(*first))
                })
            })
            .collect()
    }

    fn finish(mut self) -> Option<Timeline> {
        let end = self.timeline.to + if self.timeline.axis == Axis::Steps { 1.0 } else { 0.0 };
        self.timeline.to = end;
        self.timeline.bands.extend(self.open.into_values().map(|band| Band { to: end, ..band }));
        for band in &mut self.timeline.bands {
            match band.role {
                Role::Started if !self.is_raft => {
                    let up = Role::Other(place_of(&mut self.timeline.words.states, "up"));
                    (band.role, band.term, band.says) = (up, None, String::new());
                }
                Role::Started | Role::Down if self.is_raft && band.says.is_empty() => {
                    (band.term, band.says) = (Some(0), "term 0".to_owned());
                }
                _ => {}
            }
            if band.role == Role::Started {
                band.role = Role::Follower;
            }
        }
        for ((first, last), from) in self.isolated {
            self.timeline.isolations.push(CutOff { first, last, from, to: end });
        }
        self.timeline.arrows.extend(self.flying.into_values());
        self.timeline.arrows.sort_by(|a, b| a.sent.total_cmp(&b.sent));
        // The marks of links say nothing more where nodes are shown as cut off.
        let off = &self.timeline.isolations;
        let covered = |at: f64, from: usize, to: usize| {
            let inside = |group: &CutOff, node| (group.first..=group.last).contains(&node);
            off.iter().any(|g| (g.from == at || g.to == at) && inside(g, from) != inside(g, to))
        };
        self.timeline.marks.retain(|mark| match mark.what {
            What::Cut { from, to } | What::Join { from, to } => !covered(mark.at, from, to),
            What::Commit { .. }
            | What::Votes { .. }
            | What::Crash { .. }
            | What::Wipe { .. }
            | What::Start { .. }
            | What::Told { .. }
            | What::Heal => true,
        });
        (end > 0.0).then_some(self.timeline)
    }
}

/// The place of a word among those that there were, or a new one.
fn place_of(words: &mut Vec<String>, word: &str) -> usize {
    words.iter().position(|known| known == word).unwrap_or_else(|| {
        words.push(word.to_owned());
        words.len() - 1
    })
}

/// The family of a type of Raft's messages, if it is one.
fn of_raft(name: &str, has_entries: bool) -> Option<Kind> {
    Some(match name.trim_end_matches("_reply") {
        "pre_vote" => Kind::PreVote,
        "request_vote" => Kind::Vote,
        "install_snapshot" => Kind::Snapshot,
        "timeout_now" => Kind::Transfer,
        "read_index" => Kind::Read,
        "append_entries" if name == "append_entries" && !has_entries => Kind::Heartbeat,
        "append_entries" => Kind::Append,
        "forward" | "administer" | "heartbeat" => Kind::Forward, // a heartbeat of its own is one of a leader whose disk is busy
        _ => return None,
    })
}
