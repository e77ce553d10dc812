//! Datagrams: received in batches with the kernel's own time and drop counter, sent at a pace.
