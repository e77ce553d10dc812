//! The task that owns a machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::link::Outbox;
use super::writer::{Done, Writer};
use crate::defaults::{DRIVER_BATCH, DRIVER_QUEUE};
use crate::host::{Host, Output};
use crate::net::disk;
use crate::protocol::{Input, Protocol, Time};
use crate::wire::Wire;

/// How others reach the machine.
pub struct Handle<P: Protocol> {
    queue: mpsc::Sender<Post<P>>,
}

/// What can be put into the driver's queue.
enum Post<P: Protocol> {
    Input(Input<P>),
    Inspect(Box<dyn FnOnce(&P) + Send>),
}

/// The driver has stopped; there is nobody to ask.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

impl<P: Protocol> Handle<P> {
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

    async fn post(&self, post: Post<P>) -> Result<(), Stopped> {
        self.queue.send(post).await.map_err(|_| Stopped)
    }
}

impl<P: Protocol> Clone for Handle<P> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

/// Owns the machine and everything it needs. `F` is told the machine's events.
pub struct Driver<P: Protocol, F> {
    host: Host<P>,
    queue: mpsc::Receiver<Post<P>>,
    writer: Writer<P::Record>,
    links: BTreeMap<P::Peer, Arc<Outbox>>,
    on_event: F,
    epoch: Instant,
}

impl<P, F> Driver<P, F>
where
    P: Protocol<Message: Wire, Record: Wire + Send + 'static>,
    F: FnMut(P::Event),
{
    /// A driver for `machine`, whose timers `seed` jitters, and the handle to reach it.
    pub fn new(
        machine: P,
        seed: u64,
        writer: Writer<P::Record>,
        links: BTreeMap<P::Peer, Arc<Outbox>>,
        on_event: F,
    ) -> (Self, Handle<P>) {
        let (sender, queue) = mpsc::channel(DRIVER_QUEUE);
        let driver = Self { host: Host::new(machine, seed), queue, writer, links, on_event, epoch: Instant::now() };
        (driver, Handle { queue: sender })
    }

    /// Drives until `stop`; then makes durable what has been stepped, and lets go what waited for it.
    ///
    /// # Errors
    /// When the disk fails. Nothing that waited for the failed write has been let go, and nothing will be.
    pub async fn run(&mut self, stop: CancellationToken) -> Result<(), disk::Error> {
        let mut posts = Vec::with_capacity(DRIVER_BATCH);
        let now = self.now();
        self.host.step(now, Input::Started);
        loop {
            self.carry_out();
            let deadline = self.host.next_deadline().map(|at| self.epoch + at.since_epoch());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                done = self.writer.done() => self.on_disk(done)?,
                count = self.queue.recv_many(&mut posts, DRIVER_BATCH) => {
                    if count == 0 {
                        break; // every handle is gone
                    }
                }
                () = sleep_until(deadline) => {}
            }
            let now = self.now();
            for post in posts.drain(..) {
                match post {
                    Post::Input(input) => self.host.step(now, input),
                    Post::Inspect(look) => look(self.host.machine()),
                }
            }
            self.host.fire_due(now);
        }
        while self.writer.is_writing() {
            let done = self.writer.done().await;
            self.on_disk(done)?;
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
                    Some(Post::Input(_)) => {}
                    None => return,
                },
            }
        }
    }

    /// Hands over the records, then lets go what waits for none of them.
    fn carry_out(&mut self) {
        if let Some(records) = self.host.take_batch() {
            self.writer.write(records);
        }
        while let Some(output) = self.host.next_output() {
            match output {
                Output::Send { to, message } => {
                    if let Some(outbox) = self.links.get(&to) {
                        outbox.put(&message);
                    }
                }
                Output::Emit(event) => (self.on_event)(event),
            }
        }
        for outbox in self.links.values() {
            outbox.ring();
        }
    }

    fn on_disk(&mut self, done: Done) -> Result<(), disk::Error> {
        done.result?;
        self.host.batch_durable();
        Ok(())
    }

    fn now(&self) -> Time {
        Time::after_epoch(self.epoch.elapsed())
    }
}

/// Waits until `deadline`, for ever without one.
async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        // Tokio's timers are of a millisecond; what is due at once need not wait for that.
        Some(deadline) if deadline.saturating_duration_since(Instant::now()) < Duration::from_micros(1) => {}
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
