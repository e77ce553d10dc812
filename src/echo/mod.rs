//! Echo over TCP: a server, a client, a load generator.
