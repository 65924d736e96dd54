//! Measures what the plugin costs the Mosquitto it sits in.
//!
//! The same Mosquitto runs without any access control, with the plugin, with its own `acl_file` of 100 rules and with its
//! dynamic-security plugin; each is pinned to core 0, this program to core 1, and the four take turns.
//! The figure is the broker's own CPU time (user and system, from the kernel's accounting) per delivered message.
//!
//! `cargo bench -p midge-plugin --bench host_cost [-- --rounds N --version 2.0.11 --fan-out 500 --times 10]`; needs `cargo xtask plugin` before.

#![allow(clippy::indexing_slicing, reason = "a panic ends the measurement, which is what it should do")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use midge_testkit::{MosquittoVersion, RedisServer, RedisVersion, free_port, workspace};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PAYLOAD: usize = 64;
const TOPIC: &str = "site/7/line/3/temperature";

/// A broker's access control, in the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Guard {
    None,
    Midge,
    AclFile,
    DynamicSecurity,
}

impl Guard {
    const ALL: [Self; 4] = [Self::None, Self::Midge, Self::AclFile, Self::DynamicSecurity];

    fn name(self) -> &'static str {
        match self {
            Self::None => "no access control",
            Self::Midge => "Midge, 20 rules",
            Self::AclFile => "acl_file, 100 rules",
            Self::DynamicSecurity => "dynamic-security, 20 rules",
        }
    }
}

