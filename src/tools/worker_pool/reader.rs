//! Jobs from stdin.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use indicatif::ProgressBar;
use tokio::runtime::Handle;

use crate::pool::joblog::Seen;
use crate::pool::lines::{Line, Lines, Separator};
use crate::pool::{Jobs, quote};
use crate::threads;

use super::bar::set_total;
use super::intake::Intake;
use super::job::{Job, Work};

/// Large reads: a job is a few bytes.
pub(super) fn stdin() -> BufReader<io::Stdin> {
    BufReader::with_capacity(64 << 10, io::stdin())
}

/// Reads jobs and submits them.
pub(super) struct Reader {
    pub(super) jobs: Jobs<Job>,
    pub(super) seen: Option<Seen>,
    pub(super) separator: Separator,
    pub(super) work: Arc<Work>,
    pub(super) intake: Arc<Intake>,
    pub(super) bar: ProgressBar,
    pub(super) runtime: Handle,
}

impl Reader {
    pub(super) fn run(&mut self) {
        for (number, line) in (1..).zip(Lines::new(stdin(), self.separator)) {
            match line {
                Ok(line) if self.is_known(&line, number) => {
                    self.intake.skipped.fetch_add(1, Ordering::Relaxed);
                    self.bar.inc(1);
                }
                Ok(line) => {
                    if self.runtime.block_on(self.jobs.submit(Job { number, line })).is_err() {
                        return; // the pool has stopped
                    }
                    self.intake.submitted.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    self.intake.fail(format!("cannot read jobs from stdin: {error}"));
                    break;
                }
            }
        }
        set_total(&self.bar, self.intake.read(), &self.intake, &self.work);
    }

    fn is_known(&mut self, line: &Line, number: u64) -> bool {
        let (Some(seen), Line::Whole(line)) = (&mut self.seen, line) else { return false };
        let known = self.work.template.identity(line, number).is_ok_and(|command| seen.take(&quote::line(&command)));
        self.intake.skipped_failed.store(seen.failed(), Ordering::Relaxed);
        known
    }
}

/// When stdin is a file, the bar knows at once how many jobs there are.
pub(super) fn count_ahead(bar: &ProgressBar, separator: Separator, intake: &Arc<Intake>, work: &Arc<Work>) {
    let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned() else { return };
    let mut stdin = File::from(stdin);
    if !stdin.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return;
    }
    let Ok(mut at) = io::Seek::stream_position(&mut stdin) else { return };
    let (bar, intake, work) = (bar.clone(), Arc::clone(intake), Arc::clone(work));
    let counted = threads::spawn("count", move || {
        let mut chunk = vec![0; 256 << 10];
        let (mut jobs, mut last) = (0, separator.byte());
        while let Ok(length @ 1..) = stdin.read_at(&mut chunk, at) {
            at += length as u64;
            jobs += memchr::memchr_iter(separator.byte(), &chunk[..length]).count() as u64;
            last = chunk[length - 1];
        }
        set_total(&bar, jobs + u64::from(last != separator.byte()), &intake, &work);
    });
    if let Err(error) = counted {
        tracing::debug!("the jobs are not counted ahead: {error}");
    }
}

/// The standard library opens `/dev/null` in place of a stdin that was closed.
pub(super) fn stdin_is_nothing() -> bool {
    let stdin = rustix::fs::fstat(io::stdin());
    stdin.is_ok_and(|stdin| fs::metadata("/dev/null").is_ok_and(|null| stdin.st_rdev == null.rdev()))
}
