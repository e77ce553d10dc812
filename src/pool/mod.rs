//! Bounded concurrency: N workers, a bounded queue, results in either order; and commands as jobs.
//!
//! In reading order:
//!
//! - [`Pool`], here: N workers take jobs from a bounded queue. Nothing in it knows what a job is;
//! - [`reorder`]: results in the order of their jobs;
//! - [`lines`]: jobs from a stream, each of bounded length;
//! - [`template`]: the command that a job becomes, and [`quote`], the same as a line for a shell;
//! - [`process`]: one command as a process group that never outlives its time, and [`capture`], what it printed;
//! - [`joblog`]: which commands have been run, so that another run can go on from there.
//!
//! Everything is bounded. Whoever submits waits while the queue is full; a worker waits while nobody takes its result;
//! with results in order, no job starts that would have to wait behind more than a window of others. So a slow reader of
//! results slows the source of the jobs, and memory stays what it was.

use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::panic;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::runtime;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::defaults::{QUEUE_PER_WORKER, WINDOW_PER_WORKER};

use reorder::Reorder;

pub mod capture;
pub mod joblog;
pub mod lines;
pub mod process;
pub mod quote;
pub mod reorder;
pub mod template;

/// A pool of N workers, to be started.
///
/// Each worker is a thread with a small runtime of its own, so that a job may block it, as starting a process does: until
/// the new program is in place, the thread that starts it stands still. On one shared thread, N workers would start their
/// processes one after the other. What the jobs await (pipes, timers, channels) is tokio's, as everywhere.
///
/// ```
/// use std::num::NonZeroUsize;
/// use netbelt::pool::Pool;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let three = NonZeroUsize::new(3).unwrap();
/// let (mut jobs, mut results) = Pool::new(three).keep_order().start(|_worker, n: u32| async move { n * 2 })?;
/// tokio::spawn(async move {
///     for n in 1..=5 {
///         jobs.submit(n).await.unwrap(); // waits while the queue is full
///     }
/// }); // the pool ends when `jobs` is gone and all is done
/// let mut doubled = Vec::new();
/// while let Some(done) = results.next().await {
///     doubled.push(done.result);
/// }
/// assert_eq!(doubled, [2, 4, 6, 8, 10]);
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pool {
    workers: NonZeroUsize,
    queue: NonZeroUsize,
    window: Option<NonZeroUsize>,
    stop: CancellationToken,
}

impl Pool {
    /// So many workers, a queue of two jobs a worker, results as they come.
    pub fn new(workers: NonZeroUsize) -> Self {
        let queue = workers.saturating_mul(const { NonZeroUsize::new(QUEUE_PER_WORKER).unwrap() });
        Self { workers, queue, window: None, stop: CancellationToken::new() }
    }

    /// Lets so many jobs wait for a worker.
    #[must_use]
    pub fn queue(mut self, jobs: NonZeroUsize) -> Self {
        self.queue = jobs;
        self
    }

    /// Gives results in the order of their jobs, with a window of sixteen jobs a worker.
    #[must_use]
    pub fn keep_order(self) -> Self {
        let window = self.workers.saturating_mul(const { NonZeroUsize::new(WINDOW_PER_WORKER).unwrap() });
        self.keep_order_within(window)
    }

    /// Gives results in the order of their jobs. At most `window` jobs are begun and not yet given out: while one takes
    /// long, so many others less one can be worked on, and then the pool waits for it.
    #[must_use]
    pub fn keep_order_within(mut self, window: NonZeroUsize) -> Self {
        self.window = Some(window);
        self
    }

    /// Once this token is cancelled no job is started; those that run are finished.
    #[must_use]
    pub fn stop_with(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// Starts the workers. Each calls `work` with its own number, from 1, for one job after the other.
    ///
    /// # Errors
    /// When the system gives no thread, or no runtime for it.
    pub fn start<J, R, W, F>(self, work: W) -> io::Result<(Jobs<J>, Results<R>)>
    where
        J: Send + 'static,
        R: Send + 'static,
        W: Fn(usize, J) -> F + Clone + Send + 'static,
        F: Future<Output = R>,
    {
        let (submit, queue) = mpsc::channel(self.queue.get());
        let (give, results) = mpsc::channel(self.workers.get());
        let queue = Arc::new(Mutex::new(queue));
        let window = self.window.map(|window| Arc::new(Semaphore::new(window.get().min(Semaphore::MAX_PERMITS))));
        let mut threads = Vec::new();
        for worker in 1..=self.workers.get() {
            let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
            let worker = Worker {
                number: worker,
                queue: Arc::clone(&queue),
                window: window.clone(),
                stop: self.stop.clone(),
                results: give.clone(),
            };
            let work = work.clone();
            let thread = thread::Builder::new().name(format!("worker-{}", worker.number));
            threads.push(thread.spawn(move || runtime.block_on(worker.run(work)))?);
        }
        let jobs = Jobs { submit, submitted: 0 };
        let order = self.window.map(|_| Reorder::default());
        Ok((jobs, Results { results, order, threads }))
    }
}

/// One worker.
struct Worker<J, R> {
    number: usize,
    queue: Arc<Mutex<mpsc::Receiver<(u64, J)>>>,
    window: Option<Arc<Semaphore>>,
    stop: CancellationToken,
    results: mpsc::Sender<Held<R>>,
}

/// A result and its place in the window, which is free again once the result is given out.
type Held<R> = (Done<R>, Option<OwnedSemaphorePermit>);

impl<J, R> Worker<J, R> {
    async fn run<F: Future<Output = R>>(self, work: impl Fn(usize, J) -> F) {
        while let Some((number, job, place)) = self.stop.run_until_cancelled(self.next()).await.flatten() {
            let result = work(self.number, job).await;
            let done = Done { number, worker: self.number, result };
            if self.results.send((done, place)).await.is_err() {
                return; // nobody wants results any more
            }
        }
    }