struct Broker {
    child: Child,
    port: u16,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Broker {
    fn start(version: MosquittoVersion, guard: Guard, dir: &Path, redis: &RedisServer) -> Result<Self> {
        let port = free_port()?;
        let conf = dir.join(format!("{guard:?}.conf"));
        let mut text = format!("listener {port} 127.0.0.1\nlog_type error\nmax_queued_messages 100000\n");
        match guard {
            Guard::None => text.push_str("allow_anonymous true\n"),
            Guard::Midge => write!(
                text,
                "allow_anonymous false\nauth_plugin {}\nauth_opt_store {}\n",
                workspace().join("dist/midge.so").display(),
                redis.url()
            )?,
            Guard::AclFile => write!(text, "allow_anonymous true\nacl_file {}\n", acl_file(dir)?.display())?,
            Guard::DynamicSecurity => {
                let (plugin, config) = dynamic_security(version, dir)?;
                write!(text, "allow_anonymous false\nplugin {}\nplugin_opt_config_file {}\n", plugin.display(), config.display())?;
            }
        }
        std::fs::write(&conf, text)?;
        let program = version.program("mosquitto")?;
        let child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(program)
            .arg("-c")
            .arg(&conf)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let broker = Self { child, port };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(broker.address()).is_err() {
            if Instant::now() > deadline {
                return Err(format!("Mosquitto {} with {} does not listen", version.label(), guard.name()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Returns the CPU time that the process has used: fields 14 and 15 of its `stat` are too coarse, `schedstat` has nanoseconds.
    fn cpu(&self) -> Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.child.id()))?;
        let nanoseconds = text.split_whitespace().next().ok_or("schedstat is empty")?;
        Ok(Duration::from_nanos(nanoseconds.parse()?))
    }
}

fn acl_file(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("rules.acl");
    let mut text = String::from("user bench\n");
    for n in 0..99 {
        writeln!(text, "topic readwrite site/{}/line/{n}/+", n + 100)?;
    }
    text.push_str("topic readwrite site/+/line/#\n");
    std::fs::write(&path, text)?;
    Ok(path)
}

fn dynamic_security(version: MosquittoVersion, dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let plugin = version.dynamic_security()?;
    let config = dir.join("dynamic-security.json");
    if !config.exists() {
        let acls: Vec<String> = (0..20)
            .flat_map(|n| {
                let topic = if n == 19 { "site/+/line/#".to_owned() } else { format!("site/{}/line/{n}/+", n + 100) };
                ["publishClientSend", "publishClientReceive", "subscribePattern"]
                    .map(|kind| format!(r#"{{"acltype":"{kind}","topic":"{topic}","priority":0,"allow":true}}"#))
            })
            .collect();
        // The password's hash is made by the broker's own tool.
        let password_file = dir.join("password");
        let made = Command::new(version.program("mosquitto_passwd")?)
            .args(["-b", "-c"])
            .arg(&password_file)
            .args(["bench", "bench"])
            .status()?;
        let line = std::fs::read_to_string(&password_file)?;
        let hash: Vec<&str> = line.trim().split(['$', ':']).collect();
        let ["bench", "", "7", iterations, salt, password] = hash[..] else {
            return Err(format!("mosquitto_passwd wrote something unknown ({made})").into());
        };
        std::fs::write(
            &config,
            format!(
                r#"{{"defaultACLAccess":{{"publishClientSend":false,"publishClientReceive":false,"subscribe":false,"unsubscribe":true}},
"clients":[{{"username":"bench","roles":[{{"rolename":"bench"}}],"password":"{password}","salt":"{salt}","iterations":{iterations}}}],
"roles":[{{"rolename":"bench","acls":[{}]}}]}}"#,
                acls.join(",")
            ),
        )?;
    }
    Ok((plugin, config))
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
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
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

fn subscribe(stream: &mut TcpStream, filter: &str) -> Result<()> {
    let mut body = vec![0, 1];
    text(&mut body, filter);
    body.push(0);
    stream.write_all(&packet(0x82, &body))?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    if answer != [0x90, 3, 0, 1, 0] {
        return Err(format!("no subscription: {answer:?}").into());
    }
    Ok(())
}

/// Publishes `messages` to `fan_out` subscribers, `in_flight` at a time; returns the broker's CPU time per delivered message.
fn measure(broker: &Broker, fan_out: usize, in_flight: usize, messages: usize) -> Result<Duration> {
    let mut subscribers = Vec::new();
    for n in 0..fan_out {
        let mut stream = connect(broker, &format!("sub-{n}"))?;
        subscribe(&mut stream, "site/+/line/+/temperature")?;
        stream.set_nonblocking(true)?;
        subscribers.push(stream);
    }
    let mut publisher = connect(broker, "pub")?;
    let mut body = Vec::new();
    text(&mut body, TOPIC);
    body.extend([b'x'; PAYLOAD]);
    let publish = packet(0x30, &body);
    let mut poll = Poll::new()?;
    for (n, stream) in subscribers.iter().enumerate() {
        poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), Token(n), Interest::READABLE)?;
    }
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 1 << 20];
    let mut turn = |count: usize| -> Result<()> {
        publisher.write_all(&publish.repeat(count))?;
        let mut missing = publish.len() * count * fan_out;
        while missing > 0 {
            poll.poll(&mut events, Some(Duration::from_secs(10)))?;
            if events.is_empty() {
                return Err(format!("{missing} bytes did not arrive within 10 s").into());
            }
            for event in &events {
                let mut stream = &subscribers[event.token().0];
                loop {
                    match stream.read(&mut buffer) {
                        Ok(0) => return Err("a subscriber was cut off".into()),
                        Ok(read) => missing = missing.checked_sub(read).ok_or("more arrived than was sent")?,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    };
    for _ in 0..10 {
        turn(in_flight)?;
    }
    let before = broker.cpu()?;
    let turns = messages.div_ceil(in_flight);
    for _ in 0..turns {
        turn(in_flight)?;
    }
    let used = broker.cpu()?.saturating_sub(before);
    Ok(used / u32::try_from(turns * in_flight * fan_out)?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1)).cloned();
    let rounds: usize = value("--rounds").map_or(Ok(5), |text| text.parse())?;
    let only = value("--version");
    let only_fan_out: Option<usize> = value("--fan-out").map(|text| text.parse()).transpose()?;
    let times: usize = value("--times").map_or(Ok(1), |text| text.parse())?;
    Command::new("taskset").args(["-cp", "1", &std::process::id().to_string()]).stdout(Stdio::null()).status()?;
    if !workspace().join("dist/midge.so").exists() {
        return Err("dist/midge.so is missing: run `cargo xtask plugin`".into());
    }
    let redis = RedisServer::builder(RedisVersion::Redis7).start()?;
    redis.cli(&["HSET", "midge:user:{bench}", "password", "{plain}bench"])?;
    for n in 0..19 {
        redis.cli(&["HSET", "midge:user:{bench}:acl", &format!("site/{}/line/{n}/+", n + 100), "prs"])?;
    }
    redis.cli(&["HSET", "midge:user:{bench}:acl", "site/+/line/#", "prs"])?;
    println!("| Mosquitto | fan-out | in flight | {} |", Guard::ALL.map(Guard::name).join(" | "));
    println!("|---|---:|---:|{}", "---:|".repeat(4));
    for version in [MosquittoVersion::V2_0_11, MosquittoVersion::V2_0_21, MosquittoVersion::V2_1_2] {
        if only.as_ref().is_some_and(|only| *only != version.label()) {
            continue;
        }
        for (fan_out, in_flight, messages) in [(1, 1, 20_000), (10, 1, 5_000), (100, 1, 1_000), (500, 1, 300), (500, 20, 400)] {
            if only_fan_out.is_some_and(|only| only != fan_out) {
                continue;
            }
            let mut figures: BTreeMap<Guard, Vec<f64>> = BTreeMap::new();
            for round in 0..rounds {
                // Each round begins with another one, so that none always follows the same.
                for at in 0..Guard::ALL.len() {
                    let guard = Guard::ALL[(at + round) % Guard::ALL.len()];
                    let dir = tempfile::tempdir()?;
                    let broker = Broker::start(version, guard, dir.path(), &redis)?;
                    let cost = measure(&broker, fan_out, in_flight, messages * times)?;
                    figures.entry(guard).or_default().push(cost.as_secs_f64() * 1e6);
                }
            }
            let medians: Vec<f64> = Guard::ALL.iter().map(|guard| median(figures[guard].clone())).collect();
            // Within a round, so that a clock rate that changes between rounds changes nothing.
            let over = |guard: &Guard| {
                let ratios = figures[guard].iter().zip(&figures[&Guard::None]).map(|(cost, none)| cost / none);
                (median(ratios.collect()) - 1.0) * 100.0
            };
            let cells: Vec<String> =
                Guard::ALL.iter().zip(&medians).map(|(guard, cost)| format!("{cost:.2} ({:+.1} %)", over(guard))).collect();
            println!("| {} | {fan_out} | {in_flight} | {} |", version.label(), cells.join(" | "));
        }
    }
    println!(
        "\nMicroseconds of broker CPU per delivered message, median of {rounds} rounds; in brackets the median of the ratios to no access control in the same round."
    );
    Ok(())
}
