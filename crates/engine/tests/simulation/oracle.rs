//! What must have arrived, and what must not.

use std::collections::BTreeMap;

use midge_core::topic::TopicName;
use midge_engine::tree::SubscriptionFilter;
use midge_mqtt::QoS;

use crate::client::{Delivered, Model, RETAINED};
use crate::server::Server;

/// How often each message arrived, by topic, publisher, QoS of publishing and number.
type Arrived = BTreeMap<(String, String, u32), usize>;

fn matches(filter: &str, topic: &str) -> bool {
    let filter = SubscriptionFilter::new(filter).expect("a filter");
    filter.filter().matches(TopicName::new(topic).expect("a topic name"))
}

/// Returns the QoS of the ordinary subscriptions of a client that match a topic.
fn granted(client: &Model, topic: &str) -> Option<QoS> {
    let ordinary = client.filters.iter().filter(|(filter, _)| !filter.starts_with("$share/"));
    ordinary.filter(|(filter, _)| matches(filter, topic)).map(|(_, qos)| *qos).max()
}

/// Checks all that clients have seen. `twice` says that a message of QoS 2 may have come twice.
pub(crate) fn check(clients: &[Model], server: &Server, twice: bool) {
    for client in clients {
        // Who comes and goes may well see what is published again for others; so may who wasn't allowed to before.
        let again = client.fleeting || (client.doubtful && twice);
        if !again {
            check_order(client);
        }
        for delivered in client.delivered.iter().filter(|_| !client.doubtful) {
            assert!(!server.denials.denies(&client.name, 'r', &delivered.topic), "{} got {delivered:?}", client.name);
        }
    }
    let published: Vec<&Delivered> = clients.iter().flat_map(|client| &client.published).collect();
    for client in clients.iter().filter(|client| !client.fleeting) {
        let arrived = count(client.delivered.iter().filter(|delivered| granted(client, &delivered.topic).is_some()));
        for message in &published {
            let Some(granted) = granted(client, &message.topic) else { continue };
            if server.denials.denies(&client.name, 'r', &message.topic) {
                continue;
            }
            let times = arrived.get(&key(message)).copied().unwrap_or(0);
            let who = &client.name;
            match message.qos.min(granted) {
                QoS::AtMostOnce => assert!(times <= 1, "{who} got {message:?} {times} times"),
                QoS::AtLeastOnce => assert!(times >= 1 || client.doubtful, "{who} never got {message:?}"),
                QoS::ExactlyOnce if message.qos == QoS::ExactlyOnce => {
                    assert!(
                        times == 1 || (twice && times > 0) || (client.doubtful && times == 0),
                        "{who} got {message:?} {times} times"
                    );
                }
                QoS::ExactlyOnce => unreachable!(),
            }
        }
    }
    check_group(clients, &published, twice);
}

/// Of the group, one member gets a message.
fn check_group(clients: &[Model], published: &[&Delivered], twice: bool) {
    let arrived =
        count(clients.iter().flat_map(|client| &client.delivered).filter(|delivered| delivered.topic.starts_with("job/")));
    for message in published.iter().filter(|message| message.topic.starts_with("job/")) {
        let times = arrived.get(&key(message)).copied().unwrap_or(0);
        match message.qos {
            QoS::AtMostOnce => assert!(times <= 1, "{message:?} came {times} times"),
            QoS::AtLeastOnce => assert!(times >= 1, "{message:?} never came"),
            // In flight to a member whose session ended, it goes to nobody else [MQTT-4.8.2-5].
            QoS::ExactlyOnce => assert!(times <= 1 || twice, "{message:?} came {times} times"),
        }
    }
}

/// In each line (a publisher, a topic, a QoS), what comes for the first time comes in order [MQTT-4.6.0-5].
fn check_order(client: &Model) {
    let mut last: BTreeMap<(&str, &str), (u32, Vec<u32>)> = BTreeMap::new();
    for delivered in client.delivered.iter().filter(|delivered| !delivered.topic.starts_with("job/")) {
        let (last, seen) = last.entry((&delivered.topic, &delivered.publisher)).or_default();
        if !seen.contains(&delivered.number) {
            assert!(delivered.number > *last, "{}: {delivered:?} after {last}", client.name);
            *last = delivered.number;
            seen.push(delivered.number);
        }
    }
}

fn key(message: &Delivered) -> (String, String, u32) {
    (message.topic.clone(), message.publisher.clone(), message.number)
}

fn count<'a>(delivered: impl Iterator<Item = &'a Delivered>) -> Arrived {
    let mut arrived = Arrived::new();
    for message in delivered {
        *arrived.entry(key(message)).or_default() += 1;
    }
    arrived
}

/// What is retained in the end is the last that one of the publishers retained, and all loops know the same.
pub(crate) fn check_retained(clients: &[Model], newcomers: &[Model]) {
    let last = |client: &Model| client.published.iter().rfind(|message| message.topic == RETAINED).cloned();
    let last: Vec<Delivered> = clients.iter().filter_map(last).collect();
    let cleared = last.is_empty() || last.iter().any(|message| message.number.is_multiple_of(5));
    for newcomer in newcomers {
        assert_eq!(newcomer.delivered, newcomers[0].delivered, "loops differ in what is retained");
        match &newcomer.delivered[..] {
            [] => assert!(cleared, "{last:?} is gone"),
            [kept] => assert!(last.contains(kept), "{kept:?} isn't the last of {last:?}"),
            more => panic!("{more:?} is retained for one topic"),
        }
    }
}
