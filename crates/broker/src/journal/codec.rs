//! Turns records into bytes and back.
//!
//! A record is the length of what follows as `u32`, a byte for its kind, and its fields in the order of [`Record`].
//! Numbers are LEB128, except where noted; texts and byte strings have their length before them; options have a byte 0 or 1 before them. Fixed numbers are little-endian.
//! What isn't exactly what [`encode`] writes is refused; a kind, once given, keeps its meaning for all versions of the files.

use std::sync::Arc;

use midge_core::topic::TopicName;
use midge_engine::message::{Message, Publication};
use midge_engine::record::{MessageKey, Record, SessionKey, WillRecord};
use midge_engine::tree::SubscriptionOptions;
use midge_mqtt::{PacketId, QoS, SubscriptionId};

const STARTED: u8 = 1;
const ONLINE: u8 = 2;
const OFFLINE: u8 = 3;
const WILL: u8 = 4;
const ENDED: u8 = 5;
const SUBSCRIBED: u8 = 6;
const UNSUBSCRIBED: u8 = 7;
const MESSAGE: u8 = 8;
const QUEUED: u8 = 9;
const SENT: u8 = 10;
const RELEASED: u8 = 11;
const DONE: u8 = 12;
const RECEIVED: u8 = 13;
const FORGOTTEN: u8 = 14;
const RETAINED: u8 = 15;

/// The bytes before a record that hold its length.
const LENGTH: usize = 4;

const NO_LOCAL: u8 = 4;
const RETAIN_AS_PUBLISHED: u8 = 8;
const WITH_IDENTIFIER: u8 = 16;
/// The RETAIN flag beside a QoS.
const RETAIN: u8 = 4;

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Writes a record behind what there is.
pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; LENGTH]);
    encode_body(record, out);
    let length = u32::try_from(out.len() - start - LENGTH).expect("what fits into an MQTT packet has a length of 28 bits");
    if let Some(place) = out.get_mut(start..start + LENGTH) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Splits off the first record, its length included, without looking into it.
pub(super) fn split<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = bytes.first_chunk::<LENGTH>().ok_or(Malformed)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Malformed)?;
    let (record, rest) = bytes.split_at_checked(length.saturating_add(LENGTH)).ok_or(Malformed)?;
    *bytes = rest;
    Ok(record)
}

/// Reads a record that [`split`] has found.
pub(super) fn decode(record: &[u8]) -> Result<Record, Malformed> {
    let (_, body) = record.split_first_chunk::<LENGTH>().ok_or(Malformed)?;
    let (&kind, rest) = body.split_first().ok_or(Malformed)?;
    let mut fields = Fields { rest };
    let record = fields.record(kind)?;
    if fields.rest.is_empty() { Ok(record) } else { Err(Malformed) }
}

/// Returns whether a record that [`split`] has found is about a message that waits for sessions.
pub(super) fn is_of_queue(record: &[u8]) -> bool {
    matches!(record.get(LENGTH), Some(&(MESSAGE | QUEUED | SENT | RELEASED)))
}

fn encode_body(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Started { session, client_id } => {
            head(out, STARTED, *session);
            bytes(out, client_id.as_bytes());
        }
        Record::Online { session, username, expiry } => {
            head(out, ONLINE, *session);
            option(out, username.as_ref(), |out, username| bytes(out, username.as_bytes()));
            number(out, u64::from(*expiry));
        }
        Record::Offline { session, expiry, since } => {
            head(out, OFFLINE, *session);
            number(out, u64::from(*expiry));
            number(out, *since);
        }
        Record::Will { session, will } => {
            head(out, WILL, *session);
            option(out, will.as_deref(), will_record);
        }
        Record::Ended { session } => head(out, ENDED, *session),
        Record::Subscribed { session, filter, options } => {
            head(out, SUBSCRIBED, *session);
            bytes(out, filter.as_bytes());
            subscription_options(out, *options);
        }
        Record::Unsubscribed { session, filter } => {
            head(out, UNSUBSCRIBED, *session);
            bytes(out, filter.as_bytes());
        }
        Record::Message { key, message: stored, expires } => {
            out.push(MESSAGE);
            number(out, key.0);
            message(out, stored);
            option(out, *expires, number);
        }
        Record::Retained { topic, stamp, message: stored, expires } => {
            out.push(RETAINED);
            bytes(out, topic.as_bytes());
            number(out, *stamp);
            option(out, stored.as_deref(), message);
            option(out, *expires, number);
        }
        Record::Queued { .. }
        | Record::Sent { .. }
        | Record::Released { .. }
        | Record::Done { .. }
        | Record::Received { .. }
        | Record::Forgotten { .. } => encode_delivery(record, out),
    }
}

