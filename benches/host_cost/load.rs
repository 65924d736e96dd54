//! Loads a broker: groups of one publisher and its subscribers.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::broker::Broker;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PAYLOAD: usize = 64;
const PINGREQ: &[u8] = &[0xc0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];
const PATIENCE: Duration = Duration::from_secs(10);
/// How often each broker has its turn.
const SPELLS: usize = 40;

/// How a broker is loaded.
///
/// One publisher sends `in_flight` messages, and again when all subscribers have them; of pairs, each publisher sends the next
/// as soon as its subscriber has one of the `in_flight` that are under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Publishers, each with a topic of its own.
    pub(crate) groups: usize,
    /// Subscribers of each topic.
    pub(crate) fan_out: usize,
    pub(crate) in_flight: usize,
    /// How often that is done, in all spells of a broker together.
    pub(crate) turns: usize,
    /// 0 or 1.
    pub(crate) qos: u8,
    /// Whether subscribers ask for their topics, or have them from a list.
    pub(crate) subscribes: bool,
}

impl Load {
    pub(crate) fn name(self) -> String {
        let kind = if self.groups > 1 { format!("{} pairs", self.groups) } else { format!("1 to {}", self.fan_out) };
        format!("{kind} | {} | {}", self.qos, self.in_flight)
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(text.as_bytes());
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    let mut length = body.len();
    loop {
        let byte = u8::try_from(length % 128).unwrap_or(0);
        length /= 128;
        out.push(if length > 0 { byte | 128 } else { byte });
        if length == 0 {
            break;
        }
    }
    out.extend(body);
    out
}

fn connect(broker: &Broker, id: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(broker.address())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    body.extend([4, 0b1100_0010, 0, 0]);
    text(&mut body, id);
    text(&mut body, "bench");
    text(&mut body, "bench");
    stream.write_all(&packet(0x10, &body))?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer != [0x20, 2, 0, 0] {
        return Err(format!("{id} was not let in: {answer:?}").into());
    }
    Ok(stream)
}

fn subscribe(stream: &mut TcpStream, filter: &str, qos: u8) -> Result<()> {
    let mut body = vec![0, 1];
    text(&mut body, filter);
    body.push(qos);
    stream.write_all(&packet(0x82, &body))?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    if answer != [0x90, 3, 0, 1, qos] {
        return Err(format!("no subscription: {answer:?}").into());
    }
    Ok(())
}

/// A socket that messages, or acknowledgements of its own, come to.
struct Receiver {
    stream: TcpStream,
    /// Bytes of a message that isn't complete yet.
    rest: Vec<u8>,
    /// How long each packet is that comes to it.
    length: usize,
    /// Where in it the packet identifier is, if it is to be acknowledged.
    identifier: Option<usize>,
}

impl Receiver {
    /// Reads what is there and acknowledges it; returns how many packets those were.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut packets = 0;
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return Err("a client was cut off".into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(packets),
                Err(error) => return Err(error.into()),
            };
            self.rest.extend(&buffer[..read]);
            let whole = self.rest.len() / self.length;
            if let Some(at) = self.identifier {
                let acknowledge = |packet: &[u8]| [0x40, 2, packet[at], packet[at + 1]];
                let acknowledgements: Vec<u8> = self.rest.chunks_exact(self.length).flat_map(acknowledge).collect();
                self.stream.write_all(&acknowledgements)?;
            }
            self.rest.drain(..whole * self.length);
            packets += whole;
        }
    }
}

/// Who publishes, and what, in turn.
struct Publisher {
    /// Its place among the receivers.
    at: usize,
    messages: Vec<Vec<u8>>,
    next: usize,
    /// How many messages it has yet to send.
    left: usize,
}

impl Publisher {
    /// Sends at most `most` messages at once.
    fn send(&mut self, most: usize, receivers: &mut [Receiver]) -> Result<()> {
        let now = most.min(self.left);
        let bytes: Vec<u8> = self.messages.iter().cycle().skip(self.next).take(now).flatten().copied().collect();
        self.left -= now;
        self.next = (self.next + now) % self.messages.len();
        receivers[self.at].stream.write_all(&bytes)?;
        Ok(())
    }
}

/// All clients of a load, connected.
struct Clients {
    load: Load,
    publishers: Vec<Publisher>,
    receivers: Vec<Receiver>,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
}

