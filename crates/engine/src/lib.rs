//! Decides who gets a message; no I/O, no clock, no threads.
//!
//! Time is an argument, randomness too: the same inputs give the same outputs.
//! [`tree`] finds the subscriptions that a topic name matches, [`retained`] the retained messages that a topic filter matches; neither has a worst case that a client can choose.
//! [`shard::Shard`] is all sessions and connections of one event loop. A server runs one for each core, each on its own thread, and carries what they tell each other ([`exchange`]).
//!
//! # How a loop drives a shard
//! Once, at the start: [`shard::Shard::new`] with a [`hash::HashKey`] and [`limits::Settings`] that all loops share, [`shard::Shard::join`] with the summaries of all, and, where there is a journal, [`shard::Shard::restore`] with the [`record::State`] that its records amount to.
//!
//! Then, in each turn, with one [`permission::Turn`] that holds the time and who answers for permissions:
//! 1. What was read is decoded and given in: CONNECT to [`shard::Shard::connect`] of the loop that [`exchange::home_of_client`] names, so the socket moves there first; everything else to [`shard::Shard::packet`]; what is no packet to [`shard::Shard::malformed`]; the end of a socket to [`shard::Shard::closed`]. AUTH is the caller's own business, by [`shard::Shard::send`]. From a connection that [`shard::Shard::wants_input`] doesn't want to hear, nothing is read.
//! 2. What other loops sent goes to [`shard::Shard::receive`], one after the other.
//! 3. [`shard::Shard::advance`] lets time pass; it is called again by [`shard::Shard::next_deadline`] at the latest.
//! 4. [`shard::Shard::take_outbox`] gives one batch for each other loop, to be sent with one wake-up.
//! 5. [`shard::Shard::take_records`] gives one batch for the journal, which is all or nothing. When it is on disk, [`shard::Shard::committed`] lets go on what waited: nothing is acknowledged before.
//! 6. [`shard::Shard::next_ready`] names each connection with something to write, once: [`shard::Shard::slices`] are written by one vectored write, and [`shard::Shard::wrote`] is told. If bytes are left, the caller comes back when the socket takes more.
//! 7. [`shard::Shard::next_event`] says which connections to close, behind their last bytes.
//!
//! ```
//! use std::io::IoSlice;
//! use std::time::Duration;
//!
//! use midge_core::time::Now;
//! use midge_engine::exchange::Place;
//! use midge_engine::hash::HashKey;
//! use midge_engine::limits::Settings;
//! use midge_engine::permission::{AllowAll, Turn};
//! use midge_engine::shard::{Connecting, Shard};
//! use midge_mqtt::{Decoded, Packet, Peer, ProtocolVersion, Rules, decode};
//!
//! let mut shard = Shard::new(Place { event_loop: 0, loops: 1 }, Settings::default(), HashKey::new([1, 2]));
//! shard.join(vec![shard.summary()]);
//! let now = Now { monotonic: Duration::ZERO, unix: 1_700_000_000 };
//! let turn = Turn { now, permissions: &AllowAll };
//!
//! // A socket was accepted and read: CONNECT of "c", then PINGREQ.
//! let input = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c\xc0\x00";
//! let Decoded::Packet(Packet::Connect(connect), length) = decode(&Rules::new(Peer::NewClient), input)? else { panic!() };
//! let connecting = Connecting { connect: &connect, client_id: connect.client_id, username: None, properties: &[] };
//! let connection = shard.connect(&connecting, &turn).expect("the client is let in");
//! let rules = Rules::new(Peer::Client(ProtocolVersion::V311));
//! if let Decoded::Packet(packet, _) = decode(&rules, &input[length..])? {
//!     shard.packet(connection, &packet, &turn);
//! }
//! shard.advance(&turn);
//!
//! // At the end of the turn, every connection is written once.
//! while let Some(connection) = shard.next_ready() {
//!     let mut slices = [IoSlice::new(&[]); 16];
//!     let used = shard.slices(connection, &mut slices);
//!     let bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
//!     assert_eq!(bytes, b"\x20\x02\x00\x00\xd0\x00"); // CONNACK, PINGRESP
//!     shard.wrote(connection, bytes.len(), &turn);
//! }
//! # Ok::<(), midge_mqtt::DecodeError>(())
//! ```
//!
//! [`shard::Shard::push`] passes a message of the server's own on to those who are named, subscribed or not; an event says what became of it.
//!
//! # What is promised
//! * **Permission**: nothing is published, subscribed to or delivered that [`permission::Permissions`] doesn't allow at that moment. What waited is asked about again before it is sent.
//! * **Order**: messages of one client to one topic arrive at each session in the order in which they were published, for each QoS; no acknowledgement overtakes another.
//! * **Durability**: with [`limits::Settings::persistence`], nothing is acknowledged before the records it rests on are committed, on all loops concerned.
//! * **Bounds**: each is a setting with a counter and a stated behaviour, in [`limits`].
//! * **Cost**: a message is copied once at most, whoever gets it; QoS 0 to a connected client allocates nothing in steady state. An idle session is a record of at most 96 bytes and its client identifier, its connection one of at most 104 bytes and a timer of 24.

pub mod exchange;
mod frame;
pub mod hash;
pub mod limits;
pub mod memory;
pub mod message;
pub mod permission;
pub mod record;
pub mod retained;
mod session;
pub mod shard;
mod slab;
mod sorted;
mod table;
mod timers;
pub mod tree;
