//! A picture while it is drawn: how large it is, and where everything has its place.

use std::fmt::Write as _;

use super::timeline::{Arrow, Axis, Kind, Timeline};

pub(super) const LEFT: f64 = 64.0;
const RIGHT: f64 = 30.0;
/// The width of what is drawn: of a time, and the bounds of it for steps.
const TIME_WIDTH: f64 = 1200.0;
const LEAST_WIDTH: f64 = 640.0;
const MOST_WIDTH: f64 = 2000.0;
/// A step has so much room, while there is enough.
const STEP: f64 = 26.0;
/// The height of a band, and of the rest of a lane in which there is a log.
pub(super) const BAND: f64 = 26.0;
const LOG: f64 = 62.0;
/// Between two lanes.
const GAP: f64 = 84.0;
/// Lines of a script longer than this are cut, and whole when one hovers over them.
const LONGEST_LABEL: usize = 48;

pub(super) struct Picture<'a> {
    pub(super) window: &'a Timeline,
    pub(super) text: String,
    pub(super) title: Vec<String>,
    /// Of what is drawn, without margins; and of everything.
    pub(super) inner: f64,
    pub(super) width: f64,
    pub(super) top: f64,
    /// Where the legend goes on.
    pub(super) pen: (f64, f64),
    /// Entries, and yes and no, are written at arrows when there are few.
    pub(super) label_entries: bool,
    pub(super) label_answers: bool,
    /// Where labels of arrows stand.
    pub(super) labels: Vec<(f64, f64)>,
}

impl<'a> Picture<'a> {
    pub(super) fn new(window: &'a Timeline, title: Option<&str>) -> Self {
        let inner = match window.axis {
            Axis::Time => TIME_WIDTH,
            Axis::Steps => (STEP * (window.to - window.from)).clamp(LEAST_WIDTH, MOST_WIDTH),
        };
        let title = wrap(title.unwrap_or_default(), (inner / 13.0) as usize);
        let few = |which: fn(&Arrow) -> bool| window.arrows.iter().filter(|arrow| which(arrow)).count() <= 40;
        let mut picture = Self {
            window,
            text: String::new(),
            top: 40.0 + 32.0 * title.len() as f64,
            title,
            inner,
            width: LEFT + inner + RIGHT,
            pen: (LEFT, 0.0),
            label_entries: few(|arrow| arrow.entries.is_some()),
            label_answers: few(|arrow| arrow.reply && is_ballot(arrow.kind)),
            labels: Vec::new(),
        };
        let labels = window.lines.iter().map(|(at, _, text)| (picture.x(*at), label(text).chars().count() as f64));
        let (mut deepest, mut widest) = (0.0, picture.width);
        for (x, letters) in labels {
            // At 50 degrees, a letter of 13 px goes some 4.6 px to the right and 5.5 px down.
            deepest = f64::max(deepest, 5.5 * letters);
            widest = f64::max(widest, x + 4.6 * letters + 14.0);
        }
        picture.width = widest;
        picture.pen.1 = picture.bottom() + if window.axis == Axis::Steps { 48.0 + deepest } else { 70.0 };
        picture
    }

    pub(super) fn x(&self, at: f64) -> f64 {
        let Timeline { from, to, .. } = self.window;
        LEFT + (at - from) / (to - from) * self.inner
    }

    pub(super) const fn right(&self) -> f64 {
        LEFT + self.inner
    }

    /// The upper edge of a node's lane, which is that of its band.
    pub(super) fn y(&self, node: usize) -> f64 {
        self.top + (node as f64 - 1.0) * (self.lane() + GAP)
    }

    pub(super) const fn lane(&self) -> f64 {
        if self.window.logs.is_empty() { BAND } else { BAND + LOG }
    }

    /// Where messages between two lanes begin and end.
    pub(super) fn between(&self, from: usize, to: usize) -> (f64, f64) {
        if to > from { (self.y(from) + self.lane(), self.y(to)) } else { (self.y(from), self.y(to) + self.lane()) }
    }

    pub(super) fn bottom(&self) -> f64 {
        self.y(self.window.nodes) + self.lane()
    }

    pub(super) fn put(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{element}").expect("writing to a string cannot fail");
    }
}

pub(super) const fn is_ballot(kind: Kind) -> bool {
    matches!(kind, Kind::Vote | Kind::PreVote)
}

/// A line of a script without its comment.
pub(super) fn label(text: &str) -> String {
    let text = text.split(" #").next().unwrap_or_default().trim();
    let short: String = text.chars().take(LONGEST_LABEL).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// A title in rows of at most so many letters, ready to be written.
fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match rows.last_mut() {
            Some(row) if row.chars().count() + word.chars().count() < most => *row += &format!(" {word}"),
            _ => rows.push(word.to_owned()),
        }
    }
    rows.iter().map(|row| escape(row)).collect()
}

pub(super) fn escape(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    printable.fold(String::new(), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(c),
        }
        escaped
    })
}
