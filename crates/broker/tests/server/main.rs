//! Shows the server to real clients and to raw bytes.
//!
//! * [`clients`]: what Mosquitto's commands see, of all versions of the protocol.
//! * [`bytes`]: packets cut, glued, broken, and where they lead.

mod bytes;
mod clients;
mod support;
