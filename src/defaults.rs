//! Every default time-out and limit, each with its reason.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A leader's heartbeat: several within the shortest election timeout, so that one lost message elects nobody.
pub const HEARTBEAT: Duration = Duration::from_millis(50);
/// Raft §9.3 recommends 150 to 300 ms: failover is quick, and a busy machine does not trigger it.
pub const ELECTION_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(150)..=Duration::from_millis(300);
/// Payload of one append: large enough to amortise a frame, small enough that a heartbeat behind it is not late.
pub const MAX_APPEND_BYTES: usize = 1 << 20;
/// Unanswered appends a follower: covers the round trips of a long link, and of the largest appends half of
/// [`LINK_QUEUE_BYTES`].
pub const APPEND_WINDOW: usize = 16;
/// Unanswered bytes a follower: a second of a link of 64 Mbit/s, so that what is lost with a connection is soon sent again.
pub const APPEND_WINDOW_BYTES: usize = 8 << 20;
/// Bytes of entries applied between two snapshots, unless told otherwise: some seconds of the fastest writes, and little to
/// read again at a start.
pub const SNAPSHOT_EVERY: u64 = 64 << 20;
/// The least that may be asked for: each snapshot costs a few writes to the disk.
pub const MIN_SNAPSHOT_EVERY: u64 = 4 << 10;
/// A pause between two chunks of a snapshot, in which writes go on: some 64 MiB a second, more than twice what the fastest
/// writes bring, and little beside them for processors and disk.
pub const SNAPSHOT_PAUSE: Duration = Duration::from_millis(4);
/// How long a leader waits for the answer to a part of a snapshot from a follower that answers otherwise, before it begins anew:
/// longer than any disk takes for a part.
pub const INSTALL_PATIENCE: Duration = Duration::from_secs(10);
/// Backups that a node sends at a time: each keeps what is changed under it, and at most the whole state.
pub const MAX_BACKUPS: usize = 2;
/// How long a backup that nobody reads keeps its view.
pub const BACKUP_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of entries kept in memory before a snapshot: a follower that is this little behind needs none.
pub const RETAINED_BYTES: usize = 4 << 20;
/// Bytes of entries (16 and the command each) that a node keeps in memory, but for those that a follower is about to get:
/// snapshots of a large state are far apart, and the entries between them should not take as much memory as the state.
pub const LOG_MEMORY_BYTES: usize = 64 << 20;
/// A pause between two quarters of a megabyte of zeros for the log's next segment: that takes 150 ms, well within the time in
/// which a snapshot at its pace fills one, and no write waits for more than a piece of it.
pub const LOG_FILL_PAUSE: Duration = Duration::from_millis(2);
/// How often a node looks how much space its log is to keep back for a full disk: writes bring less than a segment meanwhile.
pub const RESERVE_PAUSE: Duration = Duration::from_secs(2);
/// A pause before a node whose disk is full tries again to write a snapshot that was not to be had.
pub const COMPACT_PAUSE: Duration = Duration::from_millis(200);
/// What is given back to the disk at a time of a segment that is not needed.
pub const LOG_REMOVE_PIECE: u64 = 1 << 20;
/// A pause after that: a segment takes 150 ms.
pub const LOG_REMOVE_PAUSE: Duration = Duration::from_millis(10);
/// How long a leader's proposals wait for those before them, to share a write and an answer a follower: longer than a
/// write takes where disks and followers are near, and next to nothing beside the way to followers that are far.
pub const BATCH_DELAY: Duration = Duration::from_millis(1);
/// How long after a commit a node notes it in its log, when no write has taken the note along: a few syncs a second at the
/// most, and whoever is started without the others shows all but what was committed last.
pub const NOTE_COMMIT: Duration = Duration::from_millis(250);
/// How long a write may take before a disk counts as one that stands still: a hundred times what a slow one takes, and soon
/// enough that clients which wait for some seconds get their answer from another leader.
pub const DISK_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of records after which a batch for the disk is full: a few tens of milliseconds of a modest disk, so that answers come
/// in time however large the values are.
pub const MAX_BATCH_BYTES: usize = 4 << 20;
/// Entries applied in one step: some milliseconds, well within a heartbeat.
pub const APPLY_BATCH: u64 = 4096;
/// A pause between such steps, in which peers and clients are heard.
pub const APPLY_PAUSE: Duration = Duration::from_micros(1);

