//! Every default time-out and limit, each with its reason.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A leader's heartbeat: several within the shortest election timeout, so that one lost message elects nobody.
pub const HEARTBEAT: Duration = Duration::from_millis(50);
/// Raft §9.3 recommends 150 to 300 ms: failover is quick, and a busy machine does not trigger it.
pub const ELECTION_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(150)..=Duration::from_millis(300);
/// Payload of one append: large enough to amortise a frame, small enough that a heartbeat behind it is not late.
pub const MAX_APPEND_BYTES: usize = 1 << 20;
/// Unanswered appends a follower: covers the round trips of a long link without hoarding memory.
pub const APPEND_WINDOW: usize = 64;

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

/// How long a request may wait for a leader and for its outcome, unless it says otherwise.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest a request may ask to wait.
pub const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests a node works on at a time; further ones are refused, so that a stalled cluster does not pile them up.
pub const MAX_REQUESTS: usize = 10_000;
