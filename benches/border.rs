//! Measures an access check through the border, and what clients cost.
//!
//! A fake host of Mosquitto's shape calls the plugin as the broker does, over a real Redis: time per access check with 20 and
//! with 10,000 rules, allocations per check, memory per connected client, and what a reconnect storm hashes.
//! Times are of the host's call until its return, taken in batches of 16.
//!
//! `cargo bench -p midge-plugin --bench border`; needs `cargo xtask plugin` before.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use midge_core::password::HashPolicy;
use midge_testkit::fake_host::text;
use midge_testkit::{FakeHost, HostKind, RedisServer, RedisVersion, workspace};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const RECEIVE: u8 = 1;
const PUBLISH: u8 = 2;
const CALLS: u32 = 2_000_000;
/// Clients that take turns in a measurement.
const CHECKED: u16 = 32;
/// Clients of the reconnect storm, and of the memory figure but for the first.
const CLIENTS: u16 = 5_000;
/// The clients before those, with whom comes what is used once: code, buffers, the threads' memory.
const FIRST: u16 = 500;
const PASSWORD: &str = "correct horse";

fn main() -> Result<()> {
    // Cargo runs benches as tests too, where there is nothing to measure.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    println!("| rules | access | answer | median ns | p99 ns | goal ns | allocations per check |");
    println!("|---:|---|---|---:|---:|---:|---:|");
    for rules in [20, 10_000] {
        checks(rules)?;
    }
    clients()
}

/// A loaded plugin, and the store behind it.
struct Setting {
    host: FakeHost,
    redis: RedisServer,
}

impl Setting {
    fn new(host: FakeHost) -> Result<Self> {
        let mut setting = Self { host, redis: RedisServer::builder(RedisVersion::Redis7).start()? };
        setting.host.load(&plugin()?)?;
        let url = setting.redis.url();
        let code = setting.host.init(&[("store", &url), ("login_deadline", "10s"), ("shield_address_attempts", "0")])?;
        if code != 0 {
            return Err(format!("the plugin doesn't start: {:?}", setting.host.calls()).into());
        }
        Ok(setting)
    }

    fn eval(&self, script: &str) -> Result<()> {
        Ok(self.redis.cli(&["EVAL", script, "0"]).map(drop)?)
    }

    /// Adds users `u0` to `u{count - 1}`, all of the group `g`.
    fn users(&self, count: u16) -> Result<()> {
        let hash = HashPolicy::mosquitto7(2_000)?.hash(PASSWORD.as_bytes())?;
        self.eval(&format!(
            "for n = 0, {} do redis.call('HSET', 'midge:user:{{u' .. n .. '}}', 'password', '{hash}', 'groups', 'g') end",
            count - 1
        ))
    }

    /// Gives the group that many rules, one of them with a placeholder and one a denial.
    fn rules(&self, count: u32) -> Result<()> {
        self.eval(&format!(
            "redis.call('HSET', 'midge:group:{{g}}:acl', 'inbox/%u/#', 'prs', 'site/+/line/+/key', '!prs') \
             for n = 0, {} do redis.call('HSET', 'midge:group:{{g}}:acl', 'site/' .. n .. '/line/+/temperature', 'prs') end",
            count - 3
        ))
    }

    fn login(&mut self, client: u16) -> Result<()> {
        let words = [client.to_string(), text(&format!("device-{client}")), text(&format!("u{client}")), text(PASSWORD)];
        match self.host.command("auth", &words)?.code {
            0 => Ok(()),
            code => Err(format!("client {client} is refused with {code}: {:?}", self.host.calls()).into()),
        }
    }

