//! Runs the real `midge` over real stores.
//!
//! Each module has its own reason:
//! `session` is what a user sees, over both stores; `schema` is what stands in Redis afterwards;
//! `hot` is how topics are ranked; `passwords` is where a password may and may not appear; `trouble` is a store that is away, locked, huge or wrong.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[path = "main/place.rs"]
mod place;
#[path = "main/serving.rs"]
mod serving;

#[path = "main/hot.rs"]
mod hot;
#[path = "main/passwords.rs"]
mod passwords;
#[path = "main/schema.rs"]
mod schema;
#[path = "main/serve.rs"]
mod serve;
#[path = "main/session.rs"]
mod session;
#[path = "main/trouble.rs"]
mod trouble;
