//! Reads a trace: its own words decide how it looks, and Raft's have looks of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::timeline::{
    Arrow, Axis, Band, CutOff, Kind, LONGEST_LOG, LogAt, LogEntry, Lost, Mark, Role, Timeline, What, Words,
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

/// A line of a trace. What is not known is passed over.
#[derive(Deserialize)]
struct Line {
    event: String,
    #[serde(default)]
    time_us: u64,
    #[serde(default)]
    step: u64,
    #[serde(flatten)]
    facts: Map<String, Value>,
}

impl Line {
    fn number(&self, name: &str) -> Option<u64> {
        self.facts.get(name)?.as_u64()
    }

    /// A node, or another number that counts.
    fn place(&self, name: &str) -> Option<usize> {
        self.number(name)?.try_into().ok()
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.facts.get(name)?.as_bool()
    }

    fn word(&self, name: &str) -> Option<&str> {
        self.facts.get(name)?.as_str()
    }

    /// Entries of a log; none where other things have that name.
    fn entries(&self) -> Vec<EntryLine> {
        self.facts.get("entries").and_then(|entries| Deserialize::deserialize(entries).ok()).unwrap_or_default()
    }

    /// Everything else, in words.
    fn facts(&self, but: &[&str]) -> String {
        let say = |(name, value): (&String, &Value)| match value {
            Value::String(text) => format!("{name} {text}"),
            other => format!("{name} {other}"),
        };
        let facts = self.facts.iter().filter(|(name, _)| !but.contains(&name.as_str()));
        facts.map(say).collect::<Vec<_>>().join(", ")
    }
}

#[derive(Deserialize)]
struct EntryLine {
    index: u64,
    #[serde(default)]
    term: u64,
    data: Option<String>,
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
struct Reader {
    axis: Axis,
    nodes: usize,
    end: f64,
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
    /// Whether its roles have terms, as Raft's have.
    has_terms: bool,
    timeline: Timeline,
}

impl Reader {
    fn new(header: &Line) -> Self {
        let axis = if header.word("axis") == Some("step") { Axis::Steps } else { Axis::Time };
        let nodes = header.place("nodes").unwrap_or_default();
        Self {
            axis,
            nodes,
            end: 0.0,
            open: BTreeMap::new(),
            flying: BTreeMap::new(),
            votes: BTreeMap::new(),
            voters: BTreeMap::new(),
            logs: BTreeMap::new(),
            cut: BTreeSet::new(),
            isolated: BTreeMap::new(),
            plain: Vec::new(),
            has_terms: true,
            timeline: Timeline {
                axis,
                nodes,
                end: 0.0,
                bands: Vec::new(),
                pauses: Vec::new(),
                isolations: Vec::new(),
                arrows: Vec::new(),
                marks: Vec::new(),
                lines: Vec::new(),
                logs: Vec::new(),
                words: Words::default(),
            },
        }
    }