    /// The next job, once the window has a place for it. The place comes first: jobs leave the queue in order, so the
    /// oldest that is not given out always has one, and goes on.
    async fn next(&self) -> Option<(u64, J, Option<OwnedSemaphorePermit>)> {
        let place = match &self.window {
            Some(window) => Some(Arc::clone(window).acquire_owned().await.expect("the window is never closed")),
            None => None,
        };
        let (number, job) = self.queue.lock().await.recv().await?;
        Some((number, job, place))
    }
}

/// Where jobs are submitted. When it is dropped, the pool finishes what it has and ends.
#[derive(Debug)]
pub struct Jobs<J> {
    submit: mpsc::Sender<(u64, J)>,
    submitted: u64,
}

impl<J> Jobs<J> {
    /// Queues a job; waits while the queue is full. Jobs are numbered from 1 as they come.
    ///
    /// # Errors
    /// Gives the job back when the pool has stopped.
    pub async fn submit(&mut self, job: J) -> Result<(), J> {
        let Ok(place) = self.submit.reserve().await else { return Err(job) };
        self.submitted += 1;
        place.send((self.submitted, job));
        Ok(())
    }
}

/// A finished job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done<R> {
    /// The how-manieth submitted it was, from 1.
    pub number: u64,
    /// Who did it, from 1.
    pub worker: usize,
    /// What came out.
    pub result: R,
}