/// How often a node of bully-elect says that it is there: little traffic, and two in the lease of a leader.
pub const BULLY_HEARTBEAT: Duration = Duration::from_millis(500);
/// After so long without a word a node of bully-elect is taken for dead: three heartbeats.
pub const BULLY_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long a leader's command may take to end once it leads no longer: time to finish what is in hand, and a third of the
/// time-out.
pub const BULLY_GRACE: Duration = Duration::from_millis(500);

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// Items on one page of a listing, unless asked otherwise.
pub const LIST_LIMIT: usize = 100;
/// Most items on one page of a listing.
pub const MAX_LIST_LIMIT: usize = 1000;
/// Bytes of keys and values after which a page of a listing ends early: a page is built in memory.
pub const MAX_LIST_BYTES: usize = 4 << 20;

/// Longest name of a client, in bytes: room for a host name and a random number.
pub const MAX_CLIENT_BYTES: usize = 128;
/// Answered requests that are remembered of each client, so that it may have as many under way.
pub const SESSION_WINDOW: usize = 8;
/// Clients whose requests are remembered; the one that has not written for longest is forgotten first. With the longest
/// names and full windows some 4 MiB, on every node and in every snapshot.
pub const MAX_CLIENTS: usize = 10_000;
/// Names of forgotten clients that are put aside together: sorted once, and dropped at once when they are the oldest.
pub const FORGOTTEN_GENERATION: usize = 1 << 18;
/// So many generations are kept beside the youngest: the latest million of names that were forgotten at least, so that a
/// name a second is known for eleven days.
pub const FORGOTTEN_GENERATIONS: usize = 4;
/// Names that raft-ctl keeps, for as many calls side by side, of which a restore takes [`RESTORE_WRITERS`].
pub const MAX_KEPT_NAMES: usize = 256;
/// How long raft-ctl asks for the cluster's version before it takes a name without.
pub const NAME_PATIENCE: Duration = Duration::from_secs(1);
/// How long `raft-ctl status` waits for a node, unless told otherwise: one that is well answers in a thousandth of that.
pub const STATUS_PATIENCE: Duration = Duration::from_secs(1);
/// About how many bytes of a view go into one chunk: read between two writes, some hundred microseconds.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Writes that a restore has under way: enough to fill the disk's batches.
pub const RESTORE_WRITERS: usize = 64;
/// Changes that a node keeps for those who watch, and their bytes: at 50,000 writes a second of 256 bytes a watcher may be
/// more than a second behind, and a connection that broke is made anew in less.
pub const MAX_CHANGES: usize = 100_000;
/// Bytes of keys and values that these changes may take together, beyond which the oldest go first.
pub const MAX_CHANGES_BYTES: usize = 32 << 20;
/// Changes that are looked at for watchers in one go, between two inputs of the machine: some tens of microseconds.
pub const WATCH_LOOK: usize = 1000;
/// Bytes of events that a watcher is given at a time. It keeps three pages at most, beside what the kernel does.
pub const WATCH_PAGE_BYTES: usize = 16 << 10;
/// Pages end at multiples of so many versions, so that watchers that begin at different places soon share them.
pub const WATCH_BLOCK: u64 = 256;
/// Bytes of pages that are kept for others who watch the same: those whom their turns bring there within a second or two.
pub const WATCH_PAGES_BYTES: usize = 8 << 20;
/// What the kernel may keep for a watcher that does not read; it counts double. Enough for half a megabyte a second over
/// a tenth of a second's round trip, and 128 MiB for a thousand of them.
pub const WATCH_SEND_BUFFER: usize = 64 << 10;
/// Watchers that get their turn in one go, between two inputs of the machine: half a millisecond's work.
pub const WATCH_TURNS: usize = 32;
/// After this no more of them get theirs: what they want to hear has to be searched for.
pub const WATCH_SLICE: Duration = Duration::from_micros(500);
/// Telling changes may take one part in so many of a node's time: writes go before.
pub const WATCH_SHARE: u32 = 8;
/// After a rest it may take so much at once: some hundreds of pages.
pub const WATCH_BURST: Duration = Duration::from_millis(5);
/// What telling has cost beyond its share is made up for by a pause; but no more than this, which only a process that stood still
/// seems to have spent.
pub const WATCH_DEBT: Duration = Duration::from_millis(50);
/// A pause between two looks whether watchers have taken what they were given: in that time they read what is under way.
pub const WATCH_PAUSE: Duration = Duration::from_millis(20);
/// A pause between two looks for those that are to get a sign of life.
pub const WATCH_REVIEW: Duration = Duration::from_secs(2);
/// Watchers of a node at a time; each takes a connection, and some two hundred kilobytes at most.
pub const MAX_WATCHERS: usize = 1000;
/// A watcher that has nothing to tell says so this often: well within what proxies take for a dead connection.
pub const WATCH_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A watching client that has heard nothing for so long looks elsewhere: two signs of life are missing.
pub const WATCH_SILENCE: Duration = Duration::from_secs(40);
/// Longest line of a stream of events that a client takes: a change of the largest key and value, all of whose characters
/// JSON writes as `\u0000`.
pub const MAX_EVENT_LINE: usize = 8 * (MAX_VALUE_BYTES + MAX_KEY_BYTES);

