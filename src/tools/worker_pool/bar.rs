//! The progress bar.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::intake::Intake;
use super::job::Work;

/// A bar that shows nothing until it is told to. As long as jobs are read it tells how many there are so far.
pub(super) fn hidden_bar(intake: &Arc<Intake>) -> ProgressBar {
    let intake = Arc::clone(intake);
    let style = ProgressStyle::with_template("{spinner} {pos} of {read} so far{msg}, {elapsed}")
        .expect("the template is valid")
        .with_key("read", move |_: &ProgressState, to: &mut dyn fmt::Write| {
            let _ = write!(to, "{}", intake.read());
        });
    ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_style(style)
}

/// Tells the bar how many jobs there are.
pub(super) fn set_total(bar: &ProgressBar, total: u64, intake: &Arc<Intake>, work: &Arc<Work>) {
    let (intake, work) = (Arc::clone(intake), Arc::clone(work));
    let left = move |state: &ProgressState, to: &mut dyn fmt::Write| {
        // Those that were skipped took no time, and neither did a pause.
        let done = state.pos().saturating_sub(intake.skipped.load(Ordering::Relaxed));
        let time = state.elapsed().saturating_sub(work.groups.paused());
        if let Some(left) = time_left(time, done, total.saturating_sub(state.pos())) {
            let _ = write!(to, ", {} left", humantime::format_duration(left));
        }
    };
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len}{msg}, {elapsed}{left}");
    bar.set_style(style.expect("the template is valid").progress_chars("=> ").with_key("left", left));
    bar.set_length(total);
}

/// How long it will take, in whole seconds, if the rest goes as what is done; nothing before anything is.
fn time_left(time: Duration, done: u64, rest: u64) -> Option<Duration> {
    let seconds = time.as_secs_f64() / done as f64 * rest as f64;
    (done > 0 && rest > 0).then(|| Duration::from_secs(seconds.ceil() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_unknown_before_anything_is_done_and_when_nothing_is_left() {
        let seconds = Duration::from_secs;
        assert_eq!(time_left(seconds(30), 0, 10), None);
        assert_eq!(time_left(seconds(30), 3, 6), Some(seconds(60)));
        assert_eq!(time_left(seconds(30), 9, 0), None);
    }
}
