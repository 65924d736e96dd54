//! Loads a broker on loopback and says what it cost.
//!
//! `load PORT PID SCENARIO CLIENTS QOS WINDOW SECONDS`, with SCENARIO one of `fanout` (one publisher, CLIENTS subscribers), `fanin` (CLIENTS publishers, one subscriber), `pairs` (CLIENTS of each), `idle` (CLIENTS connections and the memory of each) and `connect` (CLIENTS connections, opened in turn and closed).
//! WINDOW is how many messages of a publisher are on their way at most.
//! The cost is the CPU time of the process PID, for each million of messages delivered; run broker and load on a core each.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use midge_mqtt::{Connect, Decoded, Delivery, Packet, PacketId, Peer, Properties, ProtocolVersion, Puback, QoS, Rules, decode};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

const VERSION: ProtocolVersion = ProtocolVersion::V311;
const PAYLOAD: usize = 64;

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    ready: bool,
    /// The publisher whose messages it gets.
    latencies: bool,
    last_id: u16,
}

#[derive(Default)]
struct Publisher {
    client: usize,
    topic: String,
    sent: u64,
    delivered: u64,
}

struct Load {
    poll: Poll,
    clients: Vec<Client>,
    publishers: Vec<Publisher>,
    fan: u64,
    qos: u8,
    window: u64,
    delivered: u64,
    latencies: Vec<u32>,
    start: Instant,
    buffer: Vec<u8>,
    touched: Vec<usize>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, port, pid, scenario, clients, qos, window, seconds] = args.as_slice() else {
        bail!("load PORT PID SCENARIO CLIENTS QOS WINDOW SECONDS");
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    let (pid, clients, seconds) = (pid.parse()?, clients.parse()?, Duration::from_secs_f64(seconds.parse()?));
    let mut load = Load {
        poll: Poll::new()?,
        clients: Vec::new(),
        publishers: Vec::new(),
        fan: 1,
        qos: qos.parse()?,
        window: window.parse()?,
        delivered: 0,
        latencies: Vec::new(),
        start: Instant::now(),
        buffer: vec![0; 1 << 20],
        touched: Vec::new(),
    };
    match scenario.as_str() {
        "connect" => return connects(address, pid, clients),
        "idle" => return idle(&mut load, address, pid, clients),
        _ => {}
    }
    let (publishers, subscribers) = match scenario.as_str() {
        "fanout" => (1, clients),
        "fanin" => (clients, 1),
        "pairs" => (clients, clients),
        _ => bail!("no such scenario"),
    };
    load.fan = if scenario == "fanout" { subscribers as u64 } else { 1 };
    let topic = |at: usize| if scenario == "fanout" { "load/0".to_owned() } else { format!("load/{at}") };
    for at in 0..subscribers {
        let filter = if scenario == "fanin" { "load/+".to_owned() } else { topic(at) };
        let client = load.connect(address, &format!("sub-{at}"))?;
        load.subscribe(client, &filter)?;
    }
    for at in 0..publishers {
        let client = load.connect(address, &format!("pub-{at}"))?;
        load.publishers.push(Publisher { client, topic: topic(at), ..Publisher::default() });
    }
    load.run(Duration::from_millis(500))?;
    let (cpu, delivered, start) = (cpu_time(pid)?, load.delivered, Instant::now());
    load.latencies.clear();
    load.run(seconds)?;
    let (cpu, delivered, wall) = (cpu_time(pid)? - cpu, load.delivered - delivered, start.elapsed());
    load.latencies.sort_unstable();
    let at = |percent: usize| load.latencies.get(load.latencies.len() * percent / 100).copied().unwrap_or(0);
    println!(
        "{scenario} {clients} qos{qos} window {window}: {:.2} CPU s/million, {:.0} messages/s, p50 {} us, p99 {} us, broker at {:.0} %",
        cpu.as_secs_f64() / delivered as f64 * 1e6,
        delivered as f64 / wall.as_secs_f64(),
        at(50),
        at(99),
        cpu.as_secs_f64() / wall.as_secs_f64() * 100.0
    );
    Ok(())
}

fn connect_packet(id: &str) -> Result<Vec<u8>> {
    let connect = Connect {
        version: VERSION,
        bridge: false,
        clean_start: true,
        keep_alive: 0,
        properties: Properties::NONE,
        client_id: id,
        will: None,
        username: None,
        password: None,
    };
    let mut bytes = Vec::new();
    connect.encode(VERSION, &mut bytes)?;
    Ok(bytes)
}

/// Returns the CPU time of all threads of a process.
fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().context("schedstat")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn memory(pid: u32) -> Result<i64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Private_Dirty:")).context("Private_Dirty")?;
    Ok(line.split_whitespace().nth(1).context("a number")?.parse::<i64>()? * 1024)
}

fn idle(load: &mut Load, address: SocketAddr, pid: u32, clients: usize) -> Result<()> {
    for at in 0..100 {
        load.connect(address, &format!("warm-{at}"))?;
    }
    let before = memory(pid)?;
    for at in 0..clients {
        load.connect(address, &format!("idle-{at:06}"))?;
    }
    println!("idle {clients}: {} bytes of process memory each", (memory(pid)? - before) / clients as i64);
    Ok(())
}