/// Writes what a delivery goes through.
fn encode_delivery(record: &Record, out: &mut Vec<u8>) {
    match record {
        Record::Queued { session, order, message, qos, retain, identifiers, shared, packet_id } => {
            head(out, QUEUED, *session);
            number(out, *order);
            number(out, message.0);
            out.push(qos.value() | if *retain { RETAIN } else { 0 });
            number(out, identifiers.len() as u64);
            identifiers.iter().for_each(|identifier| number(out, u64::from(identifier.value())));
            option(out, shared.as_ref(), |out, shared| bytes(out, shared.as_bytes()));
            option(out, *packet_id, packet);
        }
        Record::Sent { session, order, packet_id } => {
            head(out, SENT, *session);
            number(out, *order);
            packet(out, *packet_id);
        }
        Record::Released { session, order, packet_id } => {
            head(out, RELEASED, *session);
            number(out, *order);
            packet(out, *packet_id);
        }
        Record::Done { session, order } => {
            head(out, DONE, *session);
            number(out, *order);
        }
        Record::Received { session, packet_id } => {
            head(out, RECEIVED, *session);
            packet(out, *packet_id);
        }
        Record::Forgotten { session, packet_id } => {
            head(out, FORGOTTEN, *session);
            packet(out, *packet_id);
        }
        _ => {}
    }
}

fn head(out: &mut Vec<u8>, kind: u8, session: SessionKey) {
    out.push(kind);
    number(out, session.0);
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn option<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        write(out, value);
    }
}

fn packet(out: &mut Vec<u8>, packet_id: PacketId) {
    out.extend(packet_id.value().to_le_bytes());
}

fn subscription_options(out: &mut Vec<u8>, options: SubscriptionOptions) {
    let flag = |is, bit| if is { bit } else { 0 };
    let flags = flag(options.no_local(), NO_LOCAL)
        | flag(options.retain_as_published(), RETAIN_AS_PUBLISHED)
        | flag(options.identifier().is_some(), WITH_IDENTIFIER);
    out.push(options.qos().value() | flags);
    if let Some(identifier) = options.identifier() {
        number(out, u64::from(identifier.value()));
    }
}

fn will_record(out: &mut Vec<u8>, will: &WillRecord) {
    message(out, &will.message);
    option(out, will.expiry.map(u64::from), number);
    number(out, u64::from(will.delay));
}

/// Writes a message without its own expiry, which is on a clock that ends with the process.
fn message(out: &mut Vec<u8>, message: &Message) {
    let view = message.view();
    out.push(view.qos.value() | if view.retain { RETAIN } else { 0 });
    number(out, view.stamp);
    bytes(out, view.topic.as_str().as_bytes());
    bytes(out, view.properties);
    bytes(out, view.payload);
}

