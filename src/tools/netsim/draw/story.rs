//! What a trace tells: lanes with bands, arrows between them, and marks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};

use serde::Deserialize;

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
    nodes: usize,
    end: f64,
    bands: Vec<Band>,
    pauses: Vec<Band>,
    isolations: Vec<Band>,
    arrows: Vec<Arrow>,
    marks: Vec<Mark>,
    /// Lines of a script, with the step of each.
    lines: Vec<(f64, usize, String)>,
}

/// A part of a trace, ready to be drawn.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) axis: Axis,
    pub(super) nodes: usize,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) bands: Vec<Band>,
    pub(super) pauses: Vec<Band>,
    pub(super) isolations: Vec<Band>,
    pub(super) arrows: Vec<Arrow>,
    pub(super) marks: Vec<Mark>,
    pub(super) lines: Vec<(f64, usize, String)>,
    /// What was too much, in words.
    pub(super) left_out: Vec<String>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Follower,
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
    Commit { node: usize, index: u64 },
    Crash { node: usize },
    Start { node: usize },
    Cut { from: usize, to: usize },
    Join { from: usize, to: usize },
    Heal,
}

/// Arrows that a picture holds before it is a thicket.
const MOST_ARROWS: usize = 400;
/// Other marks.
const MOST_MARKS: usize = 200;

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

    /// The part between two places, or all of it.
    pub(super) fn scene(&self, from: Option<f64>, to: Option<f64>) -> Option<Scene> {
        let (from, to) = (from.unwrap_or(0.0), to.unwrap_or(self.end).min(self.end));
        if from >= to {
            return None;
        }
        let cut = |bands: &[Band]| {
            let within = bands.iter().filter(|band| band.from < to && band.to > from);
            within.map(|b| Band { from: b.from.max(from), to: b.to.min(to), ..b.clone() }).collect::<Vec<_>>()
        };
        let seen = |arrow: &&Arrow| arrow.sent <= to && arrow.ended.unwrap_or(self.end) >= from;
        let mut arrows: Vec<_> = self.arrows.iter().filter(seen).cloned().collect();
        let mut marks: Vec<_> = self.marks.iter().filter(|m| (from..=to).contains(&m.at)).cloned().collect();
        let left_out = thin(&mut arrows, &mut marks);
        let lines = self.lines.iter().filter(|(at, _, _)| (from..=to).contains(at)).cloned().collect();
        Some(Scene {
            axis: self.axis,
            nodes: self.nodes,
            from,
            to,
            bands: cut(&self.bands),
            pauses: cut(&self.pauses),
            isolations: cut(&self.isolations),
            arrows,
            marks,
            lines,
            left_out,
        })
    }
}

/// Leaves out what tells least until the rest can be seen, and says so.
fn thin(arrows: &mut Vec<Arrow>, marks: &mut Vec<Mark>) -> Vec<String> {
    let mut left_out = Vec::new();
    let mut leave = |arrows: &mut Vec<Arrow>, what: &str, which: &dyn Fn(&Arrow) -> bool| {
        if arrows.len() > MOST_ARROWS {
            let before = arrows.len();
            arrows.retain(|arrow| !which(arrow));
            if before > arrows.len() {
                left_out.push(format!("{} {what}", before - arrows.len()));
            }
        }
    };
    leave(arrows, "heartbeats", &|arrow| arrow.kind == Kind::Heartbeat);
    leave(arrows, "replies to appends", &|arrow| arrow.kind == Kind::Append && arrow.reply);
    leave(arrows, "reads and forwarded writes", &|arrow| matches!(arrow.kind, Kind::Read | Kind::Forward));
    leave(arrows, "lost messages", &|arrow| arrow.lost.is_some());
    leave(arrows, "appends", &|arrow| arrow.kind == Kind::Append);
    leave(arrows, "pre-votes", &|arrow| arrow.kind == Kind::PreVote);
    leave(arrows, "other messages", &|_| true);
    for (what, which) in [
        ("commits", (|what| matches!(what, What::Commit { .. })) as fn(&What) -> bool),
        ("cuts and joins of links", |what| matches!(what, What::Cut { .. } | What::Join { .. })),
        ("crashes and starts", |what| matches!(what, What::Crash { .. } | What::Start { .. })),
    ] {
        if marks.len() > MOST_MARKS {
            let before = marks.len();
            marks.retain(|mark| !which(&mark.what));
            left_out.push(format!("{} {what}", before - marks.len()));
        }
    }
    left_out
}

/// A trace being read.
struct Reader {
    axis: Axis,
    nodes: usize,
    end: f64,
    /// The band that each node is in.
    open: BTreeMap<usize, Band>,
    flying: BTreeMap<u64, Arrow>,
    /// Links that are cut; and nodes all whose links are, with the time since when.
    cut: BTreeSet<(usize, usize)>,
    isolated: BTreeMap<usize, f64>,
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
                story.arrows.push(arrow);
            }
            "role" => {
                let role = match line.state.as_deref() {
                    Some("leader") => Role::Leader,
                    Some("candidate") => Role::Candidate,
                    _ => Role::Follower,
                };
                self.enter(node()?, at, role, line.term);
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
            "line" => story.lines.push((at, line.line.unwrap_or_default(), line.text.unwrap_or_default())),
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
            band.to = at;
            let next = Band { node, from: at, to: at, role, term };
            self.story.bands.push(std::mem::replace(band, next));
        } else {
            self.open.insert(node, Band { node, from: at, to: at, role, term });
        }
    }

    /// A node all whose links are cut is shown as one that is cut off.
    fn look_at_links(&mut self, at: f64) {
        for node in self.open.keys().copied().collect::<Vec<_>>() {
            let others = || self.open.keys().filter(|other| **other != node);
            let off = others().count() > 0
                && others().all(|other| self.cut.contains(&(node, *other)) && self.cut.contains(&(*other, node)));
            match (off, self.isolated.get(&node).copied()) {
                (true, None) => drop(self.isolated.insert(node, at)),
                (false, Some(from)) => {
                    self.isolated.remove(&node);
                    self.story.isolations.push(Band { node, from, to: at, role: Role::Follower, term: 0 });
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
    }

    fn finish(mut self) -> Option<Story> {
        let end = self.end + if self.axis == Axis::Steps { 1.0 } else { 0.0 };
        for (_, band) in self.open {
            self.story.bands.push(Band { to: end, ..band });
        }
        for (node, from) in self.isolated {
            self.story.isolations.push(Band { node, from, to: end, role: Role::Follower, term: 0 });
        }
        self.story.arrows.extend(self.flying.into_values());
        self.story.arrows.sort_by(|a, b| a.sent.total_cmp(&b.sent));
        // The marks of links say nothing more where a node is shown as cut off.
        let off = &self.story.isolations;
        let covered = |at: f64, node: usize| off.iter().any(|b| b.node == node && (b.from == at || b.to == at));
        self.story.marks.retain(|mark| match mark.what {
            What::Cut { from, to } | What::Join { from, to } => !covered(mark.at, from) && !covered(mark.at, to),
            What::Commit { .. } | What::Crash { .. } | What::Start { .. } | What::Heal => true,
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
    Arrow { from, to, sent, ended: None, lost: None, kind, reply: name.ends_with("_reply"), says, entries }
}