/// How long a request may wait for a leader and for its outcome, unless it says otherwise.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest a request may ask to wait: in less no disk and no majority answers.
pub const MIN_REQUEST_TIMEOUT: Duration = Duration::from_millis(1);
/// How much later than asked a request is answered that is out of time because its answer waits for the disk.
pub const ANSWER_GRACE: Duration = Duration::from_millis(100);
/// The longest a request may ask to wait.
pub const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests a node works on at a time; further ones are refused, so that a stalled cluster does not pile them up.
pub const MAX_REQUESTS: usize = 10_000;

/// Bytes of entries that may wait for a majority; further writes are refused, so that followers whose disks stand still do not
/// fill the leader's memory.
pub const MAX_UNCOMMITTED_BYTES: u64 = 256 << 20;

/// Inputs that may wait for a machine; whoever brings more waits, too.
pub const DRIVER_QUEUE: usize = 4096;
/// Inputs stepped between two looks at the disk: large enough to share a write, small enough to keep it busy.
pub const DRIVER_BATCH: usize = 1024;
/// Bytes that may wait for one slow peer before messages to it are dropped.
pub const LINK_QUEUE_BYTES: usize = 32 << 20;
/// The largest frame taken from a peer: an append of [`MAX_APPEND_BYTES`], passed by one entry of the largest value
/// and condition, and room for what surrounds them.
pub const MAX_FRAME_BYTES: usize = MAX_APPEND_BYTES + 2 * MAX_VALUE_BYTES + (256 << 10);
/// How long to wait before dialling a lost peer again: doubled each time, within these limits. A peer that comes back is
/// reached within about an election timeout.
pub const RECONNECT: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_millis(200);
/// A link that has stood so long was not refused: that it ends is news, and it is dialled again at once.
pub const LINK_STANDS: Duration = Duration::from_secs(1);
/// A pause between two times that a node asks to join, or looks whether its cluster has a number yet.
pub const JOIN_PAUSE: Duration = Duration::from_millis(100);
/// A node that waits to be let in says for what this often: whoever looks at its log finds out, and the log stays short.
pub const JOIN_REMINDER: Duration = Duration::from_secs(10);
/// How long a node that was removed is still heard and spoken to: as long as it may take to commit that. A leader that is
/// removed hands over in this time.
pub const LEAVE_PAUSE: Duration = Duration::from_secs(2);
/// A peer answers a dial on a local network well within this.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Names of refused nodes that are remembered, so that each refusal is said once in the log, although who is refused tries
/// again and again.
pub const MAX_TURNED_AWAY: usize = 1000;
/// Starts of a node that it tells of unasked, in the head of a request (4 KiB of its 16): a peer that missed no more needs not
/// ask, and an older version, which does not ask, can be met.
pub const MAX_STARTS: usize = 256;
/// Most names of nodes that one remembers: far more than a cluster has, and a bound for who makes up names.
pub const MAX_KNOWN: usize = 1000;

