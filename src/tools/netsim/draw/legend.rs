//! What the signs and numbers in a picture mean; only of those that are in it, and how many there are.

use super::colour;
use super::picture::{LEFT, Picture, escape, is_ballot};
use super::timeline::{Kind, Mark, Role, What};

const ROW: f64 = 28.0;

impl Picture<'_> {
    pub(super) fn legend(&mut self) {
        let window = self.window;
        for (role, fill, name) in colour::roles(&window.words) {
            if window.bands.iter().any(|band| band.role == role) {
                let outline = if role == Role::Down { "s-edge\" stroke-dasharray=\"4 4" } else { "s-paper" };
                self.entry(
                    &format!("<rect y=\"-8\" width=\"22\" height=\"16\" class=\"f-{fill} {outline}\"/>"),
                    &escape(name),
                    0,
                );
            }
        }
        for (kind, stroke, name) in colour::kinds(&window.words) {
            let count = window.arrows.iter().filter(|arrow| arrow.kind == kind).count();
            if count > 0 {
                let dash = if kind == Kind::PreVote { " stroke-dasharray=\"6 3\"" } else { "" };
                let number = if kind == Kind::Append && window.arrows.iter().any(|arrow| arrow.entries.is_some()) {
                    "<text x=\"10\" y=\"4\" text-anchor=\"middle\" font-size=\"13\" class=\"f-append s-paper halo\">2</text>"
                } else {
                    ""
                };
                let name = if number.is_empty() { name } else { "entries, with their index" };
                let line = format!(
                    "<path d=\"M-4 0h28\" class=\"s-{stroke}\" stroke-width=\"2\"{dash} marker-end=\"url(#{})\"/>{number}",
                    kind.id()
                );
                self.entry(&line, &escape(name), count);
            }
        }
        self.answers();
        if window.arrows.iter().any(|arrow| arrow.ended.is_none()) {
            self.entry(
                "<path d=\"M-4 0h28\" class=\"s-soft\" stroke-width=\"2\" stroke-dasharray=\"2 4\"/>",
                "still on its way",
                0,
            );
        }
        let lost = window.arrows.iter().filter(|arrow| arrow.lost.is_some()).count();
        if lost > 0 {
            self.entry(&cross(4.5, 2.0), "lost", lost);
        }
        self.numbers();
        let marked = |which: fn(&Mark) -> bool| window.marks.iter().filter(|mark| which(mark)).count();
        let crashes = marked(|mark| matches!(mark.what, What::Crash { .. }));
        if crashes > 0 {
            self.entry(&cross(7.0, 4.0), "crash", crashes);
        }
        let starts = marked(|mark| matches!(mark.what, What::Start { .. }));
        if starts > 0 {
            self.entry("<path d=\"M5 -8l14 8l-14 8z\" class=\"f-good\"/>", "restart", starts);
        }
        let dashed = "fill=\"none\" class=\"s-bad\"";
        if !window.isolations.is_empty() {
            let rect = "<rect y=\"-7\" width=\"24\" height=\"14\" rx=\"4\"";
            self.entry(&format!("{rect} {dashed} stroke-width=\"2\" stroke-dasharray=\"5 3\"/>"), "cut off", 0);
        }
        let cuts = marked(|mark| matches!(mark.what, What::Cut { .. }));
        if cuts > 0 {
            let path = "<path d=\"M12 -8v16\" stroke-width=\"1.6\" stroke-dasharray=\"3 3\"";
            self.entry(&format!("{path} {dashed}/>"), "one way of a link is cut", cuts);
        }
        if marked(|mark| matches!(mark.what, What::Join { .. })) > 0 {
            let path = "<path d=\"M12 -8v16\" stroke-width=\"1.6\" stroke-dasharray=\"3 3\"";
            self.entry(&format!("{path} fill=\"none\" class=\"s-good\"/>"), "joined again", 0);
        }
        if !window.pauses.is_empty() {
            self.entry(
                "<rect y=\"-7\" width=\"24\" height=\"14\" fill=\"url(#paused)\"/>",
                "paused",
                window.pauses.len(),
            );
        }
        for note in &window.notes {
            self.pen.1 += ROW;
            let y = self.pen.1 + 5.0;
            self.put(format_args!(
                "<text x=\"{LEFT}\" y=\"{y}\" font-size=\"14\" class=\"f-soft\" font-style=\"italic\">{}</text>",
                escape(note)
            ));
        }
    }

    /// Replies; and of votes, which is a yes and which is a no.
    fn answers(&mut self) {
        let window = self.window;
        if window.arrows.iter().any(|arrow| arrow.reply && !is_ballot(arrow.kind)) {
            self.entry("<path d=\"M-4 0h28\" class=\"s-soft\" opacity=\"0.65\"/>", "thin: a reply", 0);
        }
        let kind = |answer| {
            let arrived = window.arrows.iter().filter(|arrow| arrow.lost.is_none() && arrow.ended.is_some());
            let kinds: Vec<_> = arrived.filter(|arrow| arrow.answer == Some(answer)).map(|arrow| arrow.kind).collect();
            kinds.iter().copied().find(|kind| is_ballot(*kind)).or_else(|| kinds.first().copied())
        };
        for (answer, head, name) in [(true, "", "granted"), (false, "no", "refused")] {
            let Some(kind) = kind(answer).filter(|kind| !answer || is_ballot(*kind)) else { continue };
            let stroke = colour::of_kind(kind);
            let dash = if kind == Kind::PreVote { " stroke-dasharray=\"6 3\"" } else { "" };
            let line = format!("<path d=\"M-4 0h28\" class=\"s-{stroke}\" stroke-width=\"1.3\"{dash}");
            self.entry(&format!("{line} marker-end=\"url(#{}{head})\"/>", kind.id()), name, 0);
        }
    }

    fn numbers(&mut self) {
        let window = self.window;
        let bold = "y=\"5\" font-size=\"14\" font-weight=\"bold\"";
        for (which, colour, name) in
            [(true, "prevote", "pre-votes it has"), (false, "vote", "votes it has, with its own")]
        {
            let votes = window.marks.iter().find_map(|mark| match mark.what {
                What::Votes { votes, of, pre, .. } if pre == which => Some((votes, of)),
                _ => None,
            });
            if let Some((votes, of)) = votes {
                self.entry(&format!("<text {bold} class=\"f-{colour}\">{votes}/{of}</text>"), name, 0);
            }
        }
        if window.marks.iter().any(|mark| matches!(mark.what, What::Commit { .. })) {
            let diamond = "<path d=\"M2 0l5 -5l5 5l-5 5z\" class=\"f-commit\"/>";
            self.entry(
                &format!("{diamond}<text x=\"15\" y=\"5\" font-size=\"13\" class=\"f-commit\">2</text>"),
                "committed up to this index",
                0,
            );
        }
        let entries = || window.logs.iter().flat_map(|log| &log.entries);
        if let Some(first) = entries().next() {
            let colour = colour::of_term(first.term);
            let square = "y=\"-9\" width=\"18\" height=\"18\" rx=\"3\" stroke-width=\"1.4\"";
            let named =
                format!("<text x=\"10\" y=\"5\" font-size=\"13\" text-anchor=\"middle\">t{}</text>", first.term);
            self.entry(
                &format!("<rect x=\"1\" {square} class=\"f-{colour} s-soft\"/>{named}"),
                "entry of that term, committed",
                0,
            );
            self.entry(
                &format!("<rect x=\"1\" {square} class=\"f-{colour} s-soft\" stroke-dasharray=\"3 3\"/>"),
                "not known to be committed",
                0,
            );
            if let Some(log) = window.logs.iter().find(|log| log.first > 1) {
                let last = log.first - 1;
                let sign = "<rect x=\"-2\" y=\"-10\" width=\"28\" height=\"20\" rx=\"3\" stroke-width=\"1.4\" class=\"f-paper s-snapshot\"/>";
                let number = "x=\"12\" y=\"5\" font-size=\"13\" text-anchor=\"middle\" class=\"f-snapshot\"";
                self.entry(&format!("{sign}<text {number}>≤{last}</text>"), "snapshot up to this index", 0);
            }
            if entries().any(|entry| entry.says.is_empty()) {
                self.entry("<text x=\"10\" y=\"5\" text-anchor=\"middle\">–</text>", "no-op of a new leader", 0);
            }
        }
    }

    /// A sign, 24 wide, its name, and how many there are when that says something; in the next row when there is no room.
    fn entry(&mut self, sign: &str, name: &str, count: usize) {
        let many = if count > 0 { format!(" ×{count}") } else { String::new() };
        let width = 34.0 + 7.4 * (name.chars().count() + many.chars().count()) as f64;
        if self.pen.0 > LEFT && self.pen.0 + width > self.width - 20.0 {
            self.pen = (LEFT, self.pen.1 + ROW);
        }
        let (x, y) = self.pen;
        self.put(format_args!(
            "<g transform=\"translate({x:.1} {y:.1})\">{sign}<text x=\"32\" y=\"5\" font-size=\"15\">{name}<tspan \
             class=\"f-soft\">{many}</tspan></text></g>"
        ));
        self.pen.0 += width + 18.0;
    }
}

fn cross(size: f64, width: f64) -> String {
    let (x, twice) = (12.0 - size, 2.0 * size);
    format!(
        "<path d=\"M{x} -{size}l{twice} {twice}m0 -{twice}l-{twice} {twice}\" fill=\"none\" class=\"s-bad\" stroke-width=\"{width}\"/>"
    )
}
