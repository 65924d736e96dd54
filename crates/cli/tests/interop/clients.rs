//! Clients of others, with a server that nobody configured.
