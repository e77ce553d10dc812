//! What a trace tells: lanes with bands, arrows between them, and marks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use serde::Deserialize;

use super::scene::LONGEST_LOG;

/// No line of a trace is longer, unless it is none.
const LONGEST_LINE: u64 = 16 << 20;

/// What goes along the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// Virtual time, in microseconds.
    Time,
    /// Steps of a script.
    Steps,
}

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

/// A whole trace.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) axis: Axis,
    pub(super) nodes: usize,
    pub(super) end: f64,
    pub(super) bands: Vec<Band>,
    pub(super) pauses: Vec<Band>,
    pub(super) isolations: Vec<CutOff>,
    pub(super) arrows: Vec<Arrow>,
    pub(super) marks: Vec<Mark>,
    /// Lines of a script, with the step of each.
    pub(super) lines: Vec<(f64, usize, String)>,
    pub(super) logs: Vec<LogAt>,
}

/// The log that a node has from here on.
#[derive(Clone, Debug, Default)]
pub(super) struct LogAt {
    pub(super) node: usize,
    pub(super) at: f64,
    /// A snapshot has what was before this index.
    pub(super) first: u64,
    pub(super) entries: Vec<LogEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogEntry {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) says: String,
}

/// A stretch of a lane.
#[derive(Clone, Debug)]
pub(super) struct Band {
    pub(super) node: usize,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) role: Role,
    pub(super) term: u64,
}

/// Neighbouring lanes that are cut off for a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct CutOff {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) from: f64,
    pub(super) to: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Follower,
    /// Asks whether it could be elected.
    PreCandidate,
    Candidate,
    Leader,
    Down,
}

/// A message.
#[derive(Clone, Debug)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) sent: f64,
    /// When it arrived or was lost; None while it was on its way at the end.
    pub(super) ended: Option<f64>,
    pub(super) lost: Option<Lost>,
    pub(super) kind: Kind,
    pub(super) reply: bool,
    pub(super) says: String,
    /// The entries it carries.
    pub(super) entries: Option<(u64, u64)>,
    /// Of a reply: yes or no.
    pub(super) answer: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    OnItsWay,
    AtTheEnd,
}

/// A family of messages, with a colour of its own. The last to be left out comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Transfer,
    Vote,
    PreVote,
    Snapshot,
    Append,
    Forward,
    Read,
    Heartbeat,
}

/// Something at one node at one time.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Commit {
        node: usize,
        index: u64,
    },
    /// A candidate has so many votes of so many.
    Votes {
        node: usize,
        votes: usize,
        of: usize,
        pre: bool,
    },
    Crash {
        node: usize,
    },
    Wipe {
        node: usize,
    },
    Start {
        node: usize,
    },
    Cut {
        from: usize,
        to: usize,
    },
    Join {
        from: usize,
        to: usize,
    },
    Heal,
}

/// A line of a trace. Fields are only ever added, so what is not known is passed over.
#[derive(Deserialize)]
struct Line {
    event: String,
    #[serde(default)]
    time_us: u64,
    #[serde(default)]
    step: u64,
    axis: Option<String>,
    nodes: Option<usize>,
    id: Option<usize>,
    msg: Option<u64>,
    from: Option<usize>,
    to: Option<usize>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    term: u64,
    state: Option<String>,
    #[serde(default)]
    pre_vote: bool,
    voters: Option<usize>,
    first: Option<u64>,
    keep: Option<u64>,
    commit: Option<u64>,
    lasts_us: Option<u64>,
    why: Option<String>,
    line: Option<usize>,
    text: Option<String>,
    entries: Option<Vec<EntryLine>>,
    granted: Option<bool>,
    success: Option<bool>,
}

#[derive(Deserialize)]
struct EntryLine {
    index: u64,
    #[serde(default)]
    term: u64,
    data: Option<String>,
}

impl Story {
    /// Reads a trace.
    pub(super) fn read(mut lines: impl BufRead) -> Result<Self, TraceError> {
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
                Some(reader) => reader.take(line).map_err(wrong)?,
            }
        }
        reader.ok_or(TraceError::Empty)?.finish().ok_or(TraceError::Empty)
    }

    /// Where a line of the script begins, or where what it led to ends.
    pub(super) fn step_of_line(&self, line: usize, end: bool) -> Option<f64> {
        let place = self.lines.iter().position(|(_, number, _)| *number >= line)?;
        Some(if end { self.lines.get(place + 1).map_or(self.end, |next| next.0 - 1.0) } else { self.lines[place].0 })
    }
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
    story: Story,
}

