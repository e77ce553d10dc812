//! `udp-listen` and `udp-send`.
