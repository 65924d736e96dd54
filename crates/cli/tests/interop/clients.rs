//! Clients that nobody here wrote work with a server that nobody configured.
