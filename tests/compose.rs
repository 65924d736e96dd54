//! Starts the whole stack of the compose file.
//!
//! No image is pulled: Debian's and Redis's own names are given to images that `cargo xtask setup` has made of Debian's packages.
//! Needs root, as a Docker engine does. Engine, containers, volumes and networks end with the test, and what the engine did to the machine's network.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use midge_testkit::{Connect, Finished, Process, Protocol, RawClient, free_port, peer, plugin, until, workspace};
use tempfile::TempDir;

/// Building the image includes downloads from Debian.
const BUILD: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);

/// A Docker engine with a project folder, as a user has one after building.
struct Stack {
    dir: TempDir,
    port: u16,
    /// The broker's.
    broker_port: u16,
    engine: Process,
    network: Option<Network>,
}

impl Stack {
    fn start() -> Self {
        let network = Network::without_engine();
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut command = Command::new("dockerd");
        command.arg("--host").arg(format!("unix://{}", path("socket").display()));
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(option).arg(path(name));
        }
        let engine = Process::spawn("dockerd", &mut command, &path("log"))
            .expect("a Docker engine is needed: apt-get install docker.io docker-compose");
        let mut stack = Self { port: free_port().unwrap(), broker_port: free_port().unwrap(), engine, network, dir };
        stack.engine.wait_log("API listen on", MINUTE).expect("dockerd needs root, iptables and a free docker0");
        stack.import("debian:trixie-slim", "images/debian-trixie-slim.tar", &[]);
        let entrypoint = "ENTRYPOINT [\"docker-entrypoint.sh\"]";
        stack.import(
            "redis:7",
            "images/redis-7.tar",
            &["--change", entrypoint, "--change", "VOLUME /data", "--change", "WORKDIR /data"],
        );
        stack.copy_project();
        stack
    }

    fn import(&self, name: &str, tarball: &str, options: &[&str]) {
        let mut command = Command::new("docker");
        command.arg("import").args(options).arg(peer(tarball).unwrap()).arg(name);
        self.run(&mut command, MINUTE * 3).success().unwrap();
    }

    fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    fn copy_project(&self) {
        let dist = self.project().join("dist");
        std::fs::create_dir_all(dist.join("bin")).unwrap();
        for name in ["docker-compose.yml", ".dockerignore", "docker", "mosquitto-conf"] {
            let mut copy = Command::new("cp");
            self.run(copy.arg("-r").arg(workspace().join(name)).arg(self.project()), MINUTE).success().unwrap();
        }
        std::fs::copy(plugin().unwrap(), dist.join("midge.so")).unwrap();
        std::fs::copy(command_line_tool(), dist.join("bin/midge")).unwrap();
    }

    fn run(&self, command: &mut Command, time: Duration) -> Finished {
        command.env("DOCKER_HOST", format!("unix://{}/socket", self.dir.path().display()));
        command.env("MIDGE_PORT", self.port.to_string()).env("MIDGE_BROKER_PORT", self.broker_port.to_string());
        Finished::run(command, time).unwrap()
    }

    fn compose(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new("docker-compose");
        self.run(command.current_dir(self.project()).args(["--project-name", "midge"]).args(arguments), BUILD)
    }

    fn up(&self) {
        self.compose(&["up", "--detach", "--build"]).success().unwrap();
        for service in ["redis", "mosquitto", "broker"] {
            until(&format!("{service} to be healthy"), MINUTE, || {
                let id = self.compose(&["ps", "-q", service]).success()?;
                let mut inspect = Command::new("docker");
                let state =
                    self.run(inspect.args(["inspect", "--format", "{{.State.Health.Status}}", id.trim()]), MINUTE).success()?;
                Ok((state.trim() == "healthy").then_some(()))
            })
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.compose(&["logs", "--no-color"]).stdout));
        }
    }

    fn login(&self, password: &str) -> u8 {
        self.login_at(self.port, password)
    }

    fn login_at(&self, port: u16, password: &str) -> u8 {
        let connect = Connect::new(Protocol::V5, "phone").login("alice", password);
        match RawClient::try_connect(port, &connect).unwrap() {
            (mut client, 0) => client.publish("chat/x", b"hello", 1, false).unwrap(),
            (_, code) => code,
        }
    }

    /// Has a push reach clients of both servers.
    fn push(&self) {
        let client = |port| {
            let mut client = RawClient::connect(port, &Connect::new(Protocol::V5, "tablet").login("alice", "wonderland")).unwrap();
            assert_eq!(client.subscribe(&[("chat/#", 1)]).unwrap(), [1]);
            client
        };
        let mut clients = [self.port, self.broker_port].map(client);
        self.compose(&["run", "--rm", "-T", "cli", "push", "chat/all", "pushed"]).success().unwrap();
        for client in &mut clients {
            assert_eq!(client.message(MINUTE).unwrap().expect("the push").text().1, "pushed");
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let down = self.compose(&["down", "--volumes", "--timeout", "5"]);
        if !down.status.success() {
            eprintln!("docker-compose down: {}", down.stderr);
        }
        // Asked to end, it takes its containerd with it; killed by its guard it couldn't.
        let asked = Command::new("kill").arg(self.engine.id().to_string()).status();
        if let Err(error) = self.engine.wait(MINUTE) {
            eprintln!("dockerd: {error:#} ({asked:?})");
        }
        if let Some(network) = self.network.take() {
            network.restore();
        }
    }
}

