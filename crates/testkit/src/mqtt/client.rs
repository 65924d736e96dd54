//! A blocking MQTT client over a plain socket.
//!
//! Incoming messages are acknowledged and kept while another packet is waited for; everything has a deadline.

use super::packet::{Connect, Message, Packet, Property, Protocol, Value, frame, put_bytes, put_properties};
use crate::wait::Deadline;
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// What came, or didn't, before a deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A packet.
    Packet(Packet),
    /// The server closed or reset the connection.
    Closed,
    /// Nothing.
    Silence,
}

/// How long the methods without an argument for it wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a broker.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    protocol: Protocol,
    buffer: Vec<u8>,
    messages: VecDeque<Message>,
    packet_id: u16,
}

impl RawClient {
    /// Opens a connection to a loopback port and sends nothing.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(port: u16, protocol: Protocol) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, protocol, buffer: Vec::new(), messages: VecDeque::new(), packet_id: 0 })
    }

    /// Connects and returns the code of the CONNACK, whatever it is, with the client.
    ///
    /// # Errors
    /// When the connection ends without a CONNACK.
    pub fn try_connect(port: u16, connect: &Connect) -> Result<(Self, u8)> {
        let mut client = Self::open(port, connect.protocol)?;
        client.send(&connect.encode())?;
        match client.expect("a CONNACK", |packet| matches!(packet, Packet::ConnAck { .. }))? {
            Packet::ConnAck { code, .. } => Ok((client, code)),
            other => bail!("{other:?} instead of a CONNACK"),
        }
    }

    /// Connects and is let in.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn connect(port: u16, connect: &Connect) -> Result<Self> {
        match Self::try_connect(port, connect)? {
            (client, 0) => Ok(client),
            (_, code) => bail!("the broker refused with CONNACK {code}"),
        }
    }

    /// Returns the client's own port, as the broker sees it.
    ///
    /// # Errors
    /// When the operating system can't be asked.
    pub fn local_port(&self) -> Result<u16> {
        Ok(self.stream.local_addr()?.port())
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Returns the next packet; publishes are neither acknowledged nor kept.
    ///
    /// # Errors
    /// When the server sends something that is no packet.
    pub fn receive(&mut self, time: Duration) -> Result<Event> {
        let deadline = Deadline::after(time);
        loop {
            if let Some((packet, length)) = Packet::decode(&self.buffer, self.protocol)? {
                self.buffer.drain(..length);
                return Ok(Event::Packet(packet));
            }
            // A timeout of zero would mean none at all.
            let left = deadline.left().max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 8192];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Event::Closed),
                Ok(length) => self.buffer.extend(&chunk[..length]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut if deadline.is_over() => {
                        return Ok(Event::Silence);
                    }
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Ok(Event::Closed),
                },
            }
        }
    }

    /// Subscribes and returns the SUBACK's codes; the low two bits of `options` are the quality of service.
    ///
    /// # Errors
    /// When the connection ends or no SUBACK comes.
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Result<Vec<u8>> {
        let id = self.next_id();
        let mut body = id.to_be_bytes().to_vec();
        put_properties(&mut body, self.protocol, &[]);
        for (filter, options) in filters {
            put_bytes(&mut body, filter.as_bytes());
            body.push(*options);
        }
        self.send(&frame(0x82, &body))?;
        let wanted = |p: &Packet| matches!(p, Packet::SubAck { packet_id, .. } if *packet_id == id);
        match self.expect("a SUBACK", wanted)? {
            Packet::SubAck { codes, .. } => Ok(codes),
            other => bail!("{other:?} instead of a SUBACK"),
        }
    }

    /// Unsubscribes and returns the UNSUBACK's codes, which only MQTT 5.0 has.
    ///
    /// # Errors
    /// When the connection ends or no UNSUBACK comes.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Result<Vec<u8>> {
        let id = self.next_id();
        let mut body = id.to_be_bytes().to_vec();
        put_properties(&mut body, self.protocol, &[]);
        for filter in filters {
            put_bytes(&mut body, filter.as_bytes());
        }
        self.send(&frame(0xA2, &body))?;
        let wanted = |p: &Packet| matches!(p, Packet::UnsubAck { packet_id, .. } if *packet_id == id);
        match self.expect("an UNSUBACK", wanted)? {
            Packet::UnsubAck { codes, .. } => Ok(codes),
            other => bail!("{other:?} instead of an UNSUBACK"),
        }
    }

    /// Publishes, completes the handshake of its quality of service, and returns the server's code.
    ///
    /// # Errors
    /// When the connection ends or an acknowledgement doesn't come.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, retain: bool) -> Result<u8> {
        let id = self.next_id();
        self.send_publish(topic.as_bytes(), payload, qos, retain, id, &[])?;
        match qos {
            0 => Ok(0),
            1 => self.acknowledged("a PUBACK", id),
            _ => {
                let code = self.acknowledged("a PUBREC", id)?;
                if code >= 0x80 {
                    return Ok(code);
                }
                self.send(&frame(0x62, &id.to_be_bytes()))?;
                self.acknowledged("a PUBCOMP", id)
            }
        }
    }

    /// Sends a PUBLISH and waits for nothing.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send_publish(
        &mut self,
        topic: &[u8],
        payload: &[u8],
        qos: u8,
        retain: bool,
        packet_id: u16,
        properties: &[Property],
    ) -> Result<()> {
        let mut body = Vec::new();
        put_bytes(&mut body, topic);
        if qos > 0 {
            body.extend(packet_id.to_be_bytes());
        }
        put_properties(&mut body, self.protocol, properties);
        body.extend(payload);
        self.send(&frame(0x30 | qos << 1 | u8::from(retain), &body))
    }

    /// Returns the next message, acknowledged, or `None` when none comes in `time`.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn message(&mut self, time: Duration) -> Result<Option<Message>> {
        let deadline = Deadline::after(time);
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(Some(message));
            }
            match self.receive(deadline.left())? {
                Event::Packet(packet) => drop(self.absorb(packet)?),
                Event::Silence => return Ok(None),
                Event::Closed => bail!("the broker closed the connection"),
            }
        }
    }

    /// Pings and waits for the answer.
    ///
    /// # Errors
    /// When it doesn't come in `time`.
    pub fn ping(&mut self, time: Duration) -> Result<()> {
        self.send(&[0xC0, 0])?;
        self.expect_within("a PINGRESP", time, |packet| *packet == Packet::PingResp).map(drop)
    }

    /// Sends an AUTH of MQTT 5.0 with method and data.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn send_auth(&mut self, code: u8, method: &str, data: &[u8]) -> Result<()> {
        let mut body = vec![code];
        let properties = [
            Property(Property::AUTH_METHOD, Value::Bytes(method.into())),
            Property(Property::AUTH_DATA, Value::Bytes(data.into())),
        ];
        put_properties(&mut body, self.protocol, &properties);
        self.send(&frame(0xF0, &body))
    }

    /// Says farewell, so that no will is sent.
    ///
    /// # Errors
    /// When the connection is closed already.
    pub fn disconnect(mut self) -> Result<()> {
        self.send(&[0xE0, 0])
    }

    /// Waits until the broker ends the connection; returns the code of its DISCONNECT if it sent one.
    ///
    /// # Errors
    /// When the connection still stands after `time`.
    pub fn closed(&mut self, time: Duration) -> Result<Option<u8>> {
        let deadline = Deadline::after(time);
        let mut said = None;
        loop {
            match self.receive(deadline.left())? {
                Event::Closed => return Ok(said),
                Event::Silence => bail!("the connection still stands after {time:?}"),
                Event::Packet(Packet::Disconnect { code, .. }) => said = Some(code),
                Event::Packet(_) => {}
            }
        }
    }

    /// Waits for a packet that is `wanted`; messages that come before it are acknowledged and kept.
    ///
    /// # Errors
    /// When another packet comes, the connection ends, or nothing comes in twenty seconds.
    pub fn expect(&mut self, what: &str, wanted: impl Fn(&Packet) -> bool) -> Result<Packet> {
        self.expect_within(what, PATIENCE, wanted)
    }

    fn expect_within(&mut self, what: &str, time: Duration, wanted: impl Fn(&Packet) -> bool) -> Result<Packet> {
        let deadline = Deadline::after(time);
        loop {
            match self.receive(deadline.left())? {
                Event::Packet(packet) if wanted(&packet) => return Ok(packet),
                Event::Packet(packet) => {
                    if let Some(other) = self.absorb(packet)? {
                        bail!("{other:?} instead of {what}");
                    }
                }
                Event::Closed => bail!("the broker closed the connection instead of sending {what}"),
                Event::Silence => bail!("no {what} in {time:?}"),
            }
        }
    }

    fn acknowledged(&mut self, what: &str, id: u16) -> Result<u8> {
        let packet = self.expect(what, |packet| {
            matches!(packet, Packet::PubAck { packet_id, .. } | Packet::PubRec { packet_id, .. }
                | Packet::PubComp { packet_id, .. } if *packet_id == id)
        })?;
        match packet {
            Packet::PubAck { code, .. } | Packet::PubRec { code, .. } | Packet::PubComp { code, .. } => Ok(code),
            other => bail!("{other:?} instead of {what}"),
        }
    }

    /// Keeps and acknowledges what belongs to incoming messages, and returns any other packet.
    fn absorb(&mut self, packet: Packet) -> Result<Option<Packet>> {
        match packet {
            Packet::Publish(message) => {
                let id = message.packet_id.to_be_bytes();
                match message.qos {
                    0 => {}
                    1 => self.send(&frame(0x40, &id)).context("cannot acknowledge")?,
                    _ => self.send(&frame(0x50, &id)).context("cannot acknowledge")?,
                }
                self.messages.push_back(message);
                Ok(None)
            }
            Packet::PubRel { packet_id, .. } => {
                self.send(&frame(0x70, &packet_id.to_be_bytes()))?;
                Ok(None)
            }
            other => Ok(Some(other)),
        }
    }

    fn next_id(&mut self) -> u16 {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.packet_id
    }
}