/// Connections of clients a node holds at a time, if the system allows it as many files; each costs some tens of
/// kilobytes at most.
pub const MAX_CONNECTIONS: usize = 12_000;
/// Connections beyond those, for peers and for whoever asks how the node is; the latest that came, a quarter of all where
/// there are few files. A crowd that brings ten thousand a second leaves each some milliseconds to say what it wants.
pub const DOORSTEP: usize = 64;
/// Time for somebody there to say so.
pub const DOORSTEP_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for a request's head to arrive, counted from the end of the answer before: an idle connection is closed, too.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for a request's body to arrive: 1 MiB over a slow line.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a client may take nothing of an answer before it is hung up on: what it does not read, a node must keep.
pub const CLIENT_STALL: Duration = Duration::from_secs(20);
/// The same for a peer. A link that was cut is dialled anew after this, instead of waiting for TCP's next repetition,
/// which comes later each time.
pub const PEER_STALL: Duration = Duration::from_secs(1);
/// Most bytes of a request's head.
pub const MAX_HEADER_BYTES: usize = 16 << 10;
/// Most bytes of a request's body: a value of [`MAX_VALUE_BYTES`] all of whose characters JSON writes as `\u0000`, a
/// key, and a little.
pub const MAX_BODY_BYTES: usize = 6 * (MAX_VALUE_BYTES + MAX_KEY_BYTES) + 1024;
/// A body of no more bytes than this is a small one: it fits into the buffer that a connection has for heads.
pub const SMALL_BODY: usize = MAX_HEADER_BYTES;
/// Most bytes that the larger bodies of requests in hand may take together.
pub const MAX_BODY_MEMORY: usize = 128 << 20;
/// Most bytes that large answers on their way may take together.
pub const MAX_ANSWER_MEMORY: usize = 128 << 20;
/// An answer of more bytes than this is a large one.
pub const LARGE_ANSWER: usize = 64 << 10;
/// Bytes of the store that `/debug` shows.
pub const MAX_DEBUG_BYTES: usize = 1 << 20;
/// A pause before accepting again when there are no file descriptors left.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that may wait to be accepted, if the system allows it (net.core.somaxconn): a thousand clients that come at
/// once are no attack.
pub const BACKLOG: i32 = 4096;
/// Files that are not for connections: logs, links, a segment on its way, the runtime's own.
pub const RESERVED_FILES: usize = 64;
/// How long a stopping server finishes what is in hand.
pub const DRAIN: Duration = Duration::from_secs(5);
/// Most bytes a client takes for an answer: a page of a listing, all of whose characters JSON writes as `\u0000`.
pub const MAX_ANSWER_BYTES: usize = 8 * (MAX_LIST_BYTES + MAX_VALUE_BYTES);

/// Connections that `tcp-echo serve` holds, unless told otherwise.
pub const ECHO_MAX_CONNECTIONS: usize = 10_000;
/// Bytes that one read of an echo connection takes: large messages in few system calls, and still within a core's cache.
pub const ECHO_READ: usize = 128 << 10;
/// Bytes that all connections of an echo server hold together: frames that are not whole, echoes that are not taken.
pub const MAX_HELD: usize = 256 << 20;
/// How long a client that was refused may take to read why.
pub const LINGER: Duration = Duration::from_secs(1);
/// Refused clients that are told why at a time; further ones are hung up on without a word.
pub const MAX_REFUSALS: usize = 64;
/// Chunks of stdin read ahead of the network.
pub const STDIN_QUEUE: usize = 4;
/// Connections that a load generator makes at a time: fewer than a server may keep waiting.
pub const BENCH_CONNECTING: usize = 128;
/// After an error a client of a load generator waits so long, lest it measure how fast errors are.
pub const BENCH_PAUSE: Duration = Duration::from_millis(20);