impl Reader {
    fn new(header: &Line) -> Self {
        let axis = if header.axis.as_deref() == Some("step") { Axis::Steps } else { Axis::Time };
        let nodes = header.nodes.unwrap_or_default();
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
            story: Story {
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
            },
        }
    }

    fn take(&mut self, line: Line) -> Result<(), String> {
        let at = match self.axis {
            Axis::Time => line.time_us as f64,
            Axis::Steps => line.step as f64,
        };
        self.end = self.end.max(at);
        let node = || line.id.ok_or("it names no id");
        let link = || line.from.zip(line.to).ok_or("it names no from and to");
        let story = &mut self.story;
        match line.event.as_str() {
            "send" => {
                let (from, to) = link()?;
                let arrow = arrow(&line, from, to, at);
                self.flying.insert(line.msg.ok_or("it names no msg")?, arrow);
            }
            "deliver" | "drop" => {
                let Some(mut arrow) = line.msg.and_then(|msg| self.flying.remove(&msg)) else { return Ok(()) };
                arrow.ended = Some(at);
                if line.event == "drop" {
                    let down = line.why.as_deref() == Some("down");
                    arrow.lost = Some(if down { Lost::AtTheEnd } else { Lost::OnItsWay });
                    arrow.says += match line.why.as_deref() {
                        Some("down") => ": the receiver is down",
                        Some("cut") => ": lost, the link is cut",
                        _ => ": lost",
                    };
                }
                if line.event == "deliver" {
                    self.count(&arrow, line.term, at);
                }
                self.story.arrows.push(arrow);
            }
            "role" => {
                let role = match line.state.as_deref() {
                    Some("leader") => Role::Leader,
                    Some("candidate") if line.pre_vote => Role::PreCandidate,
                    Some("candidate") => Role::Candidate,
                    _ => Role::Follower,
                };
                let node = node()?;
                self.voters.insert(node, line.voters.unwrap_or(self.nodes));
                self.enter(node, at, role, line.term);
            }
            "log" => {
                let node = node()?;
                let (first, keep) = line.first.zip(line.keep).ok_or("it names no first and keep")?;
                let (begins, log) = self.logs.entry(node).or_default();
                *begins = first;
                log.retain(|entry| (first..=keep).contains(&entry.index));
                log.extend(line.entries.unwrap_or_default().into_iter().map(|entry| LogEntry {
                    index: entry.index,
                    term: entry.term,
                    says: entry.data.unwrap_or_default(),
                }));
                // Long logs are not drawn, and need not be remembered at each change.
                log.truncate(LONGEST_LOG + 1);
                let entries = log.clone();
                story.logs.push(LogAt { node, at, first, entries });
            }
            "wipe" => {
                let node = node()?;
                // It is stopped for that, and starts at once: one sign is enough.
                story.marks.retain(|mark| mark.at < at || mark.what != What::Crash { node });
                story.marks.push(Mark { at, what: What::Wipe { node } });
                self.open.insert(node, Band { node, from: at, to: at, role: Role::Follower, term: 0 });
                self.logs.remove(&node);
                story.logs.push(LogAt { node, at, first: 1, entries: Vec::new() });
            }
            "crash" => {
                let (node, term) = (node()?, line.term);
                for pause in story.pauses.iter_mut().filter(|pause| pause.node == node) {
                    pause.to = pause.to.min(at);
                }
                self.enter(node, at, Role::Down, term);
                self.story.marks.push(Mark { at, what: What::Crash { node } });
            }
            "start" => {
                let node = node()?;
                let restart = self.open.get(&node).is_some_and(|band| band.role == Role::Down);
                let term = self.open.get(&node).map_or(0, |band| band.term);
                self.enter(node, at, Role::Follower, term);
                if let Some((first, log)) = self.logs.get(&node) {
                    self.story.logs.push(LogAt { node, at, first: *first, entries: log.clone() });
                }
                if restart {
                    self.story.marks.push(Mark { at, what: What::Start { node } });
                }
            }
            "pause" => {
                let to = at + line.lasts_us.ok_or("it names no lasts_us")? as f64;
                story.pauses.push(Band { node: node()?, from: at, to, role: Role::Follower, term: 0 });
            }
            "commit" => {
                let what = What::Commit { node: node()?, index: line.commit.ok_or("it names no commit")? };
                story.marks.push(Mark { at, what });
            }
            "cut" => {
                let (from, to) = link()?;
                self.cut.insert((from, to));
                story.marks.push(Mark { at, what: What::Cut { from, to } });
                self.look_at_links(at);
            }
            "join" => {
                let (from, to) = link()?;
                self.cut.remove(&(from, to));
                story.marks.push(Mark { at, what: What::Join { from, to } });
                self.look_at_links(at);
            }
            "heal" => {
                self.cut.clear();
                story.marks.push(Mark { at, what: What::Heal });
                self.look_at_links(at);
            }
            "line" => {
                let text = line.text.unwrap_or_default();
                let looks = ["state", "pending", "progress", "expect"];
                if !looks.contains(&text.split_whitespace().next().unwrap_or_default()) {
                    story.lines.push((at, line.line.unwrap_or_default(), text));
                }
            }
            _ => {} // such as persist: not drawn
        }
        Ok(())
    }

    fn enter(&mut self, node: usize, at: f64, role: Role, term: u64) {
        self.nodes = self.nodes.max(node);
        if let Some(band) = self.open.get_mut(&node) {
            let term = if role == Role::Down { band.term } else { term };
            if (band.role, band.term) == (role, term) {
                return; // it has only found out whom to follow
            }
            self.votes.remove(&node);
            band.to = at;
            let next = Band { node, from: at, to: at, role, term };
            let last = std::mem::replace(band, next);
            if last.from < at {
                self.story.bands.push(last);
            }
        } else {
            self.open.insert(node, Band { node, from: at, to: at, role, term });
        }
    }

    /// A vote that counts: of this candidacy, and not heard before.
    fn count(&mut self, reply: &Arrow, term: u64, at: f64) {
        let node = reply.to;
        let Some(band) = self.open.get(&node).filter(|_| reply.reply && reply.answer == Some(true)) else { return };
        let pre = match (band.role, reply.kind) {
            (Role::PreCandidate, Kind::PreVote) if term == band.term + 1 => true,
            (Role::Candidate, Kind::Vote) if term == band.term => false,
            _ => return,
        };
        let votes = self.votes.entry(node).or_default();
        if votes.insert(reply.from) {
            let of = self.voters.get(&node).copied().unwrap_or(self.nodes);
            let what = What::Votes { node, votes: votes.len() + 1, of, pre };
            self.story.marks.push(Mark { at, what });
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
                self.story.isolations.push(CutOff { first, last, from, to: at });
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

    fn finish(mut self) -> Option<Story> {
        let end = self.end + if self.axis == Axis::Steps { 1.0 } else { 0.0 };
        for (_, band) in self.open {
            self.story.bands.push(Band { to: end, ..band });
        }
        for ((first, last), from) in self.isolated {
            self.story.isolations.push(CutOff { first, last, from, to: end });
        }
        self.story.arrows.extend(self.flying.into_values());
        self.story.arrows.sort_by(|a, b| a.sent.total_cmp(&b.sent));
        // The marks of links say nothing more where nodes are shown as cut off.
        let off = &self.story.isolations;
        let covered = |at: f64, from: usize, to: usize| {
            let inside = |group: &CutOff, node| (group.first..=group.last).contains(&node);
            off.iter().any(|g| (g.from == at || g.to == at) && inside(g, from) != inside(g, to))
        };
        self.story.marks.retain(|mark| match mark.what {
            What::Cut { from, to } | What::Join { from, to } => !covered(mark.at, from, to),
            What::Commit { .. }
            | What::Votes { .. }
            | What::Crash { .. }
            | What::Wipe { .. }
            | What::Start { .. }
            | What::Heal => true,
        });
        (end > 0.0).then_some(Story { nodes: self.nodes, end, ..self.story })
    }
}

fn arrow(line: &Line, from: usize, to: usize, sent: f64) -> Arrow {
    let name = line.kind.clone().unwrap_or_default();
    let entries = line.entries.as_deref().unwrap_or_default();
    let kind = match name.trim_end_matches("_reply") {
        "pre_vote" => Kind::PreVote,
        "request_vote" => Kind::Vote,
        "install_snapshot" => Kind::Snapshot,
        "timeout_now" => Kind::Transfer,
        "read_index" => Kind::Read,
        "append_entries" if name == "append_entries" && entries.is_empty() => Kind::Heartbeat,
        "append_entries" => Kind::Append,
        _ => Kind::Forward,
    };
    let mut says = format!("{name} from n{from} to n{to}, term {}", line.term);
    match (line.granted.or(line.success), entries) {
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
    let (reply, answer) = (name.ends_with("_reply"), line.granted.or(line.success));
    Arrow { from, to, sent, ended: None, lost: None, kind, reply, says, entries, answer }
}
