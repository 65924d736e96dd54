//! Runs the real `midge` over real stores.
//!
//! Each module has its own reason:
//! `session` is what a user sees, over all stores; `schema` is what stands in Redis afterwards;
//! `clients` is who is online; `hot` is how topics are ranked; `pushing` is what becomes of pushes;
//! `config` is what is said about a configuration; `serve` is a server that runs, or why it doesn't;
//! `bench` is the load as it is typed; `live` is what the command does to a running server's clients;
//! `passwords` is where a password may and may not appear; `trouble` is a store that is away, locked, huge or wrong.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

#[path = "main/place.rs"]
mod place;
#[path = "main/running.rs"]
mod running;
#[path = "main/serving.rs"]
mod serving;

#[path = "main/bench.rs"]
mod bench;
#[path = "main/clients.rs"]
mod clients;
#[path = "main/config.rs"]
mod config;
#[path = "main/hot.rs"]
mod hot;
#[path = "main/live.rs"]
mod live;
#[path = "main/passwords.rs"]
mod passwords;
#[path = "main/pushing.rs"]
mod pushing;
#[path = "main/schema.rs"]
mod schema;
#[path = "main/serve.rs"]
mod serve;
#[path = "main/session.rs"]
mod session;
#[path = "main/trouble.rs"]
mod trouble;
