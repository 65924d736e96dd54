//! Clients of others, with a server that nobody configured.
//!
//! Each is a program in `tests/interop`, started with the ports of a server that has a listener of each kind:
//! plain, WebSocket, TLS, both. A program ends well when all that it sees is as its users expect.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use midge_testkit::{Certs, Connect, Finished, Protocol, RawClient, Value, peer, workspace};

use crate::served::{Served, free_port};

/// How long a program may take for everything.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a program against a server of its own.
fn show(command: &mut Command) {
    let certs = Certs::new().unwrap();
    let (cert, key) = (certs.server.cert.display().to_string(), certs.server.key.display().to_string());
    let ports = [free_port(), free_port(), free_port()];
    let server = Served::listening(|folder| {
        let mut text = String::from("[[listener]]\naddress = \"127.0.0.1:1\"\n");
        for (port, rest) in ports.iter().zip(["protocol = \"ws\"", "", "protocol = \"ws\""]) {
            text += &format!("[[listener]]\naddress = \"127.0.0.1:{port}\"\n{rest}\n");
            if *port != ports[0] {
                text += &format!("tls.certificate = \"{cert}\"\ntls.key = \"{key}\"\n");
            }
        }
        std::fs::write(folder.join("midge.toml"), text).unwrap();
        vec!["--config".to_owned(), "midge.toml".to_owned()]
    });
    let [ws, tls, wss] = ports.map(|port| port.to_string());
    command.args([server.port.to_string(), ws, tls, wss]).arg(&certs.ca);
    let said = Finished::run(command, PATIENCE).unwrap().success().unwrap();
    assert!(said.trim_end().ends_with("done"), "{said}");
}

fn program(name: &str) -> std::path::PathBuf {
    workspace().join("tests/interop").join(name)
}

fn python(script: &str) -> Command {
    let mut command = Command::new(peer("clients/venv/bin/python").unwrap());
    command.arg(program(script));
    command
}

#[test]
fn paho_for_python() {
    show(&mut python("with_paho.py"));
}

#[test]
fn an_older_paho_for_python() {
    show(python("with_paho.py").env("PYTHONPATH", peer("clients/paho1").unwrap()));
}

#[test]
fn aiomqtt_gmqtt_and_amqtt() {
    show(&mut python("with_asyncio.py"));
}

#[test]
fn mqtt_js() {
    show(Command::new("node").arg(program("with_mqttjs.mjs")).env("MODULES", peer("clients/node_modules").unwrap()));
}

#[test]
fn mosquitto_rr() {
    let server = Served::plain();
    let question = |version: &str, qos: u8| {
        let mut command = Command::new(peer("bin/mosquitto_rr-2.1.2").unwrap());
        command.args(["-p", &server.port.to_string(), "-V", version, "-q", &qos.to_string(), "-W", "20"]);
        command.args(["-t", "ask", "-e", "answer/%1", "-m", "question"]);
        Finished::run(&mut command, PATIENCE).unwrap().success().unwrap()
    };
    let mut responder = RawClient::connect(server.port, &Connect::new(Protocol::V5, "responder")).unwrap();
    responder.subscribe(&[("ask", 2)]).unwrap();
    for version in ["5", "311", "31"] {
        for qos in 0..3 {
            std::thread::scope(|scope| {
                let asked = scope.spawn(|| question(version, qos));
                let message = responder.message(PATIENCE).unwrap().expect("the question");
                assert_eq!((message.payload.as_slice(), message.qos), (&b"question"[..], qos));
                // Response Topic: 5.0 alone can say it.
                let topic = message.properties.iter().find(|property| property.0 == 0x08).map(|property| property.1.clone());
                assert_eq!(topic, (version == "5").then(|| Value::Bytes(b"answer/%1".to_vec())));
                responder.publish("answer/%1", b"42", qos, false).unwrap();
                assert_eq!(asked.join().unwrap().trim_end(), "42");
            });
        }
    }
}

#[test]
fn paho_for_c() {
    let folder = tempfile::tempdir().unwrap();
    let built: &Path = &folder.path().join("with_paho");
    let mut compiler = Command::new("cc");
    compiler.arg("-o").arg(built).arg(program("with_paho.c")).arg("-lpaho-mqtt3cs");
    Finished::run(&mut compiler, PATIENCE).unwrap().success().expect("`cargo xtask setup` brings Paho for C");
    show(&mut Command::new(built));
}
