//! What bodies and large answers take of a node's memory, which is bounded for all of them together.
//!
//! A small body takes none: it fits into the buffer that each connection has anyway. When there is no room for a larger one,
//! the largest that is still arriving has to go, if that is larger than this one: nobody waits behind bodies that never end
//! but who sends as much himself.
//!
//! A read is refused when there is no room for its answer. A write is not: what it did cannot be taken back. Its answer repeats
//! the request, so it can take over the room of that; and where it would tell what a key holds, it leaves that out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body as _, Bytes, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::reply::{Body, Refusal, Reply};
use crate::defaults::{
    BODY_TIMEOUT, LARGE_ANSWER, MAX_ANSWER_MEMORY, MAX_BODY_BYTES, MAX_BODY_MEMORY, MAX_VALUE_BYTES, SMALL_BODY,
};

/// The right to as much memory as a body takes beyond what is small.
pub(super) type Room = Option<OwnedSemaphorePermit>;

/// What bodies and answers may take together.
#[derive(Debug)]
pub(super) struct Memory {
    bodies: Bodies,
    answers: Arc<Semaphore>,
}

/// The memory of bodies.
#[derive(Debug)]
struct Bodies {
    memory: Arc<Semaphore>,
    arriving: Mutex<Arrivals>,
    next_id: AtomicU64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { bodies: Bodies::default(), answers: Arc::new(Semaphore::new(MAX_ANSWER_MEMORY)) }
    }
}

impl Memory {
    /// All that bodies may take, and all that answers may.
    #[cfg(test)]
    pub(super) fn all(&self) -> (Arc<Semaphore>, Arc<Semaphore>) {
        (Arc::clone(&self.bodies.memory), Arc::clone(&self.answers))
    }

    /// The whole body, and the room it takes.
    pub(super) async fn body(&self, body: Incoming) -> Result<(Bytes, Room), Refusal> {
        self.bodies.collect(body).await
    }

    /// Makes room for a large answer, until its last byte has been sent; None when there is none.
    pub(super) fn with_room(&self, reply: Reply) -> Option<Reply> {
        let room = self.room_for(&reply)?;
        Some(holding(reply, room))
    }

    /// The same for an answer that repeats its request. Where there is no room it takes over that of the request, which was as
    /// long but for a few bytes: JSON is not written longer here than any client can write it.
    pub(super) fn with_room_of(&self, request: Room, reply: Reply) -> Reply {
        let room = self.room_for(&reply).unwrap_or(request);
        holding(reply, room)
    }

    /// None when there is none. A small answer needs none.
    fn room_for(&self, reply: &Reply) -> Option<Room> {
        let size = reply.body().size_hint().exact().unwrap_or_default() as usize;
        if size <= LARGE_ANSWER {
            return Some(None);
        }
        Arc::clone(&self.answers).try_acquire_many_owned(size as u32).ok().map(Some)
    }
}

/// The bodies that are still arriving. Sizes are in bytes of their room.
#[derive(Debug, Default)]
struct Arrivals {
    /// Those that have room, by its size.
    by_size: BTreeMap<(usize, u64), CancellationToken>,
    /// What those have that were sent away and are not gone yet.
    leaving: usize,
    /// What others wait for: nobody is sent away for it a second time.
    awaited: usize,
}

impl Arrivals {
    /// Sees to it that `more` bytes become free for a body that has `size`: those that are leaving have them, or the largest
    /// that is larger than this one has to leave. False when there is none.
    fn make_room(&mut self, size: usize, more: usize) -> bool {
        if self.leaving < self.awaited + more {
            let largest = self.by_size.last_entry().filter(|largest| largest.key().0 > size + more);
            let Some(largest) = largest else { return false };
            self.leaving += largest.key().0;
            largest.remove().cancel();
        }
        self.awaited += more;
        true
    }
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            memory: Arc::new(Semaphore::new(MAX_BODY_MEMORY)),
            arriving: Mutex::default(),
            next_id: AtomicU64::default(),
        }
    }
}

/// A body that is arriving.
struct Arriving<'a> {
    bodies: &'a Bodies,
    id: u64,
    bytes: Bytes,
    room: Room,
    /// What it waits for.
    awaits: usize,
    /// Once it has room: told when a smaller one needs that.
    evicted: Option<CancellationToken>,
}