impl Clients {
    fn connect(broker: &Broker, load: Load) -> Result<Self> {
        let (mut publishers, mut receivers) = (Vec::new(), Vec::new());
        for group in 0..load.groups {
            // Topics of one length, so that packets have one length too.
            let topic = format!("site/7/line/{group:03}/temperature");
            let identifier = (load.qos > 0).then_some(4 + topic.len());
            let mut body = Vec::new();
            text(&mut body, &topic);
            // Brokers don't mind that all have one identifier: each is acknowledged before the next turn, none is in flight twice.
            let numbered = |n: usize| -> Vec<u8> {
                let mut body = body.clone();
                if load.qos > 0 {
                    body.extend(u16::try_from(n + 1).unwrap_or(u16::MAX).to_be_bytes());
                }
                body.extend([b'x'; PAYLOAD]);
                packet(0x30 | load.qos << 1, &body)
            };
            let length = numbered(0).len();
            for n in 0..load.fan_out {
                let mut stream = connect(broker, &format!("sub-{group}-{n}"))?;
                if load.subscribes {
                    let filter = if load.groups > 1 { topic.clone() } else { "site/+/line/+/temperature".to_owned() };
                    subscribe(&mut stream, &filter, load.qos)?;
                }
                receivers.push(Receiver { stream, rest: Vec::new(), length, identifier });
            }
            let stream = connect(broker, &format!("pub-{group}"))?;
            let messages = (0..load.in_flight).map(numbered).collect();
            publishers.push(Publisher { at: receivers.len(), messages, next: 0, left: 0 });
            receivers.push(Receiver { stream, rest: Vec::new(), length: 4, identifier: None });
        }
        let poll = Poll::new()?;
        for (n, receiver) in receivers.iter().enumerate() {
            receiver.stream.set_nonblocking(true)?;
            poll.registry().register(&mut SourceFd(&receiver.stream.as_raw_fd()), Token(n), Interest::READABLE)?;
        }
        Ok(Self { load, publishers, receivers, poll, events: Events::with_capacity(1024), buffer: vec![0; 1 << 20] })
    }

    /// Waits until the broker has done all that it was sent.
    ///
    /// It looks at its sockets together and then serves each, so behind the second answer nothing of what came before the first
    /// is left.
    fn settle(&mut self) -> Result<()> {
        let stream = self.receivers.first_mut().map(|receiver| &mut receiver.stream).ok_or("no client")?;
        for _ in 0..2 {
            stream.write_all(PINGREQ)?;
            let (mut answer, mut length, asked) = ([0; 2], 0, Instant::now());
            while length < answer.len() {
                match stream.read(&mut answer[length..]) {
                    Ok(0) => return Err("a client was cut off".into()),
                    Ok(read) => length += read,
                    Err(error) if error.kind() == ErrorKind::WouldBlock && asked.elapsed() < PATIENCE => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if answer != PINGRESP {
                return Err(format!("{answer:?} came for an answer to a ping").into());
            }
        }
        Ok(())
    }

    /// Has each publisher send as many messages as are under way at once, `turns` times, and waits until all have arrived.
    fn spell(&mut self, turns: usize) -> Result<()> {
        if self.load.groups > 1 {
            return self.flow(turns);
        }
        (0..turns).try_for_each(|_| self.flow(1))
    }

    /// Does that without a pause.
    ///
    /// It never sleeps: to wake it would be the broker's work, and more of it the slower the broker is.
    fn flow(&mut self, turns: usize) -> Result<()> {
        let Load { groups, fan_out, in_flight, qos, .. } = self.load;
        for publisher in &mut self.publishers {
            publisher.left = in_flight * turns;
            publisher.send(in_flight, &mut self.receivers)?;
        }
        let sent = groups * in_flight * turns;
        let mut missing = sent * fan_out + if qos > 0 { sent } else { 0 };
        let mut heard = Instant::now();
        while missing > 0 {
            self.poll.poll(&mut self.events, Some(Duration::ZERO))?;
            if !self.events.is_empty() {
                heard = Instant::now();
            } else if heard.elapsed() > PATIENCE {
                return Err(format!("{missing} packets did not arrive within {PATIENCE:?}").into());
            }
            for event in &self.events {
                let at = event.token().0;
                let arrived = self.receivers[at].receive(&mut self.buffer)?;
                missing = missing.checked_sub(arrived).ok_or("more arrived than was sent")?;
                // Of pairs, each publisher stands behind its subscriber.
                if groups > 1 && at % 2 == 0 {
                    self.publishers[at / 2].send(arrived, &mut self.receivers)?;
                }
            }
        }
        Ok(())
    }
}

/// Returns each broker's CPU time per delivered message, in microseconds.
///
/// The brokers take turns many times within a second, so that what else the machine does, and at which clock rate, falls on all alike.
pub(crate) fn measure(brokers: &[Broker], load: Load) -> Result<Vec<f64>> {
    let mut all = brokers.iter().map(|broker| Clients::connect(broker, load)).collect::<Result<Vec<_>>>()?;
    let turns = load.turns.div_ceil(SPELLS);
    let mut used = vec![Duration::ZERO; brokers.len()];
    for spell in 0..=SPELLS {
        for n in 0..brokers.len() {
            // Each spell begins with another one, so that none always follows the same.
            let at = (n + spell) % brokers.len();
            // What the others left in the caches is gone after this.
            all[at].spell(1)?;
            all[at].settle()?;
            let before = brokers[at].cpu()?;
            all[at].spell(turns)?;
            all[at].settle()?;
            // The first is for warming up.
            if spell > 0 {
                used[at] += brokers[at].cpu()?.saturating_sub(before);
            }
        }
    }
    let messages = u32::try_from(SPELLS * turns * load.groups * load.fan_out * load.in_flight).map(f64::from)?;
    Ok(used.into_iter().map(|used| used.as_secs_f64() * 1e6 / messages).collect())
}
