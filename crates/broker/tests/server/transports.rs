//! MQTT is the same whatever lies between it and the network.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use anyhow::Result;
use midge_broker::server::{Address, Listen, TlsFiles, WebSocketSettings};
use midge_testkit::{Certs, Connect, Finished, MosquittoSub, MosquittoVersion, Protocol, mosquitto_pub};

use crate::support::{PATIENCE, Running, local};

const CLIENTS: MosquittoVersion = MosquittoVersion::V2_1_2;

fn files(certs: &Certs) -> TlsFiles {
    let (certificates, key) = (certs.server.cert.clone(), certs.server.key.clone());
    TlsFiles { certificates, key, client_authorities: None, client_certificate_required: false }
}

/// Passes messages of many sizes from one of Mosquitto's commands to another.
fn pass(server: &Running, listener: usize, args: &[&str]) -> Result<()> {
    let port = server.port_of(listener);
    for (version, qos) in [("mqttv31", "0"), ("mqttv311", "1"), ("mqttv5", "2")] {
        let with = |more: &[&'static str]| [args, &["-V", version, "-q", qos], more].concat();
        let mut sub = MosquittoSub::start(CLIENTS, port, &with(&["-t", "t/#"]))?;
        mosquitto_pub(CLIENTS, port, &with(&["-t", "t/1", "-m", "hello"]))?.success()?;
        let large = "x".repeat(100_000);
        let large = [&with(&["-t", "t/2", "-m"])[..], &[&large]].concat();
        mosquitto_pub(CLIENTS, port, &large)?.success()?;
        let got = sub.wait(2, PATIENCE)?;
        assert_eq!((got[0].payload.as_str(), got[1].payload.len()), ("hello", 100_000), "{version}");
    }
    Ok(())
}

#[test]
fn tls_and_websocket_and_both() -> Result<()> {
    let certs = Certs::new()?;
    let tls = Some(files(&certs));
    let websocket = Some(WebSocketSettings::default());
    let listeners = vec![
        Listen { tls: tls.clone(), ..local() },
        Listen { websocket: websocket.clone(), ..local() },
        Listen { tls, websocket, ..local() },
    ];
    for loops in [1, 3] {
        let server = Running::listening(loops, listeners.clone())?;
        let ca = certs.ca.to_str().expect("a path of ASCII");
        pass(&server, 0, &["--cafile", ca])?;
        pass(&server, 1, &["--ws"])?;
        pass(&server, 2, &["--ws", "--cafile", ca])?;
    }
    Ok(())
}

#[test]
fn a_unix_socket() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("mqtt.sock");
    let listener = Listen { unix_mode: Some(0o600), ..Listen::at(Address::Unix(path.clone())) };
    for _ in 0..2 {
        let server = Running::listening(2, vec![listener.clone()])?;
        assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        let mut stream = UnixStream::connect(&path)?;
        stream.write_all(&Connect::new(Protocol::V3_1_1, "unix").encode())?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        assert_eq!(answer, *b"\x20\x02\x00\x00");
        server.stop();
        assert!(!path.exists());
    }
    // One that was left behind is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(&path)?);
    Running::listening(1, vec![listener])?;
    Ok(())
}

#[test]
fn a_socket_that_somebody_else_has_bound() -> Result<()> {
    let bound = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = bound.local_addr()?;
    let listener = Listen { inherited: Some(Arc::new(bound.into())), ..Listen::tcp(address) };
    let server = Running::listening(1, vec![listener])?;
    assert_eq!(server.port(), address.port());
    pass(&server, 0, &[])
}

#[test]
fn a_certificate_is_exchanged_while_connections_go_on() -> Result<()> {
    let (old, new) = (Certs::new()?, Certs::new()?);
    let dir = tempfile::tempdir()?;
    let (cert, key) = (dir.path().join("cert"), dir.path().join("key"));
    let install = |certs: &Certs| -> Result<()> {
        std::fs::copy(&certs.server.cert, &cert)?;
        std::fs::copy(&certs.server.key, &key)?;
        Ok(())
    };
    install(&old)?;
    let files = Some(TlsFiles { certificates: cert.clone(), key: key.clone(), ..files(&old) });
    let server = Running::listening(2, vec![Listen { tls: files.clone(), ..local() }])?;
    let reload = || server.handle().reload_certificates(std::slice::from_ref(&files));
    let path = |certs: &Certs| certs.ca.to_str().expect("a path of ASCII").to_owned();
    let publish = |ca: &str| mosquitto_pub(CLIENTS, server.port(), &["--cafile", ca, "-t", "t", "-m", "x", "-q", "1"]);
    let mut sub = MosquittoSub::start(CLIENTS, server.port(), &["--cafile", &path(&old), "-t", "t"])?;
    install(&new)?;
    reload()?;
    publish(&path(&new))?.success()?;
    assert!(!publish(&path(&old))?.status.success());
    std::fs::write(&key, "no key")?;
    let error = reload().expect_err("there is no key");
    assert!(error.to_string().starts_with("cannot use the certificates of 127.0.0.1:"), "{error}");
    publish(&path(&new))?.success()?;
    assert_eq!(sub.wait(2, PATIENCE)?.len(), 2);
    Ok(())
}

#[test]
fn a_client_without_a_needed_certificate_is_refused() -> Result<()> {
    let certs = Certs::new()?;
    let client = certs.client("alice")?;
    let files = TlsFiles { client_authorities: Some(certs.ca.clone()), client_certificate_required: true, ..files(&certs) };
    let server = Running::listening(2, vec![Listen { tls: Some(files), ..local() }])?;
    let ca = certs.ca.to_str().expect("a path of ASCII");
    let publish = |more: &[&str]| -> Result<Finished> {
        mosquitto_pub(CLIENTS, server.port(), &[&["--cafile", ca, "-t", "t", "-m", "x"][..], more].concat())
    };
    assert!(!publish(&[])?.status.success());
    let (cert, key) = (client.cert.to_str().expect("ASCII"), client.key.to_str().expect("ASCII"));
    publish(&["--cert", cert, "--key", key])?.success()?;
    Ok(())
}
