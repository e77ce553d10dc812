//! The picture: drawn in the order in which things may cover each other.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::colour::{self, Theme};
use super::picture::{BAND, LEFT, Picture, escape, is_ballot, label};
use super::timeline::{Arrow, Axis, Band, Kind, LogAt, LogEntry, Lost, Role, Timeline, What};

/// The width of the box of a snapshot.
const SNAPSHOT: f64 = 40.0;

/// Writes the picture.
pub(super) fn write(out: &mut impl Write, window: &Timeline, title: Option<&str>, theme: Theme) -> io::Result<()> {
    let mut picture = Picture::new(window, title);
    picture.axis();
    picture.lanes();
    for arrow in &window.arrows {
        picture.arrow(arrow);
    }
    for arrow in &window.arrows {
        picture.arrow_label(arrow);
    }
    picture.marks();
    picture.legend();
    let drawn = std::mem::take(&mut picture.text);
    picture.head(theme); // only now is it known how large it is
    out.write_all(format!("{}{drawn}</svg>\n", picture.text).as_bytes())
}

impl Picture<'_> {
    fn head(&mut self, theme: Theme) {
        let (width, height) = (self.width.ceil(), (self.pen.1 + 22.0).ceil());
        self.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\" font-size=\"16\" class=\"f-ink\">"
        ));
        self.put(format_args!("<style>{}\n.halo{{stroke-width:4;paint-order:stroke}}</style>", colour::style(theme)));
        self.put(format_args!("<rect width=\"{width}\" height=\"{height}\" class=\"f-paper\"/><defs>"));
        for (kind, colour, _) in colour::kinds(&self.window.words) {
            // A yes has a point, a no has a bar.
            for (name, sign) in [
                ("", format!("<path d=\"M0 1L10 5L0 9z\" class=\"f-{colour}\"/>")),
                ("no", format!("<path d=\"M8.5 0V10\" fill=\"none\" stroke-width=\"2.6\" class=\"s-{colour}\"/>")),
            ] {
                self.put(format_args!(
                    "<marker id=\"{}{name}\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"10\" \
                     markerHeight=\"10\" markerUnits=\"userSpaceOnUse\" orient=\"auto\">{sign}</marker>",
                    kind.id()
                ));
            }
        }
        let (inner, clip) = (self.inner, self.bottom() + 10.0);
        self.put(format_args!(
            "<pattern id=\"paused\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
             <rect width=\"3\" height=\"8\" class=\"f-soft\" fill-opacity=\"0.55\"/></pattern>"
        ));
        self.put(format_args!(
            "<clipPath id=\"within\"><rect x=\"{LEFT}\" y=\"0\" width=\"{inner}\" height=\"{clip}\"/></clipPath></defs>"
        ));
        for (row, title) in std::mem::take(&mut self.title).into_iter().enumerate() {
            let y = 36.0 + 32.0 * row as f64;
            self.put(format_args!("<text x=\"{LEFT}\" y=\"{y}\" font-size=\"24\" font-weight=\"bold\">{title}</text>"));
        }
    }

    fn axis(&mut self) {
        match self.window.axis {
            Axis::Time => self.time_axis(),
            Axis::Steps => self.step_axis(),
        }
    }

    fn time_axis(&mut self) {
        let Timeline { from, to, .. } = *self.window;
        let step = nice_step((to - from) / 10.0);
        let (top, bottom) = (self.top - 8.0, self.bottom() + 10.0);
        let mut tick = (from / step).ceil() * step;
        while tick <= to {
            let (x, label) = (self.x(tick), time(tick, step));
            // The last label would be cut by the edge.
            let anchor = if self.width - x < 5.0 * label.len() as f64 { "end" } else { "middle" };
            let at = if anchor == "end" { self.width - 8.0 } else { x };
            self.put(format_args!(
                "<path d=\"M{x:.1} {top}V{bottom}\" class=\"s-grid\"/><text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"{anchor}\" \
                 class=\"f-soft\">{label}</text>",
                bottom + 24.0
            ));
            tick += step;
        }
    }

    /// The lines of the script, under the first step of each; as many as there is room for.
    fn step_axis(&mut self) {
        let (top, bottom) = (self.top - 8.0, self.bottom() + 10.0);
        let mut free = f64::MIN;
        for (at, number, text) in &self.window.lines {
            let x = self.x(*at);
            self.put(format_args!("<path d=\"M{x:.1} {top}V{bottom}\" class=\"s-grid\"/>"));
            if x < free {
                continue;
            }
            free = x + 13.0;
            let (short, text) = (escape(&label(text)), escape(text));
            self.put(format_args!(
                "<text transform=\"translate({:.1} {:.1}) rotate(50)\" font-size=\"13\" class=\"f-soft\">{short}\
                 <title>line {number}: {text}</title></text>",
                x - 3.0,
                bottom + 14.0,
            ));
        }
    }

    fn lanes(&mut self) {
        for node in 1..=self.window.nodes {
            let y = self.y(node);
            let (x, text_y) = (LEFT - 14.0, y + 20.0);
            self.put(format_args!(
                "<text x=\"{x}\" y=\"{text_y}\" text-anchor=\"end\" font-size=\"20\" font-weight=\"bold\">n{node}</text>"
            ));
            if !self.window.logs.is_empty() {
                let (inner, height) = (self.inner, self.lane());
                self.put(format_args!(
                    "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{inner}\" height=\"{height}\" class=\"f-card\"/>\
                     <text x=\"{x}\" y=\"{}\" text-anchor=\"end\" font-size=\"13\" class=\"f-soft\">log</text>",
                    y + BAND + 44.0
                ));
            }
        }
        for band in &self.window.bands {
            self.band(band);
        }
        for band in &self.window.pauses {
            let (x, y, width) = (self.x(band.from), self.y(band.node), self.x(band.to) - self.x(band.from));
            self.put(format_args!(
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAND}\" fill=\"url(#paused)\">\
                 <title>n{} pauses</title></rect>",
                band.node
            ));
        }
        for off in &self.window.isolations {
            let (x, y, width) = (self.x(off.from), self.y(off.first) - 5.0, self.x(off.to) - self.x(off.from));
            let who: Vec<_> = (off.first..=off.last).map(|node| format!("n{node}")).collect();
            self.put(format_args!(
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" rx=\"5\" fill=\"none\" class=\"s-bad\" \
                 stroke-width=\"2\" stroke-dasharray=\"7 4\"><title>cut off: {}</title></rect>",
                self.y(off.last) + self.lane() + 5.0 - y,
                who.join(", ")
            ));
        }
        for node in 1..=self.window.nodes {
            self.logs(node);
        }
    }

    /// A band says its term when there is room, and its role when there is more.
    fn band(&mut self, band: &Band) {
        let Band { node, role, term, ref says, .. } = *band;
        let (x, y) = (self.x(band.from), self.y(node));
        let width = self.x(band.to) - x;
        let (colour, name) = colour::of_role(role, &self.window.words);
        let whole = [name, says].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        let title = escape(&whole);
        let outline = if role == Role::Down { " stroke-dasharray=\"4 4\"" } else { "" };
        let edge = if role == Role::Down { "s-edge" } else { "s-paper" };
        self.put(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAND}\" class=\"f-{colour} {edge}\"{outline}>\
             <title>n{node}: {title}</title></rect>"
        ));
        let labels = match (role, term) {
            (Role::Down, _) => vec!["down".to_owned()],
            (Role::Leader, Some(term)) => {
                vec![format!("leader, term {term}"), format!("leader, t{term}"), format!("t{term}")]
            }
            (Role::Candidate, Some(term)) => {
                vec![format!("candidate, term {term}"), format!("term {term}"), format!("t{term}")]
            }
            (Role::PreCandidate, _) => vec!["asks for pre-votes".to_owned(), "pre-vote".to_owned()],
            (Role::Follower, Some(0)) => Vec::new(),
            (Role::Follower, Some(term)) => vec![format!("term {term}"), format!("t{term}")],
            (_, _) => vec![whole, name.to_owned(), says.clone()],
        };
        // A cross or a triangle stands at the beginning of some.
        let indent = if role == Role::Down || self.starts_at(node, band.from) { 18.0 } else { 7.0 };
        let fits = |label: &&String| !label.is_empty() && width > indent + 8.0 * label.len() as f64;
        if let Some(label) = labels.iter().find(fits) {
            let weight = if role == Role::Leader { "bold" } else { "normal" };
            self.put(format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" font-size=\"15\" font-weight=\"{weight}\">{}</text>",
                x + indent,
                y + 18.0,
                escape(label)
            ));
        }
    }

    fn starts_at(&self, node: usize, at: f64) -> bool {
        self.window.marks.iter().any(|mark| mark.at == at && mark.what == What::Start { node })
    }

    /// The log as it is from each change on. The latest that there is room for is always there.
    fn logs(&mut self, node: usize) {
        let committed = |until: f64| {
            let marks = self.window.marks.iter().filter(|mark| mark.at < until);
            let indices = marks.filter_map(|mark| match mark.what {
                What::Commit { node: of, index } if of == node => Some(index),
                _ => None,
            });
            indices.max().unwrap_or(0)
        };
        let changes: Vec<&LogAt> = self.window.logs.iter().filter(|log| log.node == node).collect();
        let (mut free, mut until) = (self.right(), f64::MAX);
        let mut strips = Vec::new();
        for log in changes.into_iter().rev() {
            let width = log_width(log);
            let latest = strips.is_empty();
            let x = if latest { self.x(log.at).min(free - width).max(LEFT) } else { self.x(log.at) };
            if latest || x + width + 6.0 <= free {
                strips.push((x, log, committed(until)));
                free = x;
            }
            until = log.at;
        }
        for (x, log, commit) in strips {
            self.log(x, log, commit);
        }
    }

    fn log(&mut self, mut x: f64, log: &LogAt, commit: u64) {
        let node = log.node;
        let y = self.y(node) + BAND + 22.0;
        if let Some(last) = log.first.checked_sub(1).filter(|last| *last > 0) {
            let (width, middle) = (SNAPSHOT - 3.0, x + SNAPSHOT / 2.0 - 1.5);
            self.put(format_args!(
                "<g><rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"36\" rx=\"3\" stroke-width=\"1.4\" \
                 class=\"f-paper s-snapshot\"/><text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\" font-size=\"14\" \
                 class=\"f-snapshot\">≤{last}</text><title>n{node}: a snapshot in place of the entries up to {last}</title></g>",
                y + 23.0
            ));
            x += SNAPSHOT;
        }
        for entry in &log.entries {
            let LogEntry { index, term, says } = entry;
            let width = box_width(entry);
            let dashed = if *index > commit { " stroke-dasharray=\"3 3\"" } else { "" };
            let colour = colour::of_term(*term);
            let (said, short) = (escape(says), escape(&in_box(says)));
            self.put(format_args!(
                "<g><rect x=\"{x:.1}\" y=\"{y}\" width=\"{:.1}\" height=\"36\" rx=\"3\" stroke-width=\"1.4\" class=\"f-{colour} s-soft\"\
                 {dashed}/><text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" font-size=\"14\">{short}</text>\
                 <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" font-size=\"12\" class=\"f-soft\">t{term}</text>\
                 <title>n{node}: entry {index} of term {term} {said}</title></g>",
                width - 3.0,
                x + width / 2.0 - 1.5,
                y + 16.0,
                x + width / 2.0 - 1.5,
                y + 31.0,
            ));
            x += width;
        }
    }

    /// Where an arrow begins and ends in the picture.
    fn ends(&self, arrow: &Arrow) -> [f64; 4] {
        let Arrow { from, to, sent, ended, lost, .. } = *arrow;
        let (y1, y2) = self.between(from, to);
        let x1 = self.x(sent);
        let end = ended.map_or(self.right(), |ended| self.x(ended));
        // What is lost at once has no place to arrive at: it goes a little way.
        let (x2, y2) = match lost {
            None if ended.is_none() => (x1 + (end - x1).min(30.0), y1 + (y2 - y1) * 0.25),
            None | Some(Lost::AtTheEnd) => (end, y2),
            Some(Lost::OnItsWay) => (x1 + (end - x1).max(14.0) * 0.45, y1 + (y2 - y1) * 0.45),
        };
        [x1, y1, x2, y2]
    }

    fn arrow(&mut self, arrow: &Arrow) {
        let Arrow { ended, lost, kind, reply, answer, .. } = *arrow;
        let [x1, y1, x2, y2] = self.ends(arrow);
        let colour = colour::of_kind(kind);
        let ballot = is_ballot(kind);
        let faint = match (kind, reply && !ballot && answer != Some(false)) {
            (Kind::Heartbeat, _) => 0.75,
            (_, true) => 0.65,
            (_, false) => 1.0,
        };
        let width = if reply || kind == Kind::Heartbeat { 1.3 } else { 2.0 };
        let dash = match (kind, lost.is_none() && ended.is_none()) {
            (_, true) => " stroke-dasharray=\"2 4\"",
            (Kind::PreVote, false) => " stroke-dasharray=\"6 3\"",
            (_, false) => "",
        };
        let no = if answer == Some(false) { "no" } else { "" };
        let head = if lost.is_none() && ended.is_some() {
            format!(" marker-end=\"url(#{}{no})\"", kind.id())
        } else {
            String::new()
        };
        let says = escape(&arrow.says);
        self.put(format_args!(
            "<path clip-path=\"url(#within)\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" fill=\"none\" class=\"s-{colour}\" \
             stroke-width=\"{width}\" opacity=\"{faint}\"{dash}{head}><title>{says}</title></path>"
        ));
        if lost.is_some() && (LEFT..=self.right()).contains(&x2) {
            self.cross(x2, y2, 4.5, 2.0);
        }
    }

    /// The entries that an arrow carries, or its yes or no; above all arrows.
    fn arrow_label(&mut self, arrow: &Arrow) {
        let (Some(_), None) = (arrow.ended, arrow.lost) else { return };
        let label = match (arrow.entries, arrow.answer) {
            (Some((first, last)), _) if self.label_entries && first == last => first.to_string(),
            (Some((first, last)), _) if self.label_entries => format!("{first}–{last}"),
            (None, Some(true)) if self.label_answers && is_ballot(arrow.kind) => "yes".to_owned(),
            (None, Some(false)) if self.label_answers => "no".to_owned(),
            _ => return,
        };
        let [x1, y1, x2, y2] = self.ends(arrow);
        let half = 4.5 * label.chars().count() as f64;
        // In the middle, unless something is written there; and rather between lanes than on one.
        let parts = [0.45, 0.55, 0.35, 0.65, 0.25, 0.75, 0.2, 0.8];
        let places = parts.map(|part| (x1 + (x2 - x1) * part, y1 + (y2 - y1) * part + 4.0));
        let is_free = |(x, y): &(f64, f64)| {
            let far = |(x2, y2): &(f64, f64)| (x2 - x).abs() > 2.0 * half || (y2 - y).abs() > 13.0;
            x - half > LEFT && x + half < self.right() && self.labels.iter().all(far)
        };
        let is_between = |(_, y): &(f64, f64)| {
            (1..=self.window.nodes).all(|node| y + 4.0 < self.y(node) || y - 14.0 > self.y(node) + self.lane())
        };
        let free = places.into_iter().filter(is_free);
        let free = free.clone().find(is_between).or_else(|| free.clone().next());
        if let Some((x, y)) = free {
            self.labels.push((x, y));
            let colour = colour::of_kind(arrow.kind);
            self.put(format_args!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"13\" text-anchor=\"middle\" class=\"f-{colour} s-paper halo\">\
                 {label}</text>"
            ));
        }
    }

    fn cross(&mut self, x: f64, y: f64, size: f64, width: f64) {
        let twice = 2.0 * size;
        self.put(format_args!(
            "<path d=\"M{:.1} {:.1}l{twice} {twice}m0 -{twice}l-{twice} {twice}\" class=\"s-bad\" stroke-width=\"{width}\"/>",
            x - size,
            y - size
        ));
    }

    fn marks(&mut self) {
        // Numbers that would stand on each other give way: of votes to the later, of commits to the earlier.
        let mut written: BTreeMap<usize, f64> = BTreeMap::new();
        let mut latest: BTreeMap<usize, f64> = BTreeMap::new();
        for mark in self.window.marks.iter().rev() {
            if let What::Votes { node, votes, of, pre } = mark.what {
                let x = self.x(mark.at);
                if latest.get(&node).is_none_or(|later| x + 30.0 < *later) {
                    latest.insert(node, x);
                    self.votes(x, node, votes, of, pre);
                }
            }
        }
        for mark in &self.window.marks {
            let x = self.x(mark.at);
            match mark.what {
                What::Votes { .. } => {}
                What::Told { node, ref says } => {
                    let y = self.y(node) + BAND;
                    let says = escape(says);
                    self.put(format_args!(
                        "<path d=\"M{x:.1} {:.1}l5 5l-5 5l-5 -5z\" class=\"f-soft\"><title>n{node}: {says}</title></path>",
                        y - 5.0
                    ));
                }
                What::Crash { node } => self.cross(x, self.y(node) + BAND / 2.0, 11.0, 4.0),
                What::Wipe { node } => {
                    let y = self.y(node) - 4.0;
                    self.put(format_args!(
                        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"14\" font-weight=\"bold\" text-anchor=\"middle\" \
                         class=\"f-bad s-paper halo\">wiped<title>n{node} loses its disk</title></text>"
                    ));
                }
                What::Start { node } => {
                    let y = self.y(node) + BAND / 2.0 - 8.0;
                    self.put(format_args!(
                        "<path d=\"M{x:.1} {y:.1}l14 8l-14 8z\" class=\"f-good\"><title>n{node} starts again</title></path>"
                    ));
                }
                What::Commit { node, index } => {
                    let free = written.entry(node).or_insert(f64::MIN);
                    let label = index.to_string();
                    let half = 4.0 * label.len() as f64;
                    let label = if x - half > *free { label } else { String::new() };
                    if !label.is_empty() {
                        *free = x + half + 4.0;
                    }
                    self.commit(x, node, index, &label);
                }
                What::Cut { from, to } => self.link_mark(x, from, to, "bad", "cut"),
                What::Join { from, to } => self.link_mark(x, from, to, "good", "joined"),
                What::Heal => {
                    let (top, bottom) = (self.top - 8.0, self.bottom() + 10.0);
                    self.put(format_args!(
                        "<path d=\"M{x:.1} {top}V{bottom}\" class=\"s-good\" stroke-width=\"2\" stroke-dasharray=\"2 4\"/>\
                         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" class=\"f-good s-paper halo\">all faults end</text>",
                        (x + 30.0).min(self.width - 8.0),
                        top - 4.0
                    ));
                }
            }
        }
    }

    fn votes(&mut self, x: f64, node: usize, votes: usize, of: usize, pre: bool) {
        let (colour, what) = if pre { ("prevote", "pre-votes") } else { ("vote", "votes") };
        let y = self.y(node) - 5.0;
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"14\" font-weight=\"bold\" text-anchor=\"middle\" \
             class=\"f-{colour} s-paper halo\">{votes}/{of}<title>n{node}: {votes} {what} of {of}</title></text>"
        ));
    }

    /// On the lower edge of the band; the number is below, or beside it where a log is below.
    fn commit(&mut self, x: f64, node: usize, index: u64, label: &str) {
        let y = self.y(node) + BAND + if self.window.logs.is_empty() { 0.0 } else { 11.0 };
        let (text_x, text_y, anchor) =
            if self.window.logs.is_empty() { (x, y + 17.0, "middle") } else { (x + 8.0, y + 5.0, "start") };
        let behind = if self.window.logs.is_empty() { " s-paper halo" } else { "" };
        self.put(format_args!(
            "<path d=\"M{x:.1} {:.1}l5 5l-5 5l-5 -5z\" class=\"f-commit\"><title>n{node}: committed up to {index}</title></path>\
             <text x=\"{text_x:.1}\" y=\"{text_y:.1}\" font-size=\"13\" text-anchor=\"{anchor}\" class=\"f-commit{behind}\">\
             {label}</text>",
            y - 5.0,
        ));
    }

    /// One direction of a link, where it is cut or joined.
    fn link_mark(&mut self, x: f64, from: usize, to: usize, colour: &str, what: &str) {
        let down = if to > from { 1.0 } else { -1.0 };
        let (y1, y2) = self.between(from, to);
        let x = x + down * 2.0; // so that both directions are seen
        self.put(format_args!(
            "<path d=\"M{x:.1} {y1:.1}V{y2:.1}m-5 {:.0}l5 {:.0}l5 {:.0}\" fill=\"none\" class=\"s-{colour}\" stroke-width=\"1.6\" \
             stroke-dasharray=\"3 3\"><title>the link from n{from} to n{to} is {what}</title></path>",
            -7.0 * down,
            7.0 * down,
            -7.0 * down
        ));
    }
}

/// What stands in an entry's box.
fn in_box(says: &str) -> String {
    let short: String = says.chars().take(8).collect();
    if says.is_empty() {
        "–".to_owned()
    } else if short.len() < says.len() {
        format!("{short}…")
    } else {
        short
    }
}

fn log_width(log: &LogAt) -> f64 {
    let snapshot = if log.first > 1 { SNAPSHOT } else { 0.0 };
    snapshot + log.entries.iter().map(box_width).sum::<f64>()
}

fn box_width(entry: &LogEntry) -> f64 {
    (14.0 + 8.0 * in_box(&entry.says).chars().count() as f64).max(28.0)
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= least).unwrap_or(power * 10.0)
}

/// Microseconds, in a unit that suits the distance of the ticks.
fn time(at: f64, step: f64) -> String {
    if step >= 1e6 {
        format!("{:.0} s", at / 1e6)
    } else if step >= 1e3 {
        format!("{:.0} ms", at / 1e3)
    } else {
        format!("{at:.0} µs")
    }
}