fn connects(address: SocketAddr, pid: u32, clients: usize) -> Result<()> {
    let packet = connect_packet("comes-and-goes")?;
    let (cpu, start) = (cpu_time(pid)?, Instant::now());
    let mut open = Vec::new();
    for at in 0..clients {
        // Many at once, or the load would be slower than the broker.
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(&connect_packet(&format!("c{at}"))?)?;
        open.push(stream);
        if open.len() == 64 || at + 1 == clients {
            for mut stream in open.drain(..) {
                stream.read_exact(&mut [0; 4])?;
            }
        }
    }
    let (cpu, wall) = (cpu_time(pid)? - cpu, start.elapsed());
    println!(
        "connect {clients} ({} bytes): {:.0} for each CPU second, {:.0} in a second",
        packet.len(),
        clients as f64 / cpu.as_secs_f64(),
        clients as f64 / wall.as_secs_f64()
    );
    Ok(())
}

impl Load {
    fn connect(&mut self, address: SocketAddr, id: &str) -> Result<usize> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.write_all(&connect_packet(id)?)?;
        stream.read_exact(&mut [0; 4])?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let at = self.clients.len();
        self.poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
        self.clients.push(Client { stream, input: Vec::new(), output: Vec::new(), ready: false, latencies: at == 0, last_id: 0 });
        Ok(at)
    }

    fn subscribe(&mut self, client: usize, filter: &str) -> Result<()> {
        let length = u8::try_from(filter.len())?;
        let mut bytes = vec![0x82, length + 5, 0, 1, 0, length];
        bytes.extend(filter.as_bytes());
        bytes.push(self.qos);
        self.clients[client].output.extend(bytes);
        self.write(client)?;
        while !self.clients[client].ready {
            self.turn()?;
        }
        Ok(())
    }

    fn run(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for at in 0..self.publishers.len() {
                self.publish(at)?;
            }
            for client in std::mem::take(&mut self.touched) {
                self.write(client)?;
            }
            self.turn()?;
        }
        Ok(())
    }

    fn publish(&mut self, at: usize) -> Result<()> {
        let publisher = &mut self.publishers[at];
        let client = &mut self.clients[publisher.client];
        let before = client.output.len();
        while publisher.sent * self.fan < publisher.delivered + self.window * self.fan {
            publisher.sent += 1;
            let topic = publisher.topic.as_bytes();
            let id = if self.qos > 0 { 2 } else { 0 };
            client.output.push(0x30 | self.qos << 1);
            client.output.push(u8::try_from(2 + topic.len() + id + PAYLOAD)?);
            client.output.extend(u16::try_from(topic.len())?.to_be_bytes());
            client.output.extend(topic);
            if id > 0 {
                client.last_id = client.last_id.wrapping_add(1).max(1);
                client.output.extend(client.last_id.to_be_bytes());
            }
            let mut payload = [0; PAYLOAD];
            payload[..4].copy_from_slice(&u32::try_from(at)?.to_be_bytes());
            payload[4..12].copy_from_slice(&u64::try_from(self.start.elapsed().as_nanos())?.to_be_bytes());
            client.output.extend(payload);
        }
        if before == 0 && !client.output.is_empty() {
            self.touched.push(publisher.client);
        }
        Ok(())
    }

    fn write(&mut self, at: usize) -> Result<()> {
        let client = &mut self.clients[at];
        match client.stream.write(&client.output) {
            Ok(length) => drop(client.output.drain(..length)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        self.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let at = event.token().0;
            if event.is_writable() && !self.clients[at].output.is_empty() {
                self.touched.push(at);
            }
            if event.is_readable() {
                self.read(at)?;
            }
        }
        for at in std::mem::take(&mut self.touched) {
            self.write(at)?;
        }
        Ok(())
    }

    fn read(&mut self, at: usize) -> Result<()> {
        loop {
            let client = &mut self.clients[at];
            let kept = client.input.len();
            self.buffer[..kept].copy_from_slice(&client.input);
            client.input.clear();
            let length = match client.stream.read(&mut self.buffer[kept..]) {
                Ok(0) => bail!("the broker closed connection {at}"),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let buffer = std::mem::take(&mut self.buffer);
            let used = self.packets(at, &buffer[..kept + length])?;
            self.clients[at].input.extend_from_slice(&buffer[used..kept + length]);
            self.buffer = buffer;
            if kept + length < self.buffer.len() {
                return Ok(());
            }
        }
    }

    fn packets(&mut self, at: usize, input: &[u8]) -> Result<usize> {
        let rules = Rules::new(Peer::Server(VERSION));
        let (mut used, mut counts) = (0, BTreeMap::<usize, u64>::new());
        while let Decoded::Packet(packet, length) = decode(&rules, &input[used..])? {
            used += length;
            let client = &mut self.clients[at];
            match packet {
                Packet::Suback(_) => client.ready = true,
                Packet::Publish(publish) => {
                    let publisher = u32::from_be_bytes(publish.payload[..4].try_into()?) as usize;
                    *counts.entry(publisher).or_default() += 1;
                    if client.latencies {
                        let sent = u64::from_be_bytes(publish.payload[4..12].try_into()?);
                        self.latencies.push(u32::try_from((u64::try_from(self.start.elapsed().as_nanos())? - sent) / 1000)?);
                    }
                    if let Delivery::AtLeastOnce(id) = publish.delivery {
                        if client.output.is_empty() {
                            self.touched.push(at);
                        }
                        acknowledge(id, &mut client.output)?;
                    }
                }
                _ => {}
            }
            if used == input.len() {
                break;
            }
        }
        for (publisher, count) in counts {
            self.publishers[publisher].delivered += count;
            self.delivered += count;
        }
        debug_assert!(QoS::new(self.qos).is_some());
        Ok(used)
    }
}

fn acknowledge(packet_id: PacketId, out: &mut Vec<u8>) -> Result<()> {
    let puback = Puback { packet_id, reason_code: midge_mqtt::ReasonCode::Success, properties: Properties::NONE };
    Ok(puback.encode(VERSION, out)?)
}
