//! The task that owns a machine.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::transport::Transport;
use super::writer::Journal;
use crate::defaults::{DISK_PATIENCE, DRIVER_BATCH, DRIVER_QUEUE};
use crate::host::{Host, Output};
use crate::net::disk;
use crate::protocol::{Input, Protocol, Time};

/// How others reach the machine.
pub struct Handle<P: Protocol> {
    queue: mpsc::Sender<Post<P>>,
}

/// What can be put into the driver's queue.
enum Post<P: Protocol> {
    Input(Input<P>),
    Inspect(Box<dyn FnOnce(&P) + Send>),
    Watch(Watch<P>),
}

/// Is shown the machine after everything that happens to it, as long as it says true.
type Watch<P> = Box<dyn FnMut(&P) -> bool + Send>;

/// The driver has stopped; there is nobody to ask.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

impl<P: Protocol> Handle<P> {
    /// The machine starts: before that it sets no timer, and so does nothing that it was not asked for.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn start(&self) -> Result<(), Stopped> {
        self.post(Post::Input(Input::Started)).await
    }

    /// A peer's message arrived. Waits while the queue is full, which makes a fast peer slow.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn received(&self, from: P::Peer, message: P::Message) -> Result<(), Stopped> {
        self.post(Post::Input(Input::Received { from, message })).await
    }

    /// The application asks for something. Waits while the queue is full.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn request(&self, command: P::Command) -> Result<(), Stopped> {
        self.post(Post::Input(Input::Requested(command))).await
    }

    /// Looks at the machine as it is between two inputs, not behind the durability barrier: good for reports, and
    /// for nothing that somebody acts on.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn inspect<T: Send + 'static>(&self, look: impl FnOnce(&P) -> T + Send + 'static) -> Result<T, Stopped> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let look = Box::new(move |machine: &P| drop(answer.send(look(machine))));
        self.post(Post::Inspect(look)).await?;
        answered.await.map_err(|_| Stopped)
    }

    /// Waits until `look` finds something in the machine, at which it looks after each batch of inputs: as for [`Handle::inspect`],
    /// not behind the durability barrier.
    ///
    /// # Errors
    /// When the driver has stopped.
    pub async fn until<T: Send + 'static>(
        &self,
        mut look: impl FnMut(&P) -> Option<T> + Send + 'static,
    ) -> Result<T, Stopped> {
        let (found, is_found) = tokio::sync::oneshot::channel();
        let mut found = Some(found);
        let watch = Box::new(move |machine: &P| {
            if let Some(what) = look(machine) {
                found.take().map(|found| found.send(what));
            }
            found.as_ref().is_some_and(|found| !found.is_closed())
        });
        self.post(Post::Watch(watch)).await?;
        is_found.await.map_err(|_| Stopped)
    }

    async fn post(&self, post: Post<P>) -> Result<(), Stopped> {
        self.queue.send(post).await.map_err(|_| Stopped)
    }
}

impl<P: Protocol> Clone for Handle<P> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

/// Owns the machine and everything it needs: `T` carries its messages, `J` keeps its records, `F` is told its events.
pub struct Driver<P: Protocol, T, J, F> {
    host: Host<P>,
    queue: mpsc::Receiver<Post<P>>,
    journal: J,
    transport: T,
    on_event: F,
    epoch: Instant,
    busy_poll: Duration,
    /// When it last had something to do, and whether that was soon after the time before.
    last_busy: Instant,
    polling: bool,
}

