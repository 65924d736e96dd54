//! Carries bytes between sockets and the engine.
