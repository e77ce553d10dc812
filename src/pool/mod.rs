//! Bounded concurrency: N workers, a bounded queue, results in either order.
