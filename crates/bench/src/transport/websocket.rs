//! MQTT in WebSocket frames, as a client (RFC 6455).
//!
//! One binary frame for each write; a server's frames may be cut anywhere.

use std::io::{self, ErrorKind};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::clock;
use crate::payload::Dice;

/// The text that a server proves it has read the request with (section 1.3).
const PROOF: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The longest answer to the request.
const LONGEST_HEAD: usize = 16 << 10;

/// A client's side of a WebSocket.
#[derive(Debug)]
pub(super) struct WebSocket {
    /// What the server has to say to prove it, until it has.
    proof: Option<String>,
    input: Vec<u8>,
    dice: Dice,
}

impl WebSocket {
    /// Writes the request to `below`.
    pub(super) fn new(host: &str, path: &str, below: &mut Vec<u8>) -> Self {
        let mut dice = Dice::new(clock::now());
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&dice.next().to_be_bytes());
        nonce[8..].copy_from_slice(&dice.next().to_be_bytes());
        let key = STANDARD.encode(nonce);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        below.extend_from_slice(request.as_bytes());
        let proof = STANDARD.encode(Sha1::digest(format!("{key}{PROOF}")));
        Self { proof: Some(proof), input: Vec::new(), dice }
    }

    /// Frames `output` once the server has agreed.
    pub(super) fn write(&mut self, output: &mut Vec<u8>, below: &mut Vec<u8>) {
        if self.proof.is_none() && !output.is_empty() {
            self.frame(BINARY, output, below);
            output.clear();
        }
    }

    /// Appends the payloads of `raw` to `clear`, and answers of its own to `below`.
    pub(super) fn read(&mut self, raw: &[u8], clear: &mut Vec<u8>, below: &mut Vec<u8>) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(raw);
        let mut used = if self.proof.is_some() { self.agree(&input)? } else { 0 };
        if self.proof.is_none() {
            while let Some((first, head, length)) = header(&input[used..])? {
                let body = used + head..used + head + length;
                let Some(payload) = input.get(body.clone()) else { break };
                match first & 0x0f {
                    PING => self.frame(PONG, payload, below),
                    CLOSE => return Err(ErrorKind::UnexpectedEof.into()),
                    0..=BINARY => clear.extend_from_slice(payload),
                    _ => {}
                }
                used = body.end;
            }
        }
        input.drain(..used);
        self.input = input;
        Ok(())
    }

    /// Reads the answer to the request; returns its length, 0 where it isn't complete.
    fn agree(&mut self, input: &[u8]) -> io::Result<usize> {
        let refused = |why: String| io::Error::new(ErrorKind::InvalidData, why);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(input).map_err(|error| refused(format!("WebSocket: {error}")))? {
            httparse::Status::Partial if input.len() > LONGEST_HEAD => Err(refused("WebSocket: too long an answer".to_owned())),
            httparse::Status::Partial => Ok(0),
            httparse::Status::Complete(length) => {
                if response.code != Some(101) {
                    return Err(refused(format!("WebSocket: the server answers {}", response.code.unwrap_or(0))));
                }
                let proof = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
                if proof.map(|header| header.value) != self.proof.as_deref().map(str::as_bytes) {
                    return Err(refused("WebSocket: the server has not read the request".to_owned()));
                }
                self.proof = None;
                Ok(length)
            }
        }
    }

    fn frame(&mut self, opcode: u8, payload: &[u8], below: &mut Vec<u8>) {
        below.push(FINAL | opcode);
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(length @ 0..126), _) => below.push(MASKED | length),
            (_, Ok(length)) => {
                below.push(MASKED | 126);
                below.extend_from_slice(&length.to_be_bytes());
            }
            _ => {
                below.push(MASKED | 127);
                below.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        let mask = self.dice.below(u32::MAX).to_be_bytes();
        below.extend_from_slice(&mask);
        below.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
}

/// Returns first byte, length of the header and length of the payload of a server's frame.
fn header(input: &[u8]) -> io::Result<Option<(u8, usize, usize)>> {
    let &[first, second, ..] = input else { return Ok(None) };
    if second & MASKED != 0 {
        return Err(io::Error::new(ErrorKind::InvalidData, "WebSocket: a server doesn't mask"));
    }
    let long = |bytes: usize| {
        let digits = input.get(2..2 + bytes)?;
        Some(digits.iter().fold(0_usize, |sum, &byte| sum << 8 | usize::from(byte)))
    };
    let (head, length) = match second {
        126 => (4, long(2)),
        127 => (10, long(8)),
        length => (2, Some(length.into())),
    };
    match length {
        Some(length) if length > 1 << 30 => Err(io::Error::new(ErrorKind::InvalidData, "WebSocket: a frame of more than 1 GiB")),
        length => Ok(length.map(|length| (first, head, length))),
    }
}