/// The results, as they come or in the order of their jobs.
#[derive(Debug)]
pub struct Results<R> {
    results: mpsc::Receiver<Held<R>>,
    order: Option<Reorder<Held<R>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<R> Results<R> {
    /// The next result; `None` when all is done. Cancelling it loses none.
    ///
    /// # Panics
    /// When a job did: its panic goes on here, after the other results.
    pub async fn next(&mut self) -> Option<Done<R>> {
        loop {
            if let Some((done, _place)) = self.order.as_mut().and_then(Reorder::take_next) {
                return Some(done);
            }
            match (self.results.recv().await, &mut self.order) {
                (Some((done, place)), Some(order)) => order.put(done.number, (done, place)),
                (Some((done, _)), None) => return Some(done),
                (None, order) => {
                    // All workers have ended. A gap is a job that panicked.
                    if let Some((done, _place)) = order.as_mut().and_then(Reorder::skip) {
                        return Some(done);
                    }
                    self.threads
                        .drain(..)
                        .try_for_each(JoinHandle::join)
                        .unwrap_or_else(|panic| panic::resume_unwind(panic));
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;
    use tokio::sync::Semaphore;

    use super::*;

    fn some(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).unwrap()
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    /// Counts those who are between `enter` and the drop of what it gave.
    #[derive(Clone, Default)]
    struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

    impl Gauge {
        fn enter(&self) -> Inside {
            let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
            self.0.1.fetch_max(now, Ordering::SeqCst);
            Inside(self.clone())
        }

        fn most(&self) -> usize {
            self.0.1.load(Ordering::SeqCst)
        }
    }

    struct Inside(Gauge);

    impl Drop for Inside {
        fn drop(&mut self) {
            self.0.0.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Submits the numbers up to `last` while the results are collected; the jobs yield as often as `yields` says.
    fn run(pool: Pool, last: u64, yields: Vec<u8>) -> (Vec<Done<u64>>, usize) {
        let gauge = Gauge::default();
        let inside = gauge.clone();
        let work = move |_worker, job: u64| {
            let (inside, times) = (inside.clone(), yields[job as usize % yields.len()]);
            async move {
                let _inside = inside.enter();
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
                2 * job
            }
        };
        let done = block_on(async {
            let (mut jobs, mut results) = pool.start(work).unwrap();
            let submit = async move {
                for job in 1..=last {
                    jobs.submit(job).await.unwrap();
                }
            };
            let collect = async {
                let mut all = Vec::new();
                while let Some(done) = results.next().await {
                    all.push(done);
                }
                all
            };
            tokio::join!(submit, collect).1
        });
        (done, gauge.most())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_job_is_done_once_and_never_more_than_n_at_a_time(
            workers in 1_usize..6,
            queue in 1_usize..6,
            window in prop::option::of(1_usize..12),
            jobs in 0_u64..60,
            yields in prop::collection::vec(0_u8..20, 1..8),
        ) {
            let mut pool = Pool::new(some(workers)).queue(some(queue));
            if let Some(window) = window {
                pool = pool.keep_order_within(some(window));
            }
            let (done, most) = run(pool, jobs, yields);
            let numbers: Vec<_> = done.iter().map(|done| done.number).collect();
            let wanted: Vec<_> = (1..=jobs).collect();
            prop_assert!(done.iter().all(|done| done.result == 2 * done.number && (1..=workers).contains(&done.worker)));
            if window.is_some() {
                prop_assert_eq!(numbers, wanted, "in order");
            } else {
                prop_assert_eq!(numbers.iter().copied().collect::<BTreeSet<_>>(), wanted.iter().copied().collect());
                prop_assert_eq!(numbers.len(), wanted.len());
            }
            prop_assert!(most <= workers.min(window.unwrap_or(workers)), "{most} at a time");
        }

        #[test]
        fn no_job_begins_a_window_ahead_of_the_oldest_result(
            workers in 1_usize..5,
            window in 1_usize..8,
            yields in prop::collection::vec(0_u8..20, 1..8),
        ) {
            // What has begun and has not been taken from `next`: at most the window, and the one in our hands.
            let open = Arc::new(AtomicUsize::new(0));
            let (begun, most) = (Arc::clone(&open), Arc::new(AtomicUsize::new(0)));
            let seen = Arc::clone(&most);
            let work = move |_worker, job: u64| {
                seen.fetch_max(begun.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let times = yields[job as usize % yields.len()];
                async move {
                    for _ in 0..times {
                        tokio::task::yield_now().await;
                    }
                }
            };
            block_on(async {
                let pool = Pool::new(some(workers)).keep_order_within(some(window));
                let (mut jobs, mut results) = pool.start(work).unwrap();
                let feeder = tokio::spawn(async move {
                    for job in 1..=40 {
                        jobs.submit(job).await.unwrap();
                    }
                });
                while results.next().await.is_some() {
                    open.fetch_sub(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
                feeder.await.unwrap();
            });
            prop_assert!(most.load(Ordering::SeqCst) <= window + 1);
        }
    }

    #[test]
    fn whoever_submits_to_a_full_queue_waits() {
        block_on(async {
            let gate = Arc::new(Semaphore::new(0));
            let at_work = Arc::clone(&gate);
            let (mut jobs, mut results) = Pool::new(some(1))
                .queue(some(2))
                .start(move |_worker, ()| {
                    let gate = Arc::clone(&at_work);
                    async move { gate.acquire_owned().await.unwrap().forget() }
                })
                .unwrap();
            for _ in 0..3 {
                jobs.submit(()).await.unwrap(); // one is being worked on, two wait
            }
            let mut fourth = Box::pin(jobs.submit(()));
            tokio::select! {
                biased;
                _ = &mut fourth => panic!("the queue is full"),
                () = tokio::task::yield_now() => {}
            }
            gate.add_permits(1);
            assert!(results.next().await.is_some());
            fourth.await.unwrap();
            gate.add_permits(3);
            drop(jobs);
            for left in [true, true, true, false] {
                assert_eq!(results.next().await.is_some(), left);
            }
        });
    }

    #[test]
    fn a_stopped_pool_finishes_what_it_has_begun_and_takes_no_more() {
        block_on(async {
            let stop = CancellationToken::new();
            let gate = Arc::new(Semaphore::new(0));
            let begun = Arc::new(Semaphore::new(0));
            let (at_work, started) = (Arc::clone(&gate), Arc::clone(&begun));
            let pool = Pool::new(some(2)).keep_order().stop_with(stop.clone());
            let (mut jobs, mut results) = pool
                .start(move |_worker, job: u64| {
                    let (gate, started) = (Arc::clone(&at_work), Arc::clone(&started));
                    async move {
                        started.add_permits(1);
                        gate.acquire_owned().await.unwrap().forget();
                        job
                    }
                })
                .unwrap();
            for job in 1..=4 {
                jobs.submit(job).await.unwrap();
            }
            begun.acquire_many(2).await.unwrap().forget();
            stop.cancel();
            gate.add_permits(9);
            let mut done = Vec::new();
            while let Some(one) = results.next().await {
                done.push(one.result);
            }
            assert_eq!(done, [1, 2]);
            assert_eq!(jobs.submit(5).await, Err(5));
        });
    }

    #[test]
    fn the_panic_of_a_job_reaches_whoever_collects_after_the_other_results() {
        let mut seen = Vec::new();
        let panic = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            block_on(async {
                let pool = Pool::new(some(2)).keep_order();
                let (mut jobs, mut results) = pool
                    .start(|_worker, job: u64| async move {
                        assert!(job != 2, "job 2 is bad");
                        job
                    })
                    .unwrap();
                let feeder = tokio::spawn(async move {
                    for job in 1..=5 {
                        jobs.submit(job).await.unwrap();
                    }
                });
                while let Some(done) = results.next().await {
                    seen.push(done.result);
                }
                feeder.await.unwrap();
            });
        }));
        assert_eq!(seen, [1, 3, 4, 5]);
        assert!(panic.is_err());
    }
}