impl<P, T, J, F> Driver<P, T, J, F>
where
    P: Protocol,
    T: Transport<P>,
    J: Journal<P::Record>,
    F: FnMut(P::Event),
{
    /// A driver for `machine`, whose timers `seed` jitters, and the handle to reach it. While one thing closely follows
    /// another, it looks for the next one up to `busy_poll` before it sleeps.
    pub fn new(machine: P, seed: u64, busy_poll: Duration, journal: J, transport: T, on_event: F) -> (Self, Handle<P>) {
        let (sender, queue) = mpsc::channel(DRIVER_QUEUE);
        let (host, epoch) = (Host::new(machine, seed), Instant::now());
        let driver =
            Self { host, queue, journal, transport, on_event, epoch, busy_poll, last_busy: epoch, polling: false };
        (driver, Handle { queue: sender })
    }

    /// Drives until `stop`; then makes durable what has been stepped, and lets go what waited for it.
    ///
    /// # Errors
    /// When the disk fails, or stands still at the end. Nothing that waited for that write has been let go, and nothing will be.
    pub async fn run(&mut self, stop: CancellationToken) -> Result<(), disk::Error> {
        let mut posts = Vec::with_capacity(DRIVER_BATCH);
        let mut alarm = Alarm::default();
        let mut watches: Vec<Watch<P>> = Vec::new();
        loop {
            self.carry_out();
            alarm.set(self.host.next_deadline().map(|at| self.epoch + at.since_epoch()));
            self.busy_poll().await;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                done = self.journal.done() => self.on_disk(done)?,
                count = self.queue.recv_many(&mut posts, DRIVER_BATCH) => {
                    if count == 0 {
                        break; // every handle is gone
                    }
                }
                () = alarm.rings() => {}
            }
            let now = self.now();
            self.polling = self.last_busy.elapsed() < self.busy_poll;
            self.last_busy = Instant::now();
            for post in posts.drain(..) {
                match post {
                    Post::Input(input) => self.host.step(now, input),
                    Post::Inspect(look) => look(self.host.machine()),
                    Post::Watch(watch) => watches.push(watch),
                }
            }
            self.host.fire_due(now);
            watches.retain_mut(|watch| watch(self.host.machine()));
        }
        while self.journal.is_writing() {
            let done = tokio::time::timeout(DISK_PATIENCE, self.journal.done()).await;
            self.on_disk(done.map_err(|_| disk::Error::StandsStill)?)?;
            self.carry_out();
        }
        Ok(())
    }

    /// After [`Driver::run`] has failed: lets others look at the machine, and drops whatever else they bring, until
    /// `stop`.
    pub async fn only_inspect(&mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                post = self.queue.recv() => match post {
                    Some(Post::Inspect(look)) => look(self.host.machine()),
                    Some(Post::Input(_) | Post::Watch(_)) => {}
                    None => return,
                },
            }
        }
    }

    /// Lets go what waits for no record, then hands the records over. In this order, because the followers' disks are
    /// further away than this one.
    fn carry_out(&mut self) {
        let mut sent = false;
        while let Some(output) = self.host.next_output() {
            match output {
                Output::Send { to, message } => {
                    self.transport.put(to, &message);
                    sent = true;
                }
                Output::Emit(event) => (self.on_event)(event),
            }
        }
        if sent {
            self.transport.flush();
        }
        if let Some(records) = self.host.take_batch(self.now()) {
            self.journal.write(records);
        }
    }

    /// Looks for the next thing to do before sleeping. To wake a sleeping processor takes some 20 us on a virtual
    /// machine, several times a write; three nodes and one client on two processors do 4,300 writes a second with this
    /// and 3,300 without. Whoever else wants the processor gets it at every look.
    async fn busy_poll(&mut self) {
        if !self.polling {
            return;
        }
        while self.queue.is_empty() && !self.journal.is_done() && self.last_busy.elapsed() < self.busy_poll {
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
    }

    fn on_disk(&mut self, done: Result<(), disk::Error>) -> Result<(), disk::Error> {
        done?;
        self.host.batch_durable(self.now());
        Ok(())
    }

    fn now(&self) -> Time {
        Time::after_epoch(self.epoch.elapsed())
    }
}

/// Rings at a deadline, or earlier. Deadlines mostly move away, at every message of a leader; winding the clock up each
/// time would cost two system calls, waking up once in a while for nothing costs less.
#[derive(Default)]
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    fn set(&mut self, deadline: Option<Instant>) {
        match (&mut self.sleep, deadline) {
            (_, None) => self.sleep = None,
            (None, Some(deadline)) => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
            (Some(sleep), Some(deadline)) => {
                if deadline < sleep.deadline() || sleep.is_elapsed() {
                    sleep.as_mut().reset(deadline);
                }
            }
        }
    }

    async fn rings(&mut self) {
        match &mut self.sleep {
            Some(sleep) => sleep.await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::writer::NoJournal;
    use crate::protocol::{Effects, NoRecord};

    /// Counts its requests, and tells the count.
    struct Counter(u32);

    impl Protocol for Counter {
        type Peer = u8;
        type Message = ();
        type Command = ();
        type Timer = ();
        type Record = NoRecord;
        type Event = u32;

        fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Effects<Self>) {
            if matches!(input, Input::Requested(())) {
                self.0 += 1;
                out.emit(self.0);
            }
        }
    }

    struct NoPeers;

    impl Transport<Counter> for NoPeers {
        fn put(&mut self, _to: u8, _message: &()) {}

        fn flush(&mut self) {}
    }

    #[tokio::test]
    async fn until_finds_what_is_there_and_what_comes_and_hears_that_the_node_has_stopped() {
        let (mut driver, node) = Driver::new(Counter(1), 0, Duration::ZERO, NoJournal, NoPeers, |_| {});
        let stop = CancellationToken::new();
        let count = |least| node.until(move |counter| (counter.0 >= least).then_some(counter.0));
        let test = async {
            assert_eq!(count(1).await.ok(), Some(1), "it is there");
            let come = async {
                for _ in 0..2 {
                    node.request(()).await.unwrap();
                    node.inspect(|_| ()).await.unwrap();
                }
            };
            assert_eq!(tokio::join!(count(3), come).0.ok(), Some(3));
            let never = async {
                node.inspect(|_| ()).await.unwrap();
                stop.cancel();
            };
            assert!(tokio::join!(count(9), never).0.is_err());
        };
        let (ran, ()) = tokio::join!(driver.run(stop.clone()), test);
        ran.unwrap();
        drop(driver);
        assert!(count(1).await.is_err(), "nobody is there to be asked");
    }
}
