//! `tcp-echo`.
