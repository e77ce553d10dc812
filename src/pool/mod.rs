//! Bounded concurrency: N workers, a bounded queue, results in either order; and commands as jobs.
//!
//! In reading order:
//!
//! - [`Pool`], here: N workers take jobs from a bounded queue. Nothing in it knows what a job is;
//! - [`reorder`]: results in the order of their jobs;
//! - [`lines`]: jobs from a stream, each of bounded length;
//! - [`template`]: the command that a job becomes, and [`quote`], the same as a line for a shell;
//! - [`process`]: one command as a process group that never outlives its time, and [`capture`], what it printed;
//! - [`family`]: what a command has started, wherever that has gone; [`groups`]: all commands that run, and their pause;
//! - [`files`]: how many files there may be, and that commands do not inherit more of them;
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
use std::thread::{self, JoinHandle, available_parallelism};

use tokio::runtime::Runtime;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::defaults::{QUEUE_PER_WORKER, THREADS_PER_PROCESSOR, WINDOW_PER_WORKER};
use crate::threads;

use reorder::Reorder;

pub mod capture;
pub mod family;
pub mod files;
pub mod groups;
pub mod joblog;
pub mod lines;
pub mod process;
pub mod quote;
pub mod reorder;
pub mod template;

/// A pool of N workers, to be started.
///
/// The workers share threads, a few a processor, each with a small runtime of its own. To start a process blocks a thread until
/// the new program is in place: on one thread for all, the starts would queue behind each other, and with a thread a worker
/// the workers would take up the limits (of threads, of files) that their jobs need. What the jobs await (pipes, timers,
/// channels) is tokio's, as everywhere.
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
    threads: NonZeroUsize,
    queue: NonZeroUsize,
    /// Jobs that may be begun and not given out.
    window: Option<NonZeroUsize>,
    in_order: bool,
    alone_until: CancellationToken,
    stop: CancellationToken,
}

impl Pool {
    /// So many workers, a queue of two jobs a worker, results as they come.
    pub fn new(workers: NonZeroUsize) -> Self {
        let queue = workers.saturating_mul(const { NonZeroUsize::new(QUEUE_PER_WORKER).unwrap() });
        let alone_until = CancellationToken::new();
        alone_until.cancel();
        let (threads, stop) = (Self::threads_for(workers), CancellationToken::new());
        Self { workers, threads, queue, window: None, in_order: false, alone_until, stop }
    }

    /// The threads of so many workers: each has one, up to a few a processor.
    pub fn threads_for(workers: NonZeroUsize) -> NonZeroUsize {
        let processors = available_parallelism().unwrap_or(NonZeroUsize::MIN);
        workers.min(processors.saturating_mul(const { NonZeroUsize::new(THREADS_PER_PROCESSOR).unwrap() }))
    }

    /// Shares out the workers among so many threads. Where there are fewer to be had, fewer do.
    #[must_use]
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads.min(self.workers);
        self
    }

    /// Lets the first worker work alone until this token is cancelled. Where processes are limited, the first job has then
    /// been started before the pool takes more threads.
    #[must_use]
    pub fn alone_until(mut self, token: CancellationToken) -> Self {
        self.alone_until = token;
        self
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
        self.in_order = true;
        self.open_at_most(window)
    }

    /// Begins at most so many jobs before their results are given out, in whatever order.
    #[must_use]
    pub fn open_at_most(mut self, jobs: NonZeroUsize) -> Self {
        self.window = Some(self.window.map_or(jobs, |window| window.min(jobs)));
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
    /// When the system gives not even one thread, or no runtime for it.
    pub fn start<J, R, W, F>(self, work: W) -> io::Result<(Jobs<J>, Results<R>)>
    where
        J: Send + 'static,
        R: Send + 'static,
        W: Fn(usize, J) -> F + Clone + Send + 'static,
        F: Future<Output = R> + Send + 'static,
    {
        let (submit, queue) = mpsc::channel(self.queue.get());
        let (give, results) = mpsc::channel(self.workers.get());
        let window = self.window.map(|window| Arc::new(Semaphore::new(window.get().min(Semaphore::MAX_PERMITS))));
        let (queue, stop) = (Arc::new(Mutex::new(queue)), self.stop.clone());
        let crew = Crew { seat: Seat { queue, window, stop, results: give }, work };
        let order = self.in_order.then(Reorder::default);
        let (_, thread) = threads::with_runtime("workers-1", move |runtime| crew.lead(runtime, &self))?;
        Ok((Jobs { submit, submitted: 0 }, Results { results, order, thread: Some(thread) }))
    }
}

