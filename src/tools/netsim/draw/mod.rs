//! `netsim draw`: a trace as a space-time diagram.
//!
//! - `reader`: from a trace, `line` by `line`, to its `timeline`;
//! - `window`: the part of it that a picture can hold;
//! - `picture`: where everything has its place, `svg`: what is drawn there, `legend`: what its signs mean, `colour`: by day and
//!   by night.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::time::Duration;

use crate::cli::{Failure, Output};

mod colour;
mod legend;
mod line;
mod picture;
mod reader;
mod svg;
mod timeline;
mod window;

use colour::Theme;
use reader::TraceError;
use timeline::Axis;

/// Draw a trace as an SVG: a lane a node, roles as bands, messages as arrows
///
/// Time goes from left to right; in the trace of a script, each step has a column, and under each lane is the node's log while
/// the logs are short. Of a long run the part is drawn in which most happens. Hover over an arrow or a mark in a browser to
/// read what it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    netsim raft --script figure-8.netsim --trace - | netsim draw - > figure-8.svg\n  \
    netsim draw figure-8.jsonl --from 18 --to 31 > the-old-entry.svg     # lines of the script\n  \
    netsim raft --seed 28 --nodes 3 --faults crash,delay --trace - | netsim draw - > crashes.svg\n  \
    netsim draw run.jsonl --from 12s --to 12500ms --theme dark > half-a-second.svg\n\n\
A picture holds some hundred arrows: of a long trace the least telling are left out, and the picture says so.")]
pub(super) struct Options {
    /// The trace (- is stdin)
    #[arg(value_name = "TRACE")]
    trace: String,
    /// Begin here: a time such as 12500ms, or a line of the script
    #[arg(long, value_name = "WHEN", value_parser = when)]
    from: Option<When>,
    /// End here
    #[arg(long, value_name = "WHEN", value_parser = when)]
    to: Option<When>,
    /// Colours: light, dark, or as the reader's browser prefers
    #[arg(long, value_name = "THEME", value_enum, default_value_t)]
    theme: Theme,
    /// Written in the picture's head
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
}

/// A place in a trace.
#[derive(Clone, Copy, Debug)]
enum When {
    Time(Duration),
    Line(usize),
}

/// Reads the trace and prints the picture.
pub(super) fn run(options: &Options, output: &Output) -> Result<(), Failure> {
    let path = &options.trace;
    let lines: Box<dyn BufRead> = if path == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(path)
            .map_err(|error| Failure::usage(format!("cannot read the trace {path}: {error} (is the path right?)")))?;
        Box::new(BufReader::new(file))
    };
    let timeline = reader::read(lines).map_err(|error| match error {
        TraceError::Unreadable(error) => Failure::local(format!("cannot read the trace {path}: {error}")),
        TraceError::Wrong { .. } | TraceError::Empty => {
            Failure::usage(format!("{path} is no trace: {error} (netsim raft --trace FILE writes one)"))
        }
    })?;
    let place = |when: Option<When>, end: bool| match (when, timeline.axis) {
        (None, _) => Ok(None),
        (Some(When::Time(time)), Axis::Time) => Ok(Some(time.as_micros() as f64)),
        (Some(When::Line(line)), Axis::Steps) => match timeline.step_of_line(line, end) {
            Some(step) => Ok(Some(step)),
            None => Err(Failure::usage(format!("the script has no line {line}"))),
        },
        (Some(When::Time(_)), Axis::Steps) => {
            Err(Failure::usage("this is the trace of a script: --from and --to are lines of it, such as 18"))
        }
        (Some(When::Line(line)), Axis::Time) => {
            Err(Failure::usage(format!("'{line}' is no time: --from and --to are times, such as 12500ms")))
        }
    };
    let (from, to) = (place(options.from, false)?, place(options.to, true)?);
    let window = window::window(&timeline, from, to)
        .ok_or_else(|| Failure::usage("--from is not before --to: nothing to draw"))?;
    output.raw(|stdout| svg::write(stdout, &window, options.title.as_deref(), options.theme))
}

fn when(text: &str) -> Result<When, String> {
    if let Ok(line) = text.parse() {
        return Ok(When::Line(line));
    }
    let time = humantime::parse_duration(text).map(When::Time);
    time.map_err(|_| format!("'{text}' is neither a time such as 12500ms nor a line of a script such as 18"))
}