/// How the machine's network was before a Docker engine came, which leaves a bridge and rules behind.
struct Network {
    forward_policy: String,
    forwarding: Vec<u8>,
}

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

impl Network {
    /// Returns `None` where an engine is at home already: all that is found is its own.
    fn without_engine() -> Option<Self> {
        if Path::new("/sys/class/net/docker0").exists() {
            return None;
        }
        let rules = iptables("filter", &["-S", "FORWARD"]);
        let forward_policy = rules.lines().next()?.strip_prefix("-P FORWARD ")?.to_owned();
        Some(Self { forward_policy, forwarding: std::fs::read(FORWARDING).unwrap() })
    }

    fn restore(&self) {
        Finished::run(Command::new("ip").args(["link", "delete", "docker0"]), MINUTE).unwrap();
        for table in ["nat", "filter"] {
            let listed = iptables(table, &["-S"]);
            let chains = || listed.lines().filter_map(|line| line.strip_prefix("-N ")).filter(|name| name.starts_with("DOCKER"));
            for rule in listed.lines().filter(|rule| rule.contains("docker0") || rule.contains("DOCKER")) {
                if let Some(rule) = rule.strip_prefix("-A ") {
                    iptables(table, &["-D"].into_iter().chain(rule.split(' ')).collect::<Vec<_>>());
                }
            }
            chains().for_each(|chain| drop(iptables(table, &["-X", chain])));
        }
        iptables("filter", &["-P", "FORWARD", &self.forward_policy]);
        std::fs::write(FORWARDING, &self.forwarding).unwrap();
    }
}

fn iptables(table: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("iptables");
    Finished::run(command.args(["--wait", "--table", table]).args(arguments), MINUTE).unwrap().success().unwrap()
}

/// Returns the `midge` command, built now where it isn't.
fn command_line_tool() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    Finished::run(cargo.args(["build", "--package", "midge"]).current_dir(workspace()), BUILD * 2).unwrap().success().unwrap();
    let deps = std::env::current_exe().unwrap();
    deps.ancestors().nth(2).map(|profile: &Path| profile.join("midge")).unwrap()
}

/// A check of a broker that serves writes nothing to its log, and a broker that has stopped is found out.
fn check_health(stack: &Stack) {
    let healthy = || stack.compose(&["exec", "-T", "mosquitto", "healthy"]).status.success();
    assert!(healthy());
    let log = stack.compose(&["logs", "--no-color", "mosquitto"]).stdout;
    assert!(log.contains("New connection from") && !log.contains("New connection from 127.0.0.1"), "{log}");

    let id = stack.compose(&["ps", "-q", "mosquitto"]).success().unwrap();
    let mut inspect = Command::new("docker");
    let pid = stack.run(inspect.args(["inspect", "--format", "{{.State.Pid}}", id.trim()]), MINUTE).success().unwrap();
    for (name, expected) in [("STOP", false), ("CONT", true)] {
        let mut kill = Command::new("kill");
        stack.run(kill.args(["-s", name, pid.trim()]), MINUTE).success().unwrap();
        assert_eq!(healthy(), expected, "{name}");
    }
}

#[test]
fn the_stack_serves_and_keeps_its_data_and_has_no_known_password() {
    let stack = Stack::start();
    stack.up();
    let mut add = Command::new("sh");
    add.current_dir(stack.project());
    add.args(["-c", "echo wonderland | docker-compose --project-name midge run --rm -T cli user add alice --password-stdin"]);
    stack.run(&mut add, MINUTE).success().unwrap();
    stack.compose(&["run", "--rm", "-T", "cli", "acl", "add", "--user", "alice", "chat/#", "prs"]).success().unwrap();
    assert_eq!((stack.login("wonderland"), stack.login("wrong")), (0x10, 0x87));
    let at_broker = |password: &str| stack.login_at(stack.broker_port, password);
    assert_eq!((at_broker("wonderland"), at_broker("wrong")), (0x10, 0x86));
    stack.push();

    let said = stack.compose(&["exec", "-T", "redis", "redis-cli", "keys", "*"]);
    assert!(format!("{}{}", said.stdout, said.stderr).contains("NOAUTH"), "{said:?}");
    let published = stack.compose(&["port", "mosquitto", "1883"]).stdout;
    assert_eq!(published.trim(), format!("127.0.0.1:{}", stack.port));
    assert_eq!(stack.compose(&["port", "redis", "6379"]).stdout.trim(), "");
    check_health(&stack);

    stack.compose(&["down", "--timeout", "5"]).success().unwrap();
    stack.up();
    assert_eq!(stack.login_at(stack.broker_port, "wonderland"), 0x10);
    until("alice to be let in again", MINUTE, || Ok((stack.login("wonderland") == 0x10).then_some(()))).unwrap();
}
