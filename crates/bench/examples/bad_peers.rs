//! Says how long quiet clients wait beside bad peers.
//!
//! `bad_peers PORT PID [SECONDS [KIND…]]`: clients that publish to themselves, in peace and beside each kind of bad peer in turn, each for SECONDS.
//! Bad peers run as processes of their own with the least priority, so that quiet clients wait for the broker and not for the load.
//! Peace is measured before and after each, and the worse of both is what is compared with.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

#[path = "support/raw.rs"]
mod raw;

use raw::{Cost, PUBLISH, Raw, SUBACK, Times};

/// Clients that are measured.
const QUIET: usize = 4;

/// What a bad peer does at a port until it is ended.
type Kind = fn(u16) -> Result<()>;

const KINDS: [(&str, Kind); 7] = [
    ("half-open", half_open),
    ("dribble", dribble),
    ("deaf", deaf),
    ("slow", slow),
    ("connects", connects),
    ("bomb", bomb),
    ("huge", huge),
];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["attack", kind, port] => {
            let (_, attack) = KINDS.iter().find(|(name, _)| name == kind).context("a kind of bad peer")?;
            attack(port.parse()?)
        }
        [port, pid, rest @ ..] => {
            let seconds = rest.first().map_or(Ok(8), |text| text.parse())?;
            let wanted = |name: &str| rest.len() < 2 || rest[1..].contains(&name);
            measure(port.parse()?, pid.parse()?, Duration::from_secs(seconds), wanted)
        }
        _ => bail!("bad_peers PORT PID [SECONDS [KIND…]]"),
    }
}

/// A bad peer, as long as this is kept.
struct Attack(Child);

