//! Starts a Mosquitto, pinned to one core, under a guard.

use std::error::Error;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use midge_testkit::{MosquittoVersion, RedisServer, free_port, workspace};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A broker's access control, in the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Guard {
    None,
    /// A plugin that lets everybody do everything.
    Nothing,
    Midge,
    /// With all that can be switched on.
    Everything,
    AclFile,
    DynamicSecurity,
}

impl Guard {
    pub(crate) const ALL: [Self; 6] =
        [Self::None, Self::Nothing, Self::Midge, Self::Everything, Self::AclFile, Self::DynamicSecurity];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no access control",
            Self::Nothing => "a plugin that does nothing",
            Self::Midge => "Midge, 20 rules",
            Self::Everything => "Midge, everything on",
            Self::AclFile => "acl_file, 100 rules",
            Self::DynamicSecurity => "dynamic-security, 20 rules",
        }
    }
}

pub(crate) struct Broker {
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
    pub(crate) fn start(version: MosquittoVersion, guard: Guard, dir: &Path, redis: &RedisServer) -> Result<Self> {
        let port = free_port()?;
        let conf = dir.join(format!("{guard:?}.conf"));
        let mut text = format!("listener {port} 127.0.0.1\nlog_type error\nmax_queued_messages 100000\n");
        match guard {
            Guard::None => text.push_str("allow_anonymous true\n"),
            Guard::Nothing => write!(text, "allow_anonymous true\nplugin {}\n", nothing(dir)?.display())?,
            Guard::Midge => text.push_str(&plugin(redis)),
            Guard::Everything => write!(
                text,
                "{}auth_opt_metrics 127.0.0.1:{}\nauth_opt_offline_stream true\nauth_opt_hot_patterns chat/+/msg fleet/#\n",
                plugin(redis),
                free_port()?
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

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Returns the CPU time of all its threads: fields 14 and 15 of `stat` are too coarse, `schedstat` has nanoseconds.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            nanoseconds += text.split_whitespace().next().ok_or("schedstat is empty")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

/// Returns the lines that load the plugin.
fn plugin(redis: &RedisServer) -> String {
    let file = workspace().join("dist/midge.so");
    format!("allow_anonymous false\nauth_plugin {}\nauth_opt_store {}\n", file.display(), redis.url())
}

/// Makes the plugin that does nothing.
fn nothing(dir: &Path) -> Result<PathBuf> {
    let file = dir.join("nothing.so");
    let source = workspace().join("benches/host_cost/nothing.c");
    let made = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&file).arg(source).status()?;
    if made.success() { Ok(file) } else { Err(format!("cc ended with {made}").into()) }
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
            .stdout(Stdio::null())
            .stderr(Stdio::null())
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
