//! Which server is the home of an id, and which is its deputy.
