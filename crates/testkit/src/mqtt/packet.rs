//! MQTT packets of all three versions as a client sees them.
//!
//! Encoding is permissive: a test may send what the standard forbids.

use anyhow::{Context, Result, bail};

/// The protocol's versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.
    V3_1,
    /// MQTT 3.1.1.
    V3_1_1,
    /// MQTT 5.0.
    V5,
}

/// A property of MQTT 5.0: its identifier and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property(pub u8, pub Value);

impl Property {
    /// Authentication Method.
    pub const AUTH_METHOD: u8 = 0x15;
    /// Authentication Data.
    pub const AUTH_DATA: u8 = 0x16;
    /// Reason String.
    pub const REASON: u8 = 0x1F;
    /// Session Expiry Interval.
    pub const SESSION_EXPIRY: u8 = 0x11;
}

/// A property's value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the standard names them so")]
pub enum Value {
    Byte(u8),
    TwoBytes(u16),
    FourBytes(u32),
    Variable(u32),
    /// A text or binary data.
    Bytes(Vec<u8>),
    Pair(Vec<u8>, Vec<u8>),
}

/// A will message.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the standard names them so")]
pub struct Will {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<Property>,
}

/// What a CONNECT says.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the standard names them so")]
pub struct Connect {
    pub protocol: Protocol,
    pub client_id: Vec<u8>,
    pub clean: bool,
    pub keep_alive: u16,
    pub username: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub will: Option<Will>,
    pub properties: Vec<Property>,
}

impl Connect {
    /// Returns a CONNECT with a clean session, a minute of keep alive and no login.
    #[must_use]
    pub fn new(protocol: Protocol, client_id: &str) -> Self {
        Self {
            protocol,
            client_id: client_id.into(),
            clean: true,
            keep_alive: 60,
            username: None,
            password: None,
            will: None,
            properties: Vec::new(),
        }
    }

    /// Adds user name and password.
    #[must_use]
    pub fn login(mut self, username: impl Into<Vec<u8>>, password: impl Into<Vec<u8>>) -> Self {
        self.username = Some(username.into());
        self.password = Some(password.into());
        self
    }

    /// Asks to keep the session: for MQTT 5.0 an hour long.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.clean = false;
        if self.protocol == Protocol::V5 {
            self.properties.push(Property(Property::SESSION_EXPIRY, Value::FourBytes(3600)));
        }
        self
    }

    /// Adds a will.
    #[must_use]
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// Returns the packet's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (name, level): (&[u8], u8) = match self.protocol {
            Protocol::V3_1 => (b"MQIsdp", 3),
            Protocol::V3_1_1 => (b"MQTT", 4),
            Protocol::V5 => (b"MQTT", 5),
        };
        let mut flags = u8::from(self.clean) << 1;
        flags |= u8::from(self.username.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        if let Some(will) = &self.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        let mut body = Vec::new();
        put_bytes(&mut body, name);
        body.extend([level, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        put_properties(&mut body, self.protocol, &self.properties);
        put_bytes(&mut body, &self.client_id);
        if let Some(will) = &self.will {
            put_properties(&mut body, self.protocol, &will.properties);
            put_bytes(&mut body, &will.topic);
            put_bytes(&mut body, &will.payload);
        }
        for text in [&self.username, &self.password].into_iter().flatten() {
            put_bytes(&mut body, text);
        }
        frame(0x10, &body)
    }
}

/// A PUBLISH that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the standard names them so")]
pub struct Message {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub packet_id: u16,
    pub properties: Vec<Property>,
}

impl Message {
    /// Returns the topic name and payload as text, for comparing.
    #[must_use]
    pub fn text(&self) -> (String, String) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&self.topic), text(&self.payload))
    }
}

/// A packet that a server sends; codes are those of the client's protocol version, 0 where it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the standard names them so")]
pub enum Packet {
    ConnAck { session_present: bool, code: u8, properties: Vec<Property> },
    Publish(Message),
    PubAck { packet_id: u16, code: u8 },
    PubRec { packet_id: u16, code: u8 },
    PubRel { packet_id: u16, code: u8 },
    PubComp { packet_id: u16, code: u8 },
    SubAck { packet_id: u16, codes: Vec<u8> },
    UnsubAck { packet_id: u16, codes: Vec<u8> },
    PingResp,
    Disconnect { code: u8, properties: Vec<Property> },
    Auth { code: u8, properties: Vec<Property> },
}

