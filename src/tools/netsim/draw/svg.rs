//! The picture: drawn in the order in which things may cover each other.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::story::{Arrow, Axis, Band, Kind, Lost, Role, Scene, What};

/// The size of a slide, in pixels; more nodes make it higher.
const WIDTH: f64 = 1600.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 40.0;
const LANE: f64 = 110.0;
/// Half the height of a band.
const HALF: f64 = 13.0;

/// Writes the picture.
pub(super) fn write(out: &mut impl Write, scene: &Scene, title: Option<&str>) -> io::Result<()> {
    let mut picture = Picture::new(scene, title.is_some());
    picture.axis();
    picture.lanes();
    for arrow in &scene.arrows {
        picture.arrow(arrow);
    }
    picture.marks();
    picture.legend();
    let drawn = std::mem::take(&mut picture.text);
    picture.head(title); // only now is it known how high it is
    out.write_all(format!("{}{drawn}</svg>\n", picture.text).as_bytes())
}

struct Picture<'a> {
    scene: &'a Scene,
    text: String,
    top: f64,
    /// Where the legend goes on.
    pen: (f64, f64),
    /// Entries are written at arrows when there are few.
    label_entries: bool,
}

const KINDS: [(Kind, &str, &str); 8] = [
    (Kind::Vote, "#d55e00", "vote"),
    (Kind::PreVote, "#e69f00", "pre-vote"),
    (Kind::Append, "#0072b2", "entries"),
    (Kind::Heartbeat, "#9aa5b1", "heartbeat"),
    (Kind::Snapshot, "#8e44ad", "snapshot"),
    (Kind::Read, "#009e9e", "read"),
    (Kind::Forward, "#8c6d46", "forwarded write"),
    (Kind::Transfer, "#c2185b", "leadership transfer"),
];

const ROLES: [(Role, &str, &str); 4] = [
    (Role::Leader, "#7fc98f", "leader"),
    (Role::Candidate, "#f7d774", "candidate"),
    (Role::Follower, "#d9e2ec", "follower"),
    (Role::Down, "#ffffff", "down"),
];

fn colour(kind: Kind) -> &'static str {
    KINDS.iter().find(|(known, _, _)| *known == kind).map_or("#000", |(_, colour, _)| colour)
}

fn fill(role: Role) -> &'static str {
    ROLES.iter().find(|(known, _, _)| *known == role).map_or("#fff", |(_, fill, _)| fill)
}

impl<'a> Picture<'a> {
    fn new(scene: &'a Scene, titled: bool) -> Self {
        let top = if titled { 70.0 } else { 34.0 };
        let with_entries = scene.arrows.iter().filter(|arrow| arrow.entries.is_some()).count();
        let mut picture = Self { scene, text: String::new(), top, pen: (LEFT, 0.0), label_entries: with_entries <= 40 };
        picture.pen.1 = picture.bottom() + if scene.axis == Axis::Steps { 168.0 } else { 66.0 };
        picture
    }

    fn x(&self, at: f64) -> f64 {
        let Scene { from, to, .. } = self.scene;
        LEFT + (at - from) / (to - from) * (WIDTH - LEFT - RIGHT)
    }

    /// The middle of a node's lane.
    fn y(&self, node: usize) -> f64 {
        self.top + HALF + (node as f64 - 1.0) * LANE
    }

    fn bottom(&self) -> f64 {
        self.y(self.scene.nodes) + HALF
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{element}").expect("writing to a string cannot fail");
    }