    /// Returns the resident memory of the host.
    fn memory_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.host.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Returns the CPU time that the threads which hash have used.
    fn hashing(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.host.id()))? {
            let task = task?.path();
            if std::fs::read_to_string(task.join("comm"))?.trim() == "midge-hash" {
                let schedstat = std::fs::read_to_string(task.join("schedstat"))?;
                nanoseconds += schedstat.split(' ').next().ok_or("schedstat is empty")?.parse::<u64>()?;
            }
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

fn plugin() -> Result<PathBuf> {
    let file = std::env::var_os("MIDGE_PLUGIN").map_or_else(|| workspace().join("dist/midge.so"), PathBuf::from);
    if file.exists() { Ok(file) } else { Err(format!("{} is missing: run `cargo xtask plugin`", file.display()).into()) }
}

fn checks(rules: u32) -> Result<()> {
    let prepared = |host| -> Result<Setting> {
        let mut setting = Setting::new(host)?;
        setting.rules(rules)?;
        setting.users(CHECKED)?;
        for client in 0..CHECKED {
            setting.login(client)?;
        }
        Ok(setting)
    };
    let mut timed = prepared(FakeHost::start(HostKind::V2_0)?)?;
    let mut counted = prepared(FakeHost::start_counting(HostKind::V2_0)?)?;
    let sites = rules - 2;
    let topics = |line: &str| (0..48).map(|n| format!("site/{}/line/{n}/{line}", n * 7919 % sites)).collect::<Vec<_>>();
    let goal = if rules <= 20 { 150 } else { 300 };
    for (answer, line) in [("allowed", "temperature"), ("no rule", "pressure"), ("denied", "key")] {
        let topics = topics(line);
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        for (name, access) in [("receive", RECEIVE), ("publish", PUBLISH)] {
            timed.host.bench_acl(CALLS / 10, access, &topics)?;
            let bench = timed.host.bench_acl(CALLS, access, &topics)?;
            if (bench.granted == bench.calls) != (answer == "allowed") || !(bench.granted == 0 || bench.granted == bench.calls) {
                return Err(format!("{answer}: {} of {} were granted", bench.granted, bench.calls).into());
            }
            counted.host.bench_acl(CALLS / 10, access, &topics)?;
            counted.host.allocations()?;
            let calls = counted.host.bench_acl(CALLS / 10, access, &topics)?.calls;
            let allocations = counted.host.allocations()?.0;
            #[expect(clippy::cast_precision_loss, reason = "for display")]
            let per_check = allocations as f64 / calls as f64;
            println!("| {rules} | {name} | {answer} | {:.0} | {:.0} | {goal} | {per_check:.4} |", bench.median_ns, bench.p99_ns);
        }
    }
    Ok(())
}

fn clients() -> Result<()> {
    let mut setting = Setting::new(FakeHost::start(HostKind::V2_0)?)?;
    setting.rules(20)?;
    setting.users(CLIENTS)?;
    for client in 0..FIRST {
        setting.login(client)?;
    }
    let before = (setting.memory_kib()?, setting.host.heap()?);
    for client in FIRST..CLIENTS {
        setting.login(client)?;
    }
    let grown = setting.memory_kib()?.saturating_sub(before.0) * 1024;
    let used = setting.host.heap()?.saturating_sub(before.1);
    let each = |bytes: u64| bytes / u64::from(CLIENTS - FIRST);
    println!(
        "\nMemory per connected client, the {FIRST}th to the {CLIENTS}th, each another user of one group with 20 rules: {} bytes resident, {} in use (goal 1024)",
        each(grown),
        each(used)
    );

    let hashed = setting.hashing()?;
    for client in 0..CLIENTS {
        setting.host.command("disconnect", &[client.to_string()])?;
    }
    setting.host.tick()?;
    let idle = setting.hashing()?;
    let start = Instant::now();
    for client in 0..CLIENTS {
        setting.login(client)?;
    }
    let took = start.elapsed();
    println!(
        "\nReconnect storm: the first logins of {CLIENTS} clients hashed for {:.1} s; all of them again took {:.2} s and hashed for {:.3} s (goal 0)",
        hashed.as_secs_f64(),
        took.as_secs_f64(),
        (setting.hashing()?.saturating_sub(idle)).as_secs_f64()
    );
    Ok(())
}
