//! What Mosquitto's monitoring reads, this server says too.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use midge_broker::server::Settings;
use midge_testkit::{Connect, MosquittoSub, MosquittoVersion, Protocol, RawClient, until};

use crate::support::{PATIENCE, Running};

#[test]
fn the_numbers_add_up() -> Result<()> {
    let interval = Some(Duration::from_millis(200));
    let server = Running::start(Settings { loops: 2, sys_interval: interval, ..Settings::default() })?;
    let mut clients = Vec::new();
    for id in ["a", "b", "c"] {
        let mut client = RawClient::connect(server.port(), &Connect::new(Protocol::V5, id))?;
        client.subscribe(&[("t", 1)])?;
        clients.push(client);
    }
    RawClient::connect(server.port(), &Connect::new(Protocol::V5, "away").persistent())?.disconnect()?;
    for _ in 0..5 {
        clients[0].publish("t", b"12345", 1, true)?;
    }
    let sub = MosquittoSub::start(MosquittoVersion::V2_1_2, server.port(), &["-t", "$SYS/broker/#"])?;
    let expected = [
        ("clients/connected", "4"),
        ("clients/total", "5"),
        ("clients/disconnected", "1"),
        ("subscriptions/count", "4"),
        ("publish/messages/received", "5"),
        ("publish/bytes/received", "25"),
    ];
    until("the numbers", PATIENCE, || {
        let said = said(&sub)?;
        Ok(expected.iter().all(|(name, number)| said.get(*name).is_some_and(|text| text == number)).then_some(()))
    })
    .map_err(|error| error.context(format!("{:?}", said(&sub))))?;
    let said = said(&sub)?;
    assert_eq!(said["version"], concat!("midge version ", env!("CARGO_PKG_VERSION")));
    assert!(said["uptime"].ends_with(" seconds"));
    let count = |name: &str| said[name].parse::<u64>().expect("a number");
    assert!(count("publish/messages/sent") >= 15);
    assert!(count("bytes/sent") > 100 && count("messages/received") >= 12);
    Ok(())
}

#[test]
fn nobody_else_can_say_it() -> Result<()> {
    let server = Running::plain(1)?;
    let mut client = RawClient::connect(server.port(), &Connect::new(Protocol::V5, "liar"))?;
    assert_eq!(client.publish("$SYS/broker/version", b"mine", 1, true)?, 0x87);
    Ok(())
}

fn said(sub: &MosquittoSub) -> Result<BTreeMap<String, String>> {
    let all = sub.messages()?.into_iter();
    Ok(all.map(|message| (message.topic.trim_start_matches("$SYS/broker/").to_owned(), message.payload)).collect())
}
