//! The next hop to every server, as an immutable snapshot.
