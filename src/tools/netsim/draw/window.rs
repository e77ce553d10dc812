//! A part of a timeline that a picture can hold: where most happens, without what tells least.

use super::timeline::{Arrow, Axis, Band, CutOff, Kind, LONGEST_LOG, LogAt, Mark, Role, Timeline, What, Words};

/// Arrows that a picture holds before it is a thicket.
const MOST_ARROWS: usize = 400;
/// The same in a picture whose part was not asked for.
const MOST_CHOSEN: usize = 150;
/// Other marks.
const MOST_MARKS: usize = 200;
/// A part that is chosen has so many arrows, without those that are left out first ...
const BUSIEST_CHOSEN: usize = 90;
/// ... and is so many times as long as a message is usually on its way, or the picture would be of upright lines; in
/// microseconds, not below and above this ...
const LONGEST_CHOSEN: f64 = 120.0;
const LONGEST_CHOSEN_WITHIN: [f64; 2] = [120e3, 2e6];
/// ... and begins and ends so much of that before and after.
const MARGIN: f64 = 0.06;

/// The part between two places. Without any, it is the whole, or of a long run the part where most happens. None when
/// there is nothing in it.
pub(super) fn window(timeline: &Timeline, from: Option<f64>, to: Option<f64>) -> Option<Timeline> {
    let chosen = if from.is_none() && to.is_none() { choose(timeline) } else { None };
    let (from, to) = chosen.unwrap_or((from.unwrap_or(timeline.from), to.unwrap_or(timeline.to).min(timeline.to)));
    if from >= to {
        return None;
    }
    let cut = |bands: &[Band]| {
        let within = bands.iter().filter(|band| band.from < to && band.to > from);
        within.map(|b| Band { from: b.from.max(from), to: b.to.min(to), ..b.clone() }).collect::<Vec<_>>()
    };
    let isolations = timeline.isolations.iter().filter(|off| off.from < to && off.to > from);
    let isolations = isolations.map(|off| CutOff { from: off.from.max(from), to: off.to.min(to), ..*off }).collect();
    let seen = |arrow: &&Arrow| arrow.sent <= to && arrow.ended.unwrap_or(timeline.to) >= from;
    let mut arrows: Vec<_> = timeline.arrows.iter().filter(seen).cloned().collect();
    let mut marks: Vec<_> = timeline.marks.iter().filter(|m| (from..=to).contains(&m.at)).cloned().collect();
    let left_out =
        thin(&mut arrows, &mut marks, &timeline.words, if chosen.is_some() { MOST_CHOSEN } else { MOST_ARROWS });
    let mut notes = Vec::new();
    if chosen.is_some() {
        let seconds = |at: f64| format!("{:.3} s", at / 1e6);
        let (from, to, end) = (seconds(from), seconds(to), seconds(timeline.to));
        notes.push(format!(
            "{from} to {to} of {end}: most happens here (--from and --to show another part, --from 0s all)"
        ));
    }
    if !left_out.is_empty() {
        let part = if chosen.is_some() { "" } else { " (--from and --to show a part in full)" };
        notes.push(format!("Left out: {}{part}", left_out.join(", ")));
    }
    Some(Timeline {
        axis: timeline.axis,
        nodes: timeline.nodes,
        from,
        to,
        bands: cut(&timeline.bands),
        pauses: cut(&timeline.pauses),
        isolations,
        arrows,
        marks,
        lines: timeline.lines.iter().filter(|(at, _, _)| (from..=to).contains(at)).cloned().collect(),
        logs: logs(&timeline.logs, from, to),
        words: timeline.words.clone(),
        notes,
    })
}

/// The logs within the part, none when one is long; what a node had when it begins counts as a change there.
fn logs(all: &[LogAt], from: f64, to: f64) -> Vec<LogAt> {
    let mut logs: Vec<LogAt> = Vec::new();
    for log in all.iter().filter(|log| log.at <= to) {
        let at = log.at.max(from);
        logs.retain(|earlier| earlier.node != log.node || earlier.at < at);
        logs.push(LogAt { at, ..log.clone() });
    }
    if logs.iter().any(|log| log.entries.len() > LONGEST_LOG) { Vec::new() } else { logs }
}

