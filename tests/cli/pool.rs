//! `worker-pool`.
