//! Forwards messages and nothing else: what a broker costs at least.
//!
//! `floor PORT` serves MQTT 3.1.1 with QoS 0 on loopback: no sessions, no rules, no keep-alive; filters are exact, or end in `+`.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr};

use midge_mqtt::{FrameHeader, PacketType};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX - 1);

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

struct Floor {
    poll: Poll,
    clients: Vec<Option<Client>>,
    /// Who wants a topic, or, by what is before its last level, all topics below.
    wanted: HashMap<Vec<u8>, Vec<usize>>,
    touched: Vec<usize>,
    buffer: Vec<u8>,
}

fn main() -> Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(1883);
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut floor = Floor { poll, clients: Vec::new(), wanted: HashMap::new(), touched: Vec::new(), buffer: vec![0; 256 << 10] };
    let mut events = Events::with_capacity(1024);
    loop {
        match floor.poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                floor.accept(&listener)?;
                continue;
            }
            let at = event.token().0;
            if event.is_readable() && floor.read(at).is_err() {
                floor.clients[at] = None;
            }
            floor.touched.push(at);
        }
        floor.flush();
    }
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true)?;
            self.poll.registry().register(&mut stream, Token(self.clients.len()), Interest::READABLE | Interest::WRITABLE)?;
            self.clients.push(Some(Client { stream, input: Vec::new(), output: Vec::new() }));
        }
        Ok(())
    }

    fn read(&mut self, at: usize) -> Result<()> {
        let Some(client) = &mut self.clients[at] else { return Ok(()) };
        let mut input = std::mem::take(&mut client.input);
        loop {
            match client.stream.read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => input.extend_from_slice(&self.buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut used = 0;
        while let Ok(Some(header)) = FrameHeader::peek(&input[used..]) {
            let end = used + header.packet_len() as usize;
            let Some(frame) = input.get(used..end) else { break };
            self.packet(at, &header, frame);
            used = end;
        }
        input.drain(..used);
        if let Some(client) = &mut self.clients[at] {
            client.input = input;
        }
        Ok(())
    }

    fn packet(&mut self, at: usize, header: &FrameHeader, frame: &[u8]) {
        let body = &frame[header.header_len()..];
        let text = |from: usize| {
            let length = usize::from(u16::from_be_bytes([body[from], body[from + 1]]));
            &body[from + 2..from + 2 + length]
        };
        match header.packet_type() {
            PacketType::Connect => self.say(at, &[0x20, 2, 0, 0]),
            PacketType::Subscribe => {
                let filter = text(2).strip_suffix(b"+").unwrap_or(text(2)).to_vec();
                self.wanted.entry(filter).or_default().push(at);
                self.say(at, &[0x90, 3, body[0], body[1], 0]);
            }
            PacketType::Publish => {
                let topic = text(0);
                let above = topic.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
                for name in [topic, &topic[..above]] {
                    for &to in self.wanted.get(name).into_iter().flatten() {
                        if let Some(client) = &mut self.clients[to] {
                            if client.output.is_empty() {
                                self.touched.push(to);
                            }
                            client.output.extend_from_slice(frame);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn say(&mut self, at: usize, bytes: &[u8]) {
        if let Some(client) = &mut self.clients[at] {
            client.output.extend_from_slice(bytes);
        }
    }

    /// Writes each connection that has something to write once.
    fn flush(&mut self) {
        for at in self.touched.drain(..) {
            if let Some(Some(client)) = self.clients.get_mut(at)
                && !client.output.is_empty()
                && let Ok(length) = client.stream.write(&client.output)
            {
                client.output.drain(..length);
            }
        }
    }
}