/// Of a run too long to be seen at once, the part where most happens: elections, crashes and cuts weigh, heartbeats do not.
fn choose(timeline: &Timeline) -> Option<(f64, f64)> {
    if timeline.axis == Axis::Steps || timeline.arrows.len() <= MOST_CHOSEN {
        return None;
    }
    let mut events: Vec<(f64, u32)> = timeline.marks.iter().map(|mark| (mark.at, weight(&mark.what))).collect();
    events.extend(timeline.bands.iter().map(|band| (band.from, band_weight(band.role))));
    events.extend(timeline.isolations.iter().map(|off| (off.from, 3)));
    events.extend(timeline.pauses.iter().map(|pause| (pause.from, 2)));
    events.extend(
        timeline.arrows.iter().filter(|a| a.answer == Some(false) && a.kind == Kind::Append).map(|a| (a.sent, 1)),
    );
    events.retain(|(_, weight)| *weight > 0);
    events.sort_by(|a, b| a.0.total_cmp(&b.0));
    let telling: Vec<f64> = timeline.arrows.iter().filter(|a| !is_routine(a)).map(|arrow| arrow.sent).collect();
    let busy = |from: f64, to: f64| telling.partition_point(|at| *at <= to) - telling.partition_point(|at| *at < from);
    let mut delays: Vec<f64> = timeline.arrows.iter().filter_map(|a| Some(a.ended? - a.sent)).collect();
    delays.sort_by(f64::total_cmp);
    let [least, most] = LONGEST_CHOSEN_WITHIN;
    let longest = (LONGEST_CHOSEN * delays.get(delays.len() / 2)?).clamp(least, most);
    let margin = MARGIN * longest;
    let mut best: Option<(u32, f64, f64)> = None;
    for (first, (from, _)) in events.iter().enumerate() {
        let fits = |to: f64| to - from <= longest && busy(from - margin, to + margin) <= BUSIEST_CHOSEN;
        let inside: Vec<_> = events[first..].iter().take_while(|(at, _)| fits(*at)).collect();
        let score = inside.iter().map(|(_, weight)| weight).sum();
        if let Some((to, _)) = inside.last()
            && best.is_none_or(|(highest, _, _)| score > highest)
        {
            best = Some((score, *from, *to));
        }
    }
    let (_, from, to) = best?;
    let whole = |at: f64| (at / 1e3).round() * 1e3;
    Some((whole((from - margin).max(0.0)), whole((to + margin).min(timeline.to)).max(from + margin)))
}

const fn band_weight(role: Role) -> u32 {
    match role {
        Role::Leader => 8,
        Role::Other(_) | Role::Plain(_) => 2,
        Role::Started | Role::Follower | Role::PreCandidate | Role::Candidate | Role::Down => 0,
    }
}

const fn weight(what: &What) -> u32 {
    match what {
        What::Commit { .. } => 0,
        What::Votes { pre, .. } => {
            if *pre {
                0
            } else {
                2
            }
        }
        What::Cut { .. } | What::Join { .. } | What::Told { .. } => 1,
        What::Crash { .. } | What::Wipe { .. } | What::Heal => 4,
        What::Start { .. } => 3,
    }
}

/// Left out first.
fn is_routine(arrow: &Arrow) -> bool {
    arrow.kind == Kind::Heartbeat || (arrow.kind == Kind::Append && arrow.reply)
}

/// Leaves out what tells least until the rest can be seen, and says so.
fn thin(arrows: &mut Vec<Arrow>, marks: &mut Vec<Mark>, words: &Words, most: usize) -> Vec<String> {
    let mut left_out = Vec::new();
    let mut leave = |arrows: &mut Vec<Arrow>, what: &str, which: &dyn Fn(&Arrow) -> bool| {
        if arrows.len() > most {
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
    for (place, name) in words.types.iter().enumerate() {
        leave(arrows, name, &|arrow| arrow.kind == Kind::Other(place) && arrow.reply);
        leave(arrows, name, &|arrow| arrow.kind == Kind::Other(place));
    }
    leave(arrows, "other messages", &|_| true);
    for (what, which) in [
        ("commits", (|what| matches!(what, What::Commit { .. })) as fn(&What) -> bool),
        ("cuts and joins of links", |what| matches!(what, What::Cut { .. } | What::Join { .. })),
        ("counts of votes", |what| matches!(what, What::Votes { .. })),
        ("other marks", |what| matches!(what, What::Told { .. })),
        ("crashes and starts", |what| matches!(what, What::Crash { .. } | What::Start { .. })),
    ] {
        if marks.len() > MOST_MARKS {
            let before = marks.len();
            marks.retain(|mark| !which(&mark.what));
            if before > marks.len() {
                left_out.push(format!("{} {what}", before - marks.len()));
            }
        }
    }
    left_out
}