/// What all workers have, and what they do.
struct Crew<J, R, W> {
    seat: Seat<J, R>,
    work: W,
}

/// What a worker has.
struct Seat<J, R> {
    queue: Arc<Mutex<mpsc::Receiver<(u64, J)>>>,
    window: Option<Arc<Semaphore>>,
    stop: CancellationToken,
    results: mpsc::Sender<Held<R>>,
}

impl<J, R> Clone for Seat<J, R> {
    fn clone(&self) -> Self {
        let (queue, window) = (Arc::clone(&self.queue), self.window.clone());
        Self { queue, window, stop: self.stop.clone(), results: self.results.clone() }
    }
}

/// A result and its place in the window, which is free again once the result is given out.
type Held<R> = (Done<R>, Option<OwnedSemaphorePermit>);

/// How the workers of a thread ended: with the panic of a job, if there was one.
type Ended = thread::Result<()>;

impl<J, R, W, F> Crew<J, R, W>
where
    J: Send + 'static,
    R: Send + 'static,
    W: Fn(usize, J) -> F + Clone + Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    /// The first thread: its first worker, the other threads, and the rest of its workers.
    fn lead(self, runtime: &Runtime, pool: &Pool) -> Ended {
        let mut workers = JoinSet::new();
        workers.spawn_on(self.seat.clone().work(1, self.work.clone()), runtime.handle());
        let alone = async {
            tokio::select! {
                () = pool.alone_until.cancelled() => Ok(()),
                Some(ended) = workers.join_next() => ended.map_err(JoinError::into_panic),
            }
        };
        let first = runtime.block_on(alone);
        let (count, threads) = (pool.workers.get(), pool.threads.get());
        let numbers = move |thread| (thread..=count).step_by(threads);
        let (mut own, mut others): (Vec<_>, _) = (numbers(1).skip(1).collect(), Vec::new());
        for number in 2..=threads {
            let crew = Self { seat: self.seat.clone(), work: self.work.clone() };
            let run = move |runtime: &Runtime| crew.man(runtime, numbers(number), JoinSet::new());
            match threads::with_runtime(&format!("workers-{number}"), run) {
                Ok((_, thread)) => others.push(thread),
                Err(error) => {
                    tracing::debug!("no thread for some of the workers: {error}");
                    own.extend(numbers(number));
                }
            }
        }
        let all = self.man(runtime, own.into_iter(), workers);
        let others = others.into_iter().map(|thread| thread.join().flatten());
        others.fold(first.and(all), Result::and)
    }

    /// Workers with these numbers, beside those that are at work already, until all have ended.
    fn man(self, runtime: &Runtime, numbers: impl Iterator<Item = usize>, mut workers: JoinSet<()>) -> Ended {
        for number in numbers {
            workers.spawn_on(self.seat.clone().work(number, self.work.clone()), runtime.handle());
        }
        drop(self); // the pool ends when all workers have let go of the results
        runtime.block_on(async {
            let mut all = Ok(());
            while let Some(ended) = workers.join_next().await {
                all = all.and(ended.map_err(JoinError::into_panic));
            }
            all
        })
    }
}

impl<J, R> Seat<J, R> {
    /// Does one job after the other.
    async fn work<F: Future<Output = R>>(self, worker: usize, work: impl Fn(usize, J) -> F) {
        while let Some((number, job, place)) = self.stop.run_until_cancelled(self.next()).await.flatten() {
            let doing = work(worker, job);
            let done = Done { number, worker, result: doing.await };
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
    /// The first of the workers' threads, which waits for the others.
    thread: Option<JoinHandle<Ended>>,
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
                    let ended = self.thread.take().map_or(Ok(()), |thread| thread.join().flatten());
                    ended.unwrap_or_else(|panic| panic::resume_unwind(panic));
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
        threads::runtime().unwrap().block_on(future)
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