impl Packet {
    /// Returns the first packet in `bytes` and its length, or `None` while it isn't complete.
    pub(crate) fn decode(bytes: &[u8], protocol: Protocol) -> Result<Option<(Self, usize)>> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let mut reader = Reader(&bytes[1..]);
        let length = match reader.variable() {
            Ok(length) => usize::try_from(length)?,
            Err(_) if bytes.len() < 5 => return Ok(None),
            Err(error) => return Err(error),
        };
        if reader.0.len() < length {
            return Ok(None);
        }
        let total = bytes.len() - reader.0.len() + length;
        let body = Reader(&reader.0[..length]);
        let packet =
            Self::decode_body(first, body, protocol).with_context(|| format!("the server sent {:02x?}", &bytes[..total]))?;
        Ok(Some((packet, total)))
    }

    fn decode_body(first: u8, mut body: Reader<'_>, protocol: Protocol) -> Result<Self> {
        let v5 = protocol == Protocol::V5;
        Ok(match first >> 4 {
            2 => Self::ConnAck { session_present: body.byte()? & 1 == 1, code: body.byte()?, properties: body.properties_if(v5)? },
            3 => Self::Publish(Message {
                topic: body.bytes()?,
                qos: first >> 1 & 3,
                retain: first & 1 == 1,
                dup: first & 8 == 8,
                packet_id: if first & 6 == 0 { 0 } else { body.two()? },
                properties: body.properties_if(v5)?,
                payload: body.0.to_vec(),
            }),
            4 => Self::PubAck { packet_id: body.two()?, code: body.code() },
            5 => Self::PubRec { packet_id: body.two()?, code: body.code() },
            6 => Self::PubRel { packet_id: body.two()?, code: body.code() },
            7 => Self::PubComp { packet_id: body.two()?, code: body.code() },
            kind @ (9 | 11) => {
                let packet_id = body.two()?;
                body.properties_if(v5)?;
                let codes = body.0.to_vec();
                if kind == 9 { Self::SubAck { packet_id, codes } } else { Self::UnsubAck { packet_id, codes } }
            }
            13 => Self::PingResp,
            14 => Self::Disconnect { code: body.code(), properties: body.properties_if(v5)? },
            15 => Self::Auth { code: body.code(), properties: body.properties_if(v5)? },
            kind => bail!("packet type {kind} is not for clients"),
        })
    }
}

/// Puts a fixed header before a body.
pub(crate) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    put_variable(&mut packet, body.len());
    packet.extend(body);
    packet
}

/// Appends a length of two bytes and the bytes, cut to 65,535.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(&bytes[..usize::from(length)]);
}

/// Appends the properties where the protocol has any.
pub(crate) fn put_properties(out: &mut Vec<u8>, protocol: Protocol, properties: &[Property]) {
    if protocol != Protocol::V5 {
        return;
    }
    let mut body = Vec::new();
    for Property(id, value) in properties {
        body.push(*id);
        match value {
            Value::Byte(byte) => body.push(*byte),
            Value::TwoBytes(number) => body.extend(number.to_be_bytes()),
            Value::FourBytes(number) => body.extend(number.to_be_bytes()),
            Value::Variable(number) => put_variable(&mut body, *number as usize),
            Value::Bytes(bytes) => put_bytes(&mut body, bytes),
            Value::Pair(name, value) => {
                put_bytes(&mut body, name);
                put_bytes(&mut body, value);
            }
        }
    }
    put_variable(out, body.len());
    out.extend(body);
}

fn put_variable(out: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = u8::try_from(number & 0x7F).unwrap_or(0);
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(length).context("ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn two(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn four(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        let length = self.two()?;
        Ok(self.take(usize::from(length))?.to_vec())
    }

    /// Returns the reason code, which a packet may leave out when it is 0.
    fn code(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    fn variable(&mut self) -> Result<u32> {
        let mut number = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        bail!("a length has more than four bytes")
    }

    fn properties_if(&mut self, v5: bool) -> Result<Vec<Property>> {
        if !v5 || self.0.is_empty() {
            return Ok(Vec::new());
        }
        let length = self.variable()?;
        let mut inner = Reader(self.take(usize::try_from(length)?)?);
        let mut properties = Vec::new();
        while !inner.0.is_empty() {
            let id = inner.byte()?;
            properties.push(Property(id, inner.value(id)?));
        }
        Ok(properties)
    }

    fn value(&mut self, id: u8) -> Result<Value> {
        // The types of the table in MQTT 5.0 section 2.2.2.2.
        Ok(match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Value::Byte(self.byte()?),
            0x13 | 0x21 | 0x22 | 0x23 => Value::TwoBytes(self.two()?),
            0x02 | 0x11 | 0x18 | 0x27 => Value::FourBytes(self.four()?),
            0x0B => Value::Variable(self.variable()?),
            0x26 => Value::Pair(self.bytes()?, self.bytes()?),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => Value::Bytes(self.bytes()?),
            _ => bail!("property {id:#04x} doesn't exist"),
        })
    }
}
