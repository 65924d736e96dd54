//! Mosquitto's commands work, whatever version and QoS they speak.

use anyhow::Result;
use midge_testkit::{MosquittoSub, MosquittoVersion, mosquitto_pub};

use crate::support::{PATIENCE, Running};

const CLIENTS: MosquittoVersion = MosquittoVersion::V2_1_2;

/// The names that Mosquitto's commands have for the versions of the protocol.
const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

fn publish(port: u16, args: &[&str]) -> Result<()> {
    mosquitto_pub(CLIENTS, port, args)?.success().map(drop)
}

#[test]
fn every_version_and_qos_passes_messages_to_every_other() -> Result<()> {
    for loops in [1, 3] {
        let server = Running::plain(loops)?;
        for (from, to, qos) in
            VERSIONS.iter().flat_map(|from| VERSIONS.iter().zip(["0", "1", "2"]).map(move |(to, qos)| (from, to, qos)))
        {
            let mut sub = MosquittoSub::start(CLIENTS, server.port(), &["-V", to, "-q", "2", "-t", "a/+/c"])?;
            publish(server.port(), &["-V", from, "-q", qos, "-t", "a/b/c", "-m", "hello"])?;
            let got = sub.wait(1, PATIENCE)?;
            assert_eq!((got[0].topic.as_str(), got[0].payload.as_str(), got[0].qos.to_string().as_str()), ("a/b/c", "hello", qos));
        }
    }
    Ok(())
}

#[test]
fn retained_messages_reach_who_subscribes_later() -> Result<()> {
    let server = Running::plain(2)?;
    publish(server.port(), &["-r", "-q", "1", "-t", "state/door", "-m", "open"])?;
    for version in VERSIONS {
        let mut sub = MosquittoSub::start(CLIENTS, server.port(), &["-V", version, "-t", "state/#"])?;
        let got = sub.wait(1, PATIENCE)?;
        assert_eq!((got[0].payload.as_str(), got[0].retain), ("open", true));
    }
    Ok(())
}

#[test]
fn a_persistent_session_gets_what_it_missed() -> Result<()> {
    let server = Running::plain(2)?;
    for version in VERSIONS {
        let args = ["-V", version, "-c", "-i", version, "-q", "1", "-t", version, "-x", "1000"];
        let args = if version == "mqttv5" { &args[..] } else { &args[..args.len() - 2] };
        drop(MosquittoSub::start(CLIENTS, server.port(), args)?);
        publish(server.port(), &["-q", "1", "-t", version, "-m", "missed"])?;
        let mut sub = MosquittoSub::spawn(CLIENTS, server.port(), args)?;
        assert_eq!(sub.wait(1, PATIENCE)?[0].payload, "missed");
    }
    Ok(())
}

#[test]
fn a_shared_subscription_gives_each_message_to_one() -> Result<()> {
    let server = Running::plain(3)?;
    let mut subs = Vec::new();
    for id in ["one", "two", "three"] {
        subs.push(MosquittoSub::start(CLIENTS, server.port(), &["-V", "5", "-i", id, "-q", "1", "-t", "$share/group/work"])?);
    }
    let mut all = MosquittoSub::start(CLIENTS, server.port(), &["-q", "1", "-t", "work"])?;
    for _ in 0..9 {
        publish(server.port(), &["-q", "1", "-t", "work", "-m", "x"])?;
    }
    all.wait(9, PATIENCE)?;
    midge_testkit::until("9 messages in all", PATIENCE, || {
        let counts: Vec<usize> = subs.iter().map(|sub| Ok(sub.messages()?.len())).collect::<Result<_>>()?;
        Ok((counts.iter().sum::<usize>() >= 9).then_some(()))
    })?;
    for sub in &subs {
        assert_eq!(sub.messages()?.len(), 3);
    }
    Ok(())
}

#[test]
fn a_will_tells_that_a_client_was_lost() -> Result<()> {
    let server = Running::plain(2)?;
    let mut watcher = MosquittoSub::start(CLIENTS, server.port(), &["-q", "2", "-t", "gone/#"])?;
    for version in VERSIONS {
        let will = format!("gone/{version}");
        let args = ["-V", version, "-t", "x", "--will-topic", &will, "--will-payload", "lost", "--will-qos", "2"];
        let mut client = MosquittoSub::start(CLIENTS, server.port(), &args)?;
        client.process().signal(rustix::process::Signal::KILL)?;
    }
    let mut topics: Vec<String> = watcher.wait(3, PATIENCE)?.into_iter().map(|message| message.topic).collect();
    topics.sort();
    assert_eq!(topics, ["gone/mqttv31", "gone/mqttv311", "gone/mqttv5"]);
    Ok(())
}