    fn head(&mut self, title: Option<&str>) {
        let height = self.pen.1 + 18.0;
        self.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\" font-size=\"16\" fill=\"#1f2933\">"
        ));
        self.put(format_args!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>"));
        self.put(format_args!("<defs>"));
        for (kind, colour, _) in KINDS {
            self.put(format_args!(
                "<marker id=\"{kind:?}\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"9\" markerHeight=\"9\" \
                 markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 1L10 5L0 9z\" fill=\"{colour}\"/></marker>"
            ));
        }
        let (width, clip) = (WIDTH - LEFT - RIGHT, self.bottom() + 10.0);
        self.put(format_args!(
            "<pattern id=\"paused\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
             <rect width=\"3\" height=\"8\" fill=\"#52606d\" fill-opacity=\"0.55\"/></pattern>"
        ));
        self.put(format_args!(
            "<clipPath id=\"within\"><rect x=\"{LEFT}\" y=\"0\" width=\"{width}\" height=\"{clip}\"/></clipPath></defs>"
        ));
        if let Some(title) = title {
            let title = escape(title);
            self.put(format_args!("<text x=\"{LEFT}\" y=\"36\" font-size=\"26\" font-weight=\"bold\">{title}</text>"));
        }
    }

    fn axis(&mut self) {
        match self.scene.axis {
            Axis::Time => self.time_axis(),
            Axis::Steps => self.step_axis(),
        }
    }

    fn time_axis(&mut self) {
        let Scene { from, to, .. } = *self.scene;
        let step = nice_step((to - from) / 10.0);
        let (top, bottom) = (self.top - 8.0, self.bottom() + 10.0);
        let mut tick = (from / step).ceil() * step;
        while tick <= to {
            let (x, label) = (self.x(tick), time(tick, step));
            self.put(format_args!(
                "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#e4e7eb\"/><text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\" \
                 fill=\"#52606d\">{label}</text>",
                bottom + 18.0
            ));
            tick += step;
        }
    }

    /// The lines of the script, under the first step of each; as many as there is room for.
    fn step_axis(&mut self) {
        let (top, bottom) = (self.top - 8.0, self.bottom() + 10.0);
        let mut free = f64::MIN;
        for (at, number, text) in &self.scene.lines {
            let x = self.x(*at);
            self.put(format_args!("<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#e4e7eb\"/>"));
            if x < free {
                continue;
            }
            free = x + 13.0;
            let text = text.split('#').next().unwrap_or_default().trim();
            let short: String = text.chars().take(18).collect();
            let dots = if short.len() < text.len() { "…" } else { "" };
            let y = bottom + 14.0;
            self.put(format_args!(
                "<text transform=\"translate({:.1} {y:.1}) rotate(50)\" font-size=\"13\" fill=\"#52606d\">{}{dots}\
                 <title>line {number}: {}</title></text>",
                x - 3.0,
                escape(&short),
                escape(text)
            ));
        }
    }

    fn lanes(&mut self) {
        for node in 1..=self.scene.nodes {
            let y = self.y(node) + 6.0;
            let x = LEFT - 14.0;
            self.put(format_args!(
                "<text x=\"{x}\" y=\"{y}\" text-anchor=\"end\" font-size=\"20\" font-weight=\"bold\">n{node}</text>"
            ));
        }
        for band in &self.scene.bands {
            self.band(band);
        }
        for band in &self.scene.pauses {
            let (x, y, width) = (self.x(band.from), self.y(band.node) - HALF, self.x(band.to) - self.x(band.from));
            self.put(format_args!(
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"url(#paused)\">\
                 <title>n{} pauses</title></rect>",
                2.0 * HALF,
                band.node
            ));
        }
        for band in &self.scene.isolations {
            let (x, y, width) =
                (self.x(band.from), self.y(band.node) - HALF - 5.0, self.x(band.to) - self.x(band.from));
            self.put(format_args!(
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" rx=\"5\" fill=\"none\" stroke=\"#c81e1e\" \
                 stroke-width=\"2\" stroke-dasharray=\"7 4\"><title>n{} is cut off</title></rect>",
                2.0 * HALF + 10.0,
                band.node
            ));
        }
    }

    /// A band says its term when there is room, and its role when there is more.
    fn band(&mut self, band: &Band) {
        let Band { node, role, term, .. } = *band;
        let (x, y) = (self.x(band.from), self.y(node));
        let width = self.x(band.to) - x;
        let name = ROLES.iter().find(|(known, _, _)| *known == role).map_or("", |(_, _, name)| name);
        let outline = if role == Role::Down { " stroke=\"#9aa5b1\" stroke-dasharray=\"4 4\"" } else { "" };
        self.put(format_args!(
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{}\" fill=\"{}\"{outline}>\
             <title>n{node}: {name}, term {term}</title></rect>",
            y - HALF,
            2.0 * HALF,
            fill(role)
        ));
        let label = match role {
            Role::Down => "down".to_owned(),
            Role::Leader if width > 130.0 => format!("leader, term {term}"),
            Role::Candidate if width > 150.0 => format!("candidate, term {term}"),
            Role::Follower if width > 80.0 && term > 0 => format!("term {term}"),
            Role::Leader | Role::Candidate | Role::Follower => format!("t{term}"),
        };
        // A cross or a triangle stands at the beginning of some.
        let indent = if role == Role::Down || self.starts_at(node, band.from) { 18.0 } else { 7.0 };
        if width > indent + 8.5 * label.len() as f64 && !(role == Role::Follower && term == 0) {
            let weight = if role == Role::Leader { "bold" } else { "normal" };
            let (x, y) = (x + indent, y + 5.0);
            self.put(format_args!(
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"15\" font-weight=\"{weight}\" fill=\"#3e4c59\">{label}</text>"
            ));
        }
    }

    fn starts_at(&self, node: usize, at: f64) -> bool {
        self.scene.marks.iter().any(|mark| mark.at == at && mark.what == What::Start { node })
    }

    fn arrow(&mut self, arrow: &Arrow) {
        let Arrow { from, to, sent, ended, lost, kind, reply, .. } = *arrow;
        let down = if to > from { 1.0 } else { -1.0 };
        let (x1, y1) = (self.x(sent), self.y(from) + down * HALF);
        let y2 = self.y(to) - down * HALF;
        let end = ended.map_or(WIDTH - RIGHT, |ended| self.x(ended));
        // What is lost at once has no place to arrive at: it goes a little way.
        let (x2, y2) = match lost {
            None if ended.is_none() => (x1 + (end - x1).min(30.0), y1 + (y2 - y1) * 0.25),
            None | Some(Lost::AtTheEnd) => (end, y2),
            Some(Lost::OnItsWay) => (x1 + (end - x1).max(14.0) * 0.45, y1 + (y2 - y1) * 0.45),
        };
        let colour = colour(kind);
        let faint = match (kind, reply) {
            (Kind::Heartbeat, _) => 0.55,
            (_, true) => 0.6,
            (_, false) => 1.0,
        };
        let width = if reply || kind == Kind::Heartbeat { 1.2 } else { 2.0 };
        let dash = match (kind, lost.is_none() && ended.is_none()) {
            (_, true) => " stroke-dasharray=\"2 4\"",
            (Kind::PreVote, false) => " stroke-dasharray=\"6 3\"",
            (_, false) => "",
        };
        let head =
            if lost.is_none() && ended.is_some() { format!(" marker-end=\"url(#{kind:?})\"") } else { String::new() };
        let says = escape(&arrow.says);
        self.put(format_args!(
            "<path clip-path=\"url(#within)\" d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" fill=\"none\" stroke=\"{colour}\" \
             stroke-width=\"{width}\" opacity=\"{faint}\"{dash}{head}><title>{says}</title></path>"
        ));
        if lost.is_some() && (LEFT..=WIDTH - RIGHT).contains(&x2) {
            self.cross(x2, y2, 4.5, 2.0);
        }
        if let (true, Some((first, last)), Some(_), None) = (self.label_entries, arrow.entries, ended, lost) {
            let label = if first == last { first.to_string() } else { format!("{first}–{last}") };
            let (x, y) = (x1 + (x2 - x1) * 0.42, y1 + (y2 - y1) * 0.42 + 4.0);
            if x > LEFT && x < WIDTH - RIGHT {
                self.put(format_args!(
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"13\" text-anchor=\"middle\" fill=\"{colour}\" stroke=\"#fff\" \
                     stroke-width=\"4\" paint-order=\"stroke\">{label}</text>"
                ));
            }
        }
    }

    fn cross(&mut self, x: f64, y: f64, size: f64, width: f64) {
        let twice = 2.0 * size;
        self.put(format_args!(
            "<path d=\"M{:.1} {:.1}l{twice} {twice}m0 -{twice}l-{twice} {twice}\" stroke=\"#c81e1e\" stroke-width=\"{width}\"/>",
            x - size,
            y - size
        ));
    }

    fn marks(&mut self) {
        let mut written = std::collections::BTreeMap::new();
        for mark in &self.scene.marks {
            let x = self.x(mark.at);
            match mark.what {
                What::Crash { node } => self.cross(x, self.y(node), 11.0, 4.0),
                What::Start { node } => {
                    let y = self.y(node);
                    self.put(format_args!(
                        "<path d=\"M{x:.1} {:.1}l14 8l-14 8z\" fill=\"#1f7a33\"><title>n{node} starts again</title></path>",
                        y - 8.0
                    ));
                }
                What::Commit { node, index } => {
                    let y = self.y(node) + HALF;
                    let free: &mut f64 = written.entry(node).or_insert(f64::MIN);
                    let label = format!("{index}");
                    let label = if x > *free + 8.0 * label.len() as f64 { label } else { String::new() };
                    if !label.is_empty() {
                        *free = x + 6.0;
                    }
                    self.put(format_args!(
                        "<path d=\"M{x:.1} {:.1}l5 5l-5 5l-5 -5z\" fill=\"#14532d\"><title>n{node}: committed up to {index}</title>\
                         </path><text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"12\" text-anchor=\"middle\" fill=\"#14532d\" \
                         stroke=\"#fff\" stroke-width=\"3\" paint-order=\"stroke\">{label}</text>",
                        y - 5.0,
                        y + 17.0
                    ));
                }
                What::Cut { from, to } => self.link_mark(x, from, to, "#c81e1e", "cut"),
                What::Join { from, to } => self.link_mark(x, from, to, "#1f7a33", "joined"),
                What::Heal => {
                    let (top, bottom) = (self.top - 8.0, self.bottom() + 10.0);
                    self.put(format_args!(
                        "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#1f7a33\" stroke-width=\"2\" stroke-dasharray=\"2 4\"/>\
                         <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#1f7a33\">healed</text>",
                        top - 4.0
                    ));
                }
            }
        }
    }

    /// One direction of a link, where it is cut or joined.
    fn link_mark(&mut self, x: f64, from: usize, to: usize, colour: &str, what: &str) {
        let down = if to > from { 1.0 } else { -1.0 };
        let (y1, y2) = (self.y(from) + down * HALF, self.y(to) - down * HALF);
        let x = x + down * 2.0; // so that both directions are seen
        self.put(format_args!(
            "<path d=\"M{x:.1} {y1:.1}V{y2:.1}m-5 {:.0}l5 {:.0}l5 {:.0}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" \
             stroke-dasharray=\"3 3\"><title>the link from n{from} to n{to} is {what}</title></path>",
            -7.0 * down,
            7.0 * down,
            -7.0 * down
        ));
    }

    /// Only what is in the picture.
    fn legend(&mut self) {
        let scene = self.scene;
        for (role, fill, name) in ROLES {
            if scene.bands.iter().any(|band| band.role == role) {
                let outline = if role == Role::Down { " stroke=\"#9aa5b1\" stroke-dasharray=\"4 4\"" } else { "" };
                self.entry(&format!("<rect y=\"-8\" width=\"22\" height=\"16\" fill=\"{fill}\"{outline}/>"), name);
            }
        }
        for (kind, colour, name) in KINDS {
            if scene.arrows.iter().any(|arrow| arrow.kind == kind) {
                let dash = if kind == Kind::PreVote { " stroke-dasharray=\"6 3\"" } else { "" };
                self.entry(
                    &format!(
                        "<path d=\"M-4 0h28\" stroke=\"{colour}\" stroke-width=\"2\"{dash} marker-end=\"url(#{kind:?})\"/>"
                    ),
                    name,
                );
            }
        }
        if scene.arrows.iter().any(|arrow| arrow.reply) {
            self.entry("<path d=\"M-4 0h28\" stroke=\"#52606d\" opacity=\"0.6\"/>", "thin: a reply");
        }
        let red = "stroke=\"#c81e1e\" fill=\"none\"";
        if scene.arrows.iter().any(|arrow| arrow.lost.is_some()) {
            self.entry(&format!("<path d=\"M8 -4l9 9m0 -9l-9 9\" {red} stroke-width=\"2\"/>"), "lost");
        }
        let marked = |which: fn(&What) -> bool| scene.marks.iter().any(|mark| which(&mark.what));
        if marked(|what| matches!(what, What::Commit { .. })) {
            self.entry("<path d=\"M8 0l5 -5l5 5l-5 5z\" fill=\"#14532d\"/>", "committed up to");
        }
        if marked(|what| matches!(what, What::Crash { .. })) {
            self.entry(&format!("<path d=\"M5 -7l14 14m0 -14l-14 14\" {red} stroke-width=\"4\"/>"), "crash");
        }
        if marked(|what| matches!(what, What::Start { .. })) {
            self.entry("<path d=\"M5 -8l14 8l-14 8z\" fill=\"#1f7a33\"/>", "restart");
        }
        if !scene.isolations.is_empty() {
            let rect = "<rect y=\"-7\" width=\"24\" height=\"14\" rx=\"4\"";
            self.entry(&format!("{rect} {red} stroke-width=\"2\" stroke-dasharray=\"5 3\"/>"), "cut off");
        }
        if marked(|what| matches!(what, What::Cut { .. })) {
            self.entry(
                &format!("<path d=\"M12 -8v16\" {red} stroke-width=\"1.6\" stroke-dasharray=\"3 3\"/>"),
                "link cut",
            );
        }
        if !scene.pauses.is_empty() {
            self.entry("<rect y=\"-7\" width=\"24\" height=\"14\" fill=\"url(#paused)\"/>", "paused");
        }
        if !scene.left_out.is_empty() {
            let text = format!("Left out: {} (--from and --to show a part in full)", scene.left_out.join(", "));
            self.pen.1 += 28.0;
            let y = self.pen.1 + 5.0;
            self.put(format_args!("<text x=\"{LEFT}\" y=\"{y}\" fill=\"#52606d\" font-style=\"italic\">{text}</text>"));
        }
    }

    /// A sign, 24 wide, and its name; in the next row when there is no room.
    fn entry(&mut self, sign: &str, name: &str) {
        let width = 34.0 + 8.0 * name.len() as f64;
        if self.pen.0 + width > WIDTH - RIGHT {
            self.pen = (LEFT, self.pen.1 + 28.0);
        }
        let (x, y) = self.pen;
        self.put(format_args!(
            "<g transform=\"translate({x} {y})\">{sign}<text x=\"32\" y=\"5\" font-size=\"15\">{name}</text></g>"
        ));
        self.pen.0 += width + 18.0;
    }
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

fn escape(text: &str) -> String {
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