/// The rest of a record.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn record(&mut self, kind: u8) -> Result<Record, Malformed> {
        match kind {
            MESSAGE => {
                let key = MessageKey(self.number()?);
                return Ok(Record::Message { key, message: self.message()?, expires: self.option(Self::number)? });
            }
            RETAINED => {
                let (topic, stamp) = (self.text()?.into(), self.number()?);
                let message = self.option(Self::message)?;
                return Ok(Record::Retained { topic, stamp, message, expires: self.option(Self::number)? });
            }
            _ => {}
        }
        let session = SessionKey(self.number()?);
        Ok(match kind {
            STARTED => Record::Started { session, client_id: self.text()?.into() },
            ONLINE => {
                let username = self.option(|fields| fields.text().map(Arc::from))?;
                Record::Online { session, username, expiry: self.small()? }
            }
            OFFLINE => Record::Offline { session, expiry: self.small()?, since: self.number()? },
            WILL => Record::Will { session, will: self.option(|fields| fields.will().map(Arc::new))? },
            ENDED => Record::Ended { session },
            SUBSCRIBED => {
                let filter = self.text()?.into();
                Record::Subscribed { session, filter, options: self.subscription_options()? }
            }
            UNSUBSCRIBED => Record::Unsubscribed { session, filter: self.text()?.into() },
            QUEUED => self.queued(session)?,
            SENT => Record::Sent { session, order: self.number()?, packet_id: self.packet()? },
            RELEASED => Record::Released { session, order: self.number()?, packet_id: self.packet()? },
            DONE => Record::Done { session, order: self.number()? },
            RECEIVED => Record::Received { session, packet_id: self.packet()? },
            FORGOTTEN => Record::Forgotten { session, packet_id: self.packet()? },
            _ => return Err(Malformed),
        })
    }

    fn queued(&mut self, session: SessionKey) -> Result<Record, Malformed> {
        let (order, message) = (self.number()?, MessageKey(self.number()?));
        let (qos, retain) = self.qos()?;
        let count = self.length()?;
        let identifiers = (0..count).map(|_| self.identifier()).collect::<Result<Box<[_]>, _>>()?;
        let shared = self.option(|fields| fields.text().map(Arc::from))?;
        let packet_id = self.option(Self::packet)?;
        Ok(Record::Queued { session, order, message, qos, retain, identifiers, shared, packet_id })
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(byte)
    }

    /// Reads a number that is written as shortly as it can be.
    fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                return Err(Malformed);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn small(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.number()?).map_err(|_| Malformed)
    }

    /// Reads the number of something that is at least a byte long.
    fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.number()?).ok().filter(|&length| length <= self.rest.len()).ok_or(Malformed)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length()?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Malformed>) -> Result<Option<T>, Malformed> {
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(Malformed),
        }
    }

    fn qos(&mut self) -> Result<(QoS, bool), Malformed> {
        let byte = self.byte()?;
        Ok((QoS::new(byte & !RETAIN).ok_or(Malformed)?, byte & RETAIN != 0))
    }

    fn packet(&mut self) -> Result<PacketId, Malformed> {
        let (low, high) = (self.byte()?, self.byte()?);
        PacketId::new(u16::from_le_bytes([low, high])).ok_or(Malformed)
    }

    fn identifier(&mut self) -> Result<SubscriptionId, Malformed> {
        SubscriptionId::new(self.small()?).ok_or(Malformed)
    }

    fn subscription_options(&mut self) -> Result<SubscriptionOptions, Malformed> {
        let byte = self.byte()?;
        let qos = QoS::new(byte & !(NO_LOCAL | RETAIN_AS_PUBLISHED | WITH_IDENTIFIER)).ok_or(Malformed)?;
        let mut options = SubscriptionOptions::new(qos);
        if byte & NO_LOCAL != 0 {
            options = options.with_no_local();
        }
        if byte & RETAIN_AS_PUBLISHED != 0 {
            options = options.with_retain_as_published();
        }
        if byte & WITH_IDENTIFIER != 0 {
            options = options.with_identifier(self.identifier()?);
        }
        Ok(options)
    }

    fn will(&mut self) -> Result<WillRecord, Malformed> {
        let message = self.message()?;
        Ok(WillRecord { message, expiry: self.option(Self::small)?, delay: self.small()? })
    }

    fn message(&mut self) -> Result<Arc<Message>, Malformed> {
        let (qos, retain) = self.qos()?;
        let stamp = self.number()?;
        let topic = TopicName::new(self.text()?).map_err(|_| Malformed)?;
        let (properties, payload) = (self.bytes()?, self.bytes()?);
        Ok(Publication { topic, properties, payload, qos, retain, expires: None, stamp }.to_message())
    }
}
