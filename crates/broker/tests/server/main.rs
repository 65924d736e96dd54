//! Shows the server to real clients and to raw bytes.
//!
//! * [`clients`]: what Mosquitto's commands see, of all versions of the protocol.
//! * [`bad_peers`]: who wastes, stalls or floods.
//! * [`bytes`]: packets cut, glued, broken, and where they lead.
//! * [`decisions`]: what is decided about clients, at once and later, and what the decision rests on.
//! * [`durability`]: what was acknowledged is there after a crash.
//! * [`limits`]: what happens at each bound.
//! * [`memory`]: what happens where memory is short.
//! * [`sys`]: what the server says of itself.
//! * [`transports`]: TLS, WebSocket, Unix sockets, and proxies.
//! * [`users`]: the broker's own mind at the door.

mod bad_peers;
mod bytes;
mod clients;
mod decisions;
mod durability;
mod limits;
mod memory;
mod support;
mod sys;
mod transports;
mod users;