impl Drop for Attack {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn measure(port: u16, pid: u32, time: Duration, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let mut clients = (0..QUIET).map(|at| quiet(port, at)).collect::<Result<Vec<_>>>()?;
    round_trips(&mut clients, Duration::from_secs(1))?;
    let mut before = round_trips(&mut clients, time)?;
    println!("| beside | p50 (us) | p99 (us) | in peace p99 | ratio | CPU of the broker | memory |");
    for (name, _) in KINDS.iter().filter(|(name, _)| wanted(name)) {
        let cost = Cost::of(pid)?;
        let exe = std::env::current_exe()?;
        let attack = Command::new("nice").args(["-n", "19"]).arg(exe).args(["attack", name, &port.to_string()]).spawn()?;
        let attack = Attack(attack);
        std::thread::sleep(Duration::from_secs(1));
        let start = Instant::now();
        let cpu = Cost::of(pid)?.cpu;
        let beside = round_trips(&mut clients, time)?;
        let (after, wall) = (Cost::of(pid)?, start.elapsed());
        drop(attack);
        std::thread::sleep(Duration::from_millis(500));
        let peace = round_trips(&mut clients, time)?;
        let compared = before.p99.max(peace.p99);
        println!(
            "| {name} | {} | {} | {compared} | {:.2} | {:.0} % | {} KiB more |",
            beside.p50,
            beside.p99,
            beside.p99 as f64 / compared.max(1) as f64,
            (after.cpu - cpu).as_secs_f64() / wall.as_secs_f64() * 100.0,
            (after.resident - cost.resident) / 1024
        );
        before = peace;
    }
    Ok(())
}

fn quiet(port: u16, at: usize) -> Result<(Raw, Vec<u8>)> {
    let mut client = Raw::connect(port, &format!("quiet-{at}"), true)?;
    let topic = format!("quiet/{at}");
    client.send(&raw::subscribe(std::iter::once(topic.clone())))?;
    client.expect(SUBACK)?;
    Ok((client, raw::publish(&topic, &[b'x'; 64], 0, false)))
}

/// Has each client publish to itself about 300 times a second.
fn round_trips(clients: &mut [(Raw, Vec<u8>)], time: Duration) -> Result<Times> {
    let until = Instant::now() + time;
    let trips = |(client, message): &mut (Raw, Vec<u8>)| -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        while Instant::now() < until {
            let start = Instant::now();
            client.send(message)?;
            client.expect(PUBLISH)?;
            times.push(start.elapsed());
            std::thread::sleep(Duration::from_millis(3));
        }
        Ok(times)
    };
    let all = std::thread::scope(|scope| -> Result<Vec<Vec<Duration>>> {
        let threads: Vec<_> = clients.iter_mut().map(|client| scope.spawn(move || trips(client))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a quiet client has panicked"))).collect()
    })?;
    Ok(Times::of(all.into_iter().flatten().collect()))
}

/// Opens sockets, says nothing, and opens others for those that were closed.
fn half_open(port: u16) -> Result<()> {
    let mut open = std::collections::VecDeque::new();
    loop {
        open.push_back(Raw::open(port)?);
        if open.len() >= 2000 {
            open.pop_front();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Two hundred clients that send a byte of a message each second.
fn dribble(port: u16) -> Result<()> {
    let mut clients = (0..200).map(|at| Raw::connect(port, &format!("dribble-{at}"), true)).collect::<Result<Vec<_>>>()?;
    let message = raw::publish("dribble", &[b'x'; 1000], 0, false);
    for byte in message.iter().cycle() {
        let start = Instant::now();
        clients.iter_mut().try_for_each(|client| client.send(&[*byte]))?;
        std::thread::sleep(Duration::from_secs(1).saturating_sub(start.elapsed()));
    }
    Ok(())
}

/// Fifty subscribers that never read, and who publishes to them as fast as can be.
fn deaf(port: u16) -> Result<()> {
    let mut deaf = (0..50).map(|at| Raw::connect(port, &format!("deaf-{at}"), true)).collect::<Result<Vec<_>>>()?;
    for client in &mut deaf {
        client.send(&raw::subscribe(std::iter::once("flood".to_owned())))?;
        client.expect(SUBACK)?;
    }
    flood(port, 0)
}

/// A subscriber that reads a kilobyte a second, and who publishes to it as fast as can be.
fn slow(port: u16) -> Result<()> {
    let mut slow = Raw::connect(port, "slow", true)?;
    let mut packet = raw::subscribe(std::iter::once("flood".to_owned()));
    // With QoS 1, so that what isn't read waits.
    packet.pop();
    packet.push(1);
    slow.send(&packet)?;
    slow.expect(SUBACK)?;
    std::thread::spawn(move || {
        while slow.next().is_ok() {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    flood(port, 1)
}

fn flood(port: u16, qos: u8) -> Result<()> {
    let mut publisher = Raw::connect(port, "flooder", true)?;
    let mut reader = publisher.stream.try_clone()?;
    // Acknowledgements are read and thrown away.
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let messages = raw::publish("flood", &[b'x'; 1000], qos, false).repeat(64);
    loop {
        publisher.send(&messages)?;
    }
}

/// Clients that come and go as fast as can be.
fn connects(port: u16) -> Result<()> {
    for number in 0_u64.. {
        Raw::connect(port, &format!("flood-{}", number % 100_000), true)?;
    }
    Ok(())
}

/// Ten thousand filters of all shapes, deep topics that match many of them, and again.
fn bomb(port: u16) -> Result<()> {
    /// Levels of the filters.
    const LEVELS: u32 = 14;
    let filter = |number: u32| {
        let level = |at: u32| if number >> at & 1 == 1 { "+" } else { "a" };
        (0..LEVELS).map(level).collect::<Vec<_>>().join("/")
    };
    let topic = vec!["a"; LEVELS as usize].join("/");
    for round in 0.. {
        let mut client = Raw::connect(port, &format!("bomb-{}", round % 4), true)?;
        for from in (0..10_000).step_by(500) {
            client.send(&raw::subscribe((from..from + 500).map(filter)))?;
            client.expect(SUBACK)?;
        }
        // All at once, so that they are read together.
        client.send(&raw::publish(&topic, b"x", 0, false).repeat(200))?;
        client.ping()?;
    }
    Ok(())
}

/// Ten clients that announce 256 MB and send it as fast as can be.
fn huge(port: u16) -> Result<()> {
    let piece = vec![b'x'; 64 << 10];
    let one = |number: u32| -> Result<()> {
        loop {
            let mut client = Raw::connect(port, &format!("huge-{number}"), true)?;
            client.send(b"\x30\xfa\xff\xff\x7f\x00\x01t")?;
            // The broker has closed it when this fails.
            while client.send(&piece).is_ok() {}
        }
    };
    std::thread::scope(|scope| {
        (1..10).for_each(|number| {
            scope.spawn(move || one(number));
        });
        one(0)
    })
}