    fn take(&mut self, line: &Line) -> Result<(), String> {
        let at = match self.axis {
            Axis::Time => line.time_us as f64,
            Axis::Steps => line.step as f64,
        };
        self.end = self.end.max(at);
        let node = || line.place("id").ok_or("it names no id");
        let link = || line.place("from").zip(line.place("to")).ok_or("it names no from and to");
        let timeline = &mut self.timeline;
        match line.event.as_str() {
            "send" => {
                let (from, to) = link()?;
                let arrow = arrow(line, from, to, at, &mut timeline.words);
                self.flying.insert(line.number("msg").ok_or("it names no msg")?, arrow);
            }
            "deliver" | "drop" => {
                let Some(mut arrow) = line.number("msg").and_then(|msg| self.flying.remove(&msg)) else {
                    return Ok(());
                };
                arrow.ended = Some(at);
                if line.event == "drop" {
                    let down = line.word("why") == Some("down");
                    arrow.lost = Some(if down { Lost::AtTheEnd } else { Lost::OnItsWay });
                    arrow.says += match line.word("why") {
                        Some("down") => ": the receiver is down",
                        Some("cut") => ": lost, the link is cut",
                        _ => ": lost",
                    };
                }
                if line.event == "deliver" {
                    self.count(&arrow, line.number("term"), at);
                }
                self.timeline.arrows.push(arrow);
            }
            "role" | "state" => {
                let (node, term) = (node()?, line.number("term"));
                let says = term.map_or_else(|| line.facts(&["id", "state"]), |term| format!("term {term}"));
                let role = match line.word("state") {
                    Some("leader") => Role::Leader,
                    Some("candidate") if line.flag("pre_vote") == Some(true) => Role::PreCandidate,
                    Some("candidate") => Role::Candidate,
                    Some("follower") => Role::Follower,
                    Some(other) => Role::Other(place_of(&mut timeline.words.states, other)),
                    None => Role::Plain(place_of(&mut self.plain, &says)),
                };
                self.has_terms &= term.is_some();
                self.voters.insert(node, line.place("voters").unwrap_or(self.nodes));
                self.enter(node, at, role, term, says);
            }
            "log" => {
                let node = node()?;
                let (first, keep) =
                    line.number("first").zip(line.number("keep")).ok_or("it names no first and keep")?;
                let (begins, log) = self.logs.entry(node).or_default();
                *begins = first;
                log.retain(|entry| (first..=keep).contains(&entry.index));
                log.extend(line.entries().into_iter().map(|entry| LogEntry {
                    index: entry.index,
                    term: entry.term,
                    says: entry.data.unwrap_or_default(),
                }));
                // Long logs are not drawn, and need not be remembered at each change.
                log.truncate(LONGEST_LOG + 1);
                let entries = log.clone();
                timeline.logs.push(LogAt { node, at, first, entries });
            }
            "wipe" => {
                let node = node()?;
                // It is stopped for that, and starts at once: one sign is enough.
                timeline.marks.retain(|mark| mark.at < at || mark.what != What::Crash { node });
                timeline.marks.push(Mark { at, what: What::Wipe { node } });
                self.open.insert(
                    node,
                    Band { node, from: at, to: at, role: Role::Started, term: Some(0), says: "term 0".to_owned() },
                );
                self.logs.remove(&node);
                timeline.logs.push(LogAt { node, at, first: 1, entries: Vec::new() });
            }
            "crash" => {
                let node = node()?;
                for pause in timeline.pauses.iter_mut().filter(|pause| pause.node == node) {
                    pause.to = pause.to.min(at);
                }
                self.enter(node, at, Role::Down, None, String::new());
                self.timeline.marks.push(Mark { at, what: What::Crash { node } });
            }
            "start" => {
                let node = node()?;
                let before = self.open.get(&node);
                let restart = before.is_some_and(|band| band.role == Role::Down);
                let (term, says) = before.map_or((Some(0), "term 0".to_owned()), |band| (band.term, band.says.clone()));
                self.enter(node, at, Role::Started, term, says);
                if let Some((first, log)) = self.logs.get(&node) {
                    self.timeline.logs.push(LogAt { node, at, first: *first, entries: log.clone() });
                }
                if restart {
                    self.timeline.marks.push(Mark { at, what: What::Start { node } });
                }
            }
            "pause" => {
                let to = at + line.number("lasts_us").ok_or("it names no lasts_us")? as f64;
                timeline.pauses.push(Band {
                    node: node()?,
                    from: at,
                    to,
                    role: Role::Follower,
                    term: None,
                    says: String::new(),
                });
            }
            "commit" => {
                let what = What::Commit { node: node()?, index: line.number("commit").ok_or("it names no commit")? };
                timeline.marks.push(Mark { at, what });
            }
            "cut" => {
                let (from, to) = link()?;
                self.cut.insert((from, to));
                timeline.marks.push(Mark { at, what: What::Cut { from, to } });
                self.look_at_links(at);
            }
            "join" => {
                let (from, to) = link()?;
                self.cut.remove(&(from, to));
                timeline.marks.push(Mark { at, what: What::Join { from, to } });
                self.look_at_links(at);
            }
            "heal" => {
                self.cut.clear();
                timeline.marks.push(Mark { at, what: What::Heal });
                self.look_at_links(at);
            }
            "line" => {
                let text = line.word("text").unwrap_or_default().to_owned();
                let looks = ["state", "pending", "progress", "expect"];
                if !looks.contains(&text.split_whitespace().next().unwrap_or_default()) {
                    timeline.lines.push((at, line.place("line").unwrap_or_default(), text));
                }
            }
            "persist" => {} // not drawn
            other => {
                let Some(node) = line.place("id") else { return Ok(()) };
                let facts = line.facts(&["id"]);
                let says = if facts.is_empty() { other.to_owned() } else { format!("{other}: {facts}") };
                timeline.marks.push(Mark { at, what: What::Told { node, says } });
            }
        }
        Ok(())
    }

    fn enter(&mut self, node: usize, at: f64, role: Role, term: Option<u64>, says: String) {
        self.nodes = self.nodes.max(node);
        if let Some(band) = self.open.get_mut(&node) {
            let (term, says) = if role == Role::Down { (band.term, band.says.clone()) } else { (term, says) };
            if band.role == Role::Started && role == Role::Follower && band.says == says {
                band.role = role; // as every node of Raft's starts
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
            let of = self.voters.get(&node).copied().unwrap_or(self.nodes);
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
        let end = self.end + if self.axis == Axis::Steps { 1.0 } else { 0.0 };
        for (_, band) in self.open {
            self.timeline.bands.push(Band { to: end, ..band });
        }
        for band in self.timeline.bands.iter_mut().filter(|band| band.role == Role::Started) {
            if self.has_terms {
                band.role = Role::Follower;
            } else {
                band.role = Role::Other(place_of(&mut self.timeline.words.states, "up"));
                band.says.clear();
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
        (end > 0.0).then_some(Timeline { nodes: self.nodes, end, ..self.timeline })
    }
}

/// The place of a word among those that there were, or a new one.
fn place_of(words: &mut Vec<String>, word: &str) -> usize {
    words.iter().position(|known| known == word).unwrap_or_else(|| {
        words.push(word.to_owned());
        words.len() - 1
    })
}

fn arrow(line: &Line, from: usize, to: usize, sent: f64, words: &mut Words) -> Arrow {
    let name = line.word("type").unwrap_or_default();
    let (term, entries) = (line.number("term"), line.entries());
    let kind = match name.trim_end_matches("_reply") {
        "pre_vote" => Kind::PreVote,
        "request_vote" => Kind::Vote,
        "install_snapshot" => Kind::Snapshot,
        "timeout_now" => Kind::Transfer,
        "read_index" => Kind::Read,
        "append_entries" if name == "append_entries" && entries.is_empty() => Kind::Heartbeat,
        "append_entries" => Kind::Append,
        "forward" | "administer" => Kind::Forward,
        "heartbeat" if term.is_some() => Kind::Forward, // Raft's, while its disk is busy
        other => Kind::Other(place_of(&mut words.types, other)),
    };
    let answer = line.flag("granted").or(line.flag("success"));
    let mut says = format!("{name} from n{from} to n{to}");
    match term {
        Some(term) => says += &format!(", term {term}"),
        None => {
            let facts = line.facts(&["msg", "from", "to", "type"]);
            says += &if facts.is_empty() { facts } else { format!(": {facts}") };
        }
    }
    match (answer, &*entries) {
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
