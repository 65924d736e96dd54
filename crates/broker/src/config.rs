//! Reads and checks all that can be set.