/// Datagrams taken with one system call: enough to spread its cost, few enough that they stay in the cache.
pub const UDP_RECEIVE_BATCH: usize = 64;
/// Datagrams sent with one system call, for the same reason.
pub const UDP_SEND_BATCH: usize = 64;
/// Most bytes of payload a datagram can have: 65,535 less the header of UDP, over IPv6.
pub const UDP_MAX_DATAGRAM: usize = 65_527;
/// Most bytes of a machine's message over UDP: what an Ethernet frame has room for beside the headers of IPv4 and UDP. A longer
/// datagram travels in fragments, and is lost with each of them.
pub const MAX_MESSAGE_DATAGRAM: usize = 1_472;
/// Bytes the kernel is asked to keep for a busy listener: 20 ms of small datagrams at 500,000 a second.
pub const UDP_RCVBUF: usize = 4 << 20;
/// The largest such buffer that may be asked for; the kernel counts in signed 32 bits, and doubles.
pub const UDP_MAX_RCVBUF: usize = 1 << 30;
/// Lines that may wait for a slow disk or reader: a second at 300,000 datagrams a second.
pub const UDP_QUEUE_BYTES: usize = 64 << 20;
/// Bytes of lines after which a busy listener hands them to the thread that writes, which costs a switch between the two.
pub const UDP_CHUNK_BYTES: usize = 64 << 10;
/// How long a listener that is to stop goes on with what has arrived already: more than any buffer holds, unless a flood
/// goes on.
pub const UDP_DRAIN: Duration = Duration::from_millis(500);
/// Replies a source may have a second: plenty for a person, little for a flood in another's name.
pub const UDP_REPLY_RATE: u32 = 100;
/// Places in which the sources of replies are counted.
pub const UDP_REPLY_BUCKETS: usize = 4096;

/// Jobs that wait for a worker of a pool: enough that a worker finds its next job at once, few enough that hardly more
/// input is taken than can be worked on.
pub const QUEUE_PER_WORKER: usize = 2;
/// Results of a pool that may wait for an earlier one: one slow job among quick ones holds nobody up for long, and memory
/// stays bounded.
pub const WINDOW_PER_WORKER: usize = 16;
/// Threads of a pool a processor: some start processes, others hear what those print.
pub const THREADS_PER_PROCESSOR: usize = 4;
/// Most workers of a pool: each has a process and a handful of files.
pub const MAX_WORKERS: usize = 4096;
/// Most jobs a pool's queue or reorder window may be asked to hold: a round number that fits the memory of any machine.
pub const MAX_QUEUE: usize = 1 << 20;
/// Longest job, in bytes: eight times what Linux takes as one argument of a command.
pub const MAX_JOB_BYTES: usize = 1 << 20;
/// Bytes of one stream of a job's output that are kept in memory; more goes to a file.
pub const MAX_OUTPUT_MEMORY: usize = 1 << 20;
/// The longest pause before a job is tried again: whoever waits for something that is down finds it within a minute.
pub const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// A pause between two looks at whether a process group that was told to end is gone.
pub const GROUP_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause: a look reads all of `/proc`.
pub const MAX_GROUP_PAUSE: Duration = Duration::from_millis(160);
/// A pause between two looks at whether a job was stopped because it wants the terminal: soon for whoever watches, and a
/// system call a job and second.
pub const TERMINAL_PAUSE: Duration = Duration::from_secs(1);
/// How long a job that finds no place on the machine tries again while no other one runs whose end would make one: others'
/// processes end, too.
pub const START_PATIENCE: Duration = Duration::from_secs(5);
/// The pauses between its tries.
pub const START_PAUSE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_millis(500);
/// Longest line of a job log: the quoted form of a command whose arguments fill what Linux takes, and its columns.
pub const MAX_JOBLOG_LINE: usize = 16 << 20;
