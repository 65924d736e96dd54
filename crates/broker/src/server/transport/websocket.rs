//! WebSocket, RFC 6455, as MQTT uses it.
//!
//! MQTT's packets have nothing to do with frames [MQTT-6.0.0-2]: payloads are unmasked and passed on as they come, and no frame is ever kept:
//! that is why tungstenite reads and writes the headers here, but not the frames.
//! What goes out has a frame for each packet all the same: Paho for C waits for the socket with the second packet of a frame in its buffer.

mod upgrade;

use std::io::{Cursor, IoSlice};
use std::sync::Arc;

use midge_mqtt::FrameHeader as PacketHeader;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control as ControlKind, Data, OpCode};

use super::Broken;

/// Close codes, RFC 6455 section 7.4.1.
pub(super) const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED: u16 = 1003;

/// Bytes of pongs that wait; a client that asks for more without reading has none.
const MAX_CONTROL: usize = 4096;

/// The longest payload of a control frame, section 5.5.
const MAX_CONTROL_PAYLOAD: usize = 125;

/// What a WebSocket listener asks of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The path that they must name; `None` for any.
    pub path: Option<String>,
    /// The origins of pages that may connect; empty for all.
    pub origins: Vec<String>,
}

/// The WebSocket of one connection.
#[derive(Debug)]
pub(super) struct WebSocket {
    settings: Arc<Settings>,
    state: State,
    /// What is to be written before anything else: the front of a frame, with frames of control before it.
    head: Vec<u8>,
    /// Control frames that wait for the end of the frame that is being written.
    control: Vec<u8>,
    /// Payload that the frame being written still lacks.
    owed: usize,
    /// What the packet being written has beyond that frame.
    beyond: usize,
    closed: bool,
}

#[derive(Debug)]
enum State {
    /// The request isn't complete.
    Upgrade(Vec<u8>),
    /// The header of a frame isn't complete.
    Header {
        front: [u8; 14],
        length: u8,
        within_message: bool,
    },
    Payload(Payload),
}

#[derive(Debug)]
struct Payload {
    left: u64,
    mask: [u8; 4],
    at: u8,
    /// A control frame and what of it has come.
    control: Option<Box<Control>>,
    within_message: bool,
}

#[derive(Debug)]
struct Control {
    kind: ControlKind,
    bytes: [u8; MAX_CONTROL_PAYLOAD],
    length: u8,
}

impl WebSocket {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let state = State::Upgrade(Vec::new());
        Self { settings, state, head: Vec::new(), control: Vec::new(), owed: 0, beyond: 0, closed: false }
    }

    /// Appends the payload of data frames; returns whether the client has closed.
    ///
    /// # Errors
    /// What came is no such request or no such frame; what is to be said of it is ready to be written.
    pub(super) fn open(&mut self, input: &[u8], clear: &mut Vec<u8>) -> Result<bool, Broken> {
        if let State::Upgrade(request) = &mut self.state {
            request.extend_from_slice(input);
            let answer = upgrade::answer(request, &self.settings);
            let request = std::mem::take(request);
            return match answer {
                upgrade::Answer::Incomplete => {
                    self.state = State::Upgrade(request);
                    Ok(false)
                }
                upgrade::Answer::Accepted { response, length } => {
                    self.head.extend_from_slice(response.as_bytes());
                    self.state = State::next(false);
                    self.frames(&request[length..], clear)
                }
                upgrade::Answer::Refused { response, reason } => {
                    self.head.extend_from_slice(response.as_bytes());
                    self.closed = true;
                    Err(Broken::WebSocket(reason))
                }
            };
        }
        self.frames(input, clear)
    }

    fn frames(&mut self, mut input: &[u8], clear: &mut Vec<u8>) -> Result<bool, Broken> {
        while !input.is_empty() && !self.closed {
            match &mut self.state {
                State::Header { front, length, within_message } => {
                    front[usize::from(*length)] = input[0];
                    *length += 1;
                    input = &input[1..];
                    let parsed = header(&front[..usize::from(*length)], *within_message);
                    match parsed {
                        Ok(None) => {}
                        Ok(Some(payload)) => self.state = State::Payload(payload),
                        Err((code, reason)) => {
                            self.close(code);
                            return Err(Broken::WebSocket(reason));
                        }
                    }
                }
                State::Payload(payload) => input = payload.take(input, clear),
                State::Upgrade(_) => return Ok(false),
            }
            if let State::Payload(payload) = &mut self.state
                && payload.left == 0
            {
                let control = payload.control.take();
                self.state = State::next(payload.within_message);
                if let Some(control) = control {
                    self.control(&control)?;
                }
            }
        }
        Ok(self.closed)
    }

    fn control(&mut self, control: &Control) -> Result<(), Broken> {
        let bytes = &control.bytes[..usize::from(control.length)];
        match control.kind {
            ControlKind::Ping => {
                if self.control.len() + bytes.len() > MAX_CONTROL {
                    return Err(Broken::WebSocket("pings without reading the answers"));
                }
                write_frame(OpCode::Control(ControlKind::Pong), bytes, &mut self.control);
            }
            ControlKind::Close => {
                let code = bytes.first_chunk().map_or(NORMAL, |code| u16::from_be_bytes(*code));
                self.close(code);
            }
            _ => {}
        }
        Ok(())
    }

    /// Says goodbye, once.
    pub(super) fn close(&mut self, code: u16) {
        if !self.closed && !matches!(self.state, State::Upgrade(_)) {
            write_frame(OpCode::Control(ControlKind::Close), &code.to_be_bytes(), &mut self.control);
        }
        self.closed = true;
    }

    /// Begins a frame for the packet in front of `slices`, with at most `most` bytes of it, or goes on with the one that was begun.
    ///
    /// Returns what has to be written first, and how many bytes of payload belong behind it.
    pub(super) fn begin(&mut self, slices: &[IoSlice<'_>], most: usize) -> (&[u8], usize) {
        if self.owed == 0 && most > 0 {
            if self.beyond == 0 {
                self.beyond = packet_len(slices).unwrap_or(most);
            }
            let length = self.beyond.min(most);
            self.beyond -= length;
            self.head.append(&mut self.control);
            write_header(OpCode::Data(Data::Binary), length, &mut self.head);
            self.owed = length;
        }
        (&self.head, self.owed.min(most))
    }

    /// Returns what has to be written though there is no payload.
    pub(super) fn waiting(&mut self) -> &[u8] {
        if self.owed == 0 {
            self.head.append(&mut self.control);
        }
        &self.head
    }

    /// Learns what was written, of the head and of the payload.
    pub(super) fn wrote(&mut self, head: usize, payload: usize) {
        self.head.drain(..head.min(self.head.len()));
        if self.head.is_empty() {
            self.head = Vec::new();
        }
        self.owed -= payload.min(self.owed);
    }
}