impl Arriving<'_> {
    fn size(&self) -> usize {
        self.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Takes more room, until there is enough for `size` bytes in all.
    async fn grow(&mut self, size: usize) -> Result<(), Refusal> {
        let more = size.saturating_sub(SMALL_BODY).saturating_sub(self.size());
        if more == 0 {
            return Ok(());
        }
        let memory = Arc::clone(&self.bodies.memory);
        let room = match Arc::clone(&memory).try_acquire_many_owned(more as u32) {
            Ok(room) => room,
            Err(_) if self.bodies.arriving().make_room(self.size(), more) => {
                self.awaits = more;
                let room = tokio::select! {
                    biased;
                    () = told(self.evicted.as_ref()) => return Err(evicted()),
                    room = memory.acquire_many_owned(more as u32) => room.expect("it is never closed"),
                };
                self.bodies.arriving().awaited -= std::mem::take(&mut self.awaits);
                room
            }
            Err(_) => return Err(Refusal::overloaded()),
        };
        self.take(room);
        Ok(())
    }

    /// Adds to its room.
    fn take(&mut self, more: OwnedSemaphorePermit) {
        let mut arriving = self.bodies.arriving();
        let before = (self.size(), self.id);
        let Some(room) = &mut self.room else {
            arriving
                .by_size
                .insert((more.num_permits(), self.id), self.evicted.insert(CancellationToken::new()).clone());
            self.room = Some(more);
            return;
        };
        match arriving.by_size.remove(&before) {
            Some(token) => drop(arriving.by_size.insert((before.0 + more.num_permits(), self.id), token)),
            None => arriving.leaving += more.num_permits(), // it was sent away, and has not heard that yet
        }
        room.merge(more);
    }

    /// It cannot be sent away any more.
    fn leave(&self) {
        if self.room.is_some() || self.awaits > 0 {
            let mut arriving = self.bodies.arriving();
            arriving.awaited -= self.awaits;
            if arriving.by_size.remove(&(self.size(), self.id)).is_none() {
                arriving.leaving -= self.size();
            }
        }
    }

    async fn read(&mut self, mut body: Incoming) -> Result<(), Refusal> {
        loop {
            let frame = tokio::select! {
                biased;
                () = told(self.evicted.as_ref()) => return Err(evicted()),
                frame = body.frame() => frame,
            };
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame
                .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, &format!("cannot read the body: {error}")))?;
            let Ok(data) = frame.into_data() else { continue }; // trailers
            let size = self.bytes.len() + data.len();
            if size > MAX_BODY_BYTES {
                return Err(too_large(&format!("more than {MAX_BODY_BYTES}")));
            }
            self.grow(size).await?;
            // Nearly every body arrives in one piece, and is used where it lies.
            self.bytes = if self.bytes.is_empty() {
                data
            } else {
                let mut longer = BytesMut::from(std::mem::take(&mut self.bytes));
                longer.extend_from_slice(&data);
                longer.freeze()
            };
        }
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Waits until that is cancelled.
async fn told(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

fn evicted() -> Refusal {
    let message = "overloaded: a body this large has to go when it is slow, and smaller ones need the room";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(1)
}

impl Bodies {
    fn arriving(&self) -> std::sync::MutexGuard<'_, Arrivals> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A body of which nothing has arrived. `id` is another one for each.
    fn begin(&self, id: u64) -> Arriving<'_> {
        Arriving { bodies: self, id, bytes: Bytes::new(), room: None, awaits: 0, evicted: None }
    }

    /// The whole of a body, within its limits of size and time, and the room it takes: what has not arrived takes none.
    async fn collect(&self, body: Incoming) -> Result<(Bytes, Room), Refusal> {
        let announced = body.size_hint().lower();
        if announced > MAX_BODY_BYTES as u64 {
            return Err(too_large(&announced.to_string()));
        }
        let mut arriving = self.begin(self.next_id.fetch_add(1, Ordering::Relaxed));
        let read = tokio::time::timeout(BODY_TIMEOUT, arriving.read(body)).await;
        read.unwrap_or_else(|_| {
            let message = format!("the body did not arrive within {BODY_TIMEOUT:?}");
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, &message))
        })?;
        arriving.leave();
        Ok((std::mem::take(&mut arriving.bytes), arriving.room.take()))
    }
}

fn too_large(size: &str) -> Refusal {
    let message = format!(
        "the body has {size} bytes: a value has at most {MAX_VALUE_BYTES} bytes, and with everything around it, and every \
         character escaped, a body at most {MAX_BODY_BYTES}"
    );
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, &message)
}

/// Bytes of an answer, with the right to take that much memory.
struct Accounted {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Accounted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer that gives its room back when its last byte has been sent.
fn holding(reply: Reply, room: Room) -> Reply {
    let Some(room) = room else { return reply };
    reply.map(|body| {
        let Body::Whole(full) = body else { return body };
        let bytes = full.into_inner().unwrap_or_default();
        Body::from(Bytes::from_owner(Accounted { bytes, _room: room }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each body that grew sent one away, although those that were leaving already had enough for all of them.
    #[tokio::test]
    async fn no_more_bodies_are_sent_away_than_the_smaller_ones_need() {
        const LARGE: usize = MAX_BODY_MEMORY / 93;
        const SMALL: usize = 100 << 10;
        let (bodies, end) = (Arc::new(Bodies::default()), CancellationToken::new());
        let (tell, mut told_of) = tokio::sync::mpsc::unbounded_channel();
        let begin = |id, size: usize| {
            let (bodies, end, tell) = (Arc::clone(&bodies), end.clone(), tell.clone());
            async move {
                let mut body = bodies.begin(id);
                let grown = body.grow(size + SMALL_BODY).await.is_ok();
                tell.send(grown).unwrap();
                tokio::select! {
                    biased;
                    () = told(body.evicted.as_ref()) => true,
                    () = end.cancelled() => false,
                }
            }
        };
        let mut all = tokio::task::JoinSet::new();
        for (ids, size) in [(0..93, LARGE), (100..150, SMALL)] {
            let number = ids.clone().count();
            ids.for_each(|id| drop(all.spawn(begin(id, size))));
            for _ in 0..number {
                assert_eq!(told_of.recv().await, Some(true));
            }
        }
        end.cancel();
        let evicted = all.join_all().await.into_iter().filter(|evicted| *evicted).count();
        assert_eq!(evicted, (50 * SMALL).div_ceil(LARGE));
        let arriving = bodies.arriving();
        assert!(arriving.by_size.is_empty() && (arriving.leaving, arriving.awaited) == (0, 0), "{arriving:?}");
        assert_eq!(bodies.memory.available_permits(), MAX_BODY_MEMORY);
    }
}