impl State {
    fn next(within_message: bool) -> Self {
        Self::Header { front: [0; 14], length: 0, within_message }
    }
}

/// Returns the size of the packet in front, unless its fixed header isn't there.
fn packet_len(slices: &[IoSlice<'_>]) -> Option<usize> {
    let mut front = [0; 5];
    let mut length = 0;
    for (place, byte) in front.iter_mut().zip(slices.iter().flat_map(|slice| slice.iter())) {
        *place = *byte;
        length += 1;
    }
    let header = PacketHeader::peek(&front[..length]).ok()??;
    usize::try_from(header.packet_len()).ok()
}

type Refusal = (u16, &'static str);

/// Reads the header of a frame, section 5.2, unless it isn't complete.
fn header(front: &[u8], within_message: bool) -> Result<Option<Payload>, Refusal> {
    let bad = |reason| Err((PROTOCOL_ERROR, reason));
    let (header, left) = match FrameHeader::parse(&mut Cursor::new(front)) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Ok(None),
        Err(_) => return bad("an unknown opcode"),
    };
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return bad("reserved bits without an extension");
    }
    let Some(mask) = header.mask else { return bad("a frame that isn't masked") };
    if left >> 63 != 0 {
        return bad("a length that none can be");
    }
    let control = match header.opcode {
        OpCode::Data(Data::Continue) if !within_message => return bad("a continuation of nothing"),
        OpCode::Data(Data::Binary) if within_message => return bad("a message within a message"),
        OpCode::Data(Data::Continue | Data::Binary) => None,
        OpCode::Data(Data::Text) => return Err((UNSUPPORTED, "text where MQTT needs binary frames")), // [MQTT-6.0.0-1]
        OpCode::Control(_) if !header.is_final || left > MAX_CONTROL_PAYLOAD as u64 => {
            return bad("a control frame that is too long or cut");
        }
        OpCode::Control(kind) => Some(Box::new(Control { kind, bytes: [0; MAX_CONTROL_PAYLOAD], length: 0 })),
        OpCode::Data(Data::Reserved(_)) => return bad("an unknown opcode"),
    };
    let within_message = if control.is_some() { within_message } else { !header.is_final };
    Ok(Some(Payload { left, mask, at: 0, control, within_message }))
}

/// Appends the header of a whole message of `length` bytes.
fn write_header(opcode: OpCode, length: usize, out: &mut Vec<u8>) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    header.format(length as u64, out).expect("a vector takes everything");
}

fn write_frame(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    write_header(opcode, payload.len(), out);
    out.extend_from_slice(payload);
}

impl Payload {
    /// Unmasks what belongs to the frame and returns the rest.
    fn take<'a>(&mut self, input: &'a [u8], clear: &mut Vec<u8>) -> &'a [u8] {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let (payload, rest) = input.split_at(length);
        let mut mask = self.mask;
        mask.rotate_left(usize::from(self.at));
        match &mut self.control {
            None => {
                let start = clear.len();
                clear.extend_from_slice(payload);
                unmask(&mut clear[start..], mask);
            }
            Some(control) => {
                for byte in payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask) {
                    control.bytes[usize::from(control.length)] = byte;
                    control.length += 1;
                }
            }
        }
        self.left -= length as u64;
        self.at = (self.at + u8::try_from(length % 4).unwrap_or(0)) % 4;
        rest
    }
}

/// Unmasks in place, section 5.3, eight bytes at a time.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (blocks, rest) = bytes.as_chunks_mut::<8>();
    for block in blocks {
        *block = (u64::from_ne_bytes(*block) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

#[cfg(test)]
mod tests;
