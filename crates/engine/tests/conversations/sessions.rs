//! Connections, and sessions that outlive them: sections 3.1, 3.2, 3.14.

use midge_engine::limits::Settings;
use midge_mqtt::{Packet, PropertyId};

use crate::check;
use crate::script::{connect, play};
use crate::server::Server;

#[test]
fn connack_says_what_differs_from_the_default() {
    let plain = Settings { receive_maximum: u16::MAX, topic_alias_maximum: 0, ..Settings::default() };
    let narrow = Settings {
        receive_maximum: 20,
        topic_alias_maximum: 3,
        max_qos: midge_mqtt::QoS::AtLeastOnce,
        retain: false,
        max_packet_size: 1000,
        shared_subscriptions: false,
        max_session_expiry: 60,
        max_keep_alive: 30,
        ..Settings::default()
    };
    let all = [
        PropertyId::SessionExpiryInterval,
        PropertyId::ReceiveMaximum,
        PropertyId::MaximumQoS,
        PropertyId::RetainAvailable,
        PropertyId::MaximumPacketSize,
        PropertyId::AssignedClientIdentifier,
        PropertyId::TopicAliasMaximum,
        PropertyId::SharedSubscriptionAvailable,
        PropertyId::ServerKeepAlive,
    ];
    let asked = ["v5", "as=", "expiry=100", "keep=60", "answers=1"];
    let cases = [
        (&plain, &["v5", "keep=60", "expiry=100"][..], &[][..]),
        (&narrow, &["v4", "clean"], &[]),
        (&narrow, &asked, &all),
        // Nothing is cut, so nothing is said of it.
        (&narrow, &["v5", "expiry=60", "keep=30"], &[all[1], all[2], all[3], all[4], all[6], all[7]]),
        // No response information, asked for or not [MQTT-3.1.2-28].
        (&plain, &["v5", "answers=0"], &[]),
    ];
    for (settings, words, expected) in cases {
        let mut server = Server::new(1, settings.clone());
        connect(&mut server, "a", words);
        let ids = server.next_packet("a", |packet| {
            let Packet::Connack(connack) = packet else { panic!("{packet:?} before CONNACK") };
            connack.properties.iter().map(|property| property.id()).collect::<Vec<_>>()
        });
        assert_eq!(ids.as_deref(), Some(expected), "{words:?}");
    }
}

#[test]
fn what_is_too_large_for_the_client_is_not_sent() {
    check(
        "MQTT-3.1.2-24: CONNACK, SUBACK, UNSUBACK and DISCONNECT keep to the client's maximum packet size",
        "a> connect v5 max=10 refused=95
         a> connect v5 max=11
         a< connack new
         a> subscribe #1 1:q0 2:q0 3:q0 4:q0 5:q0 6:q0 7:q0
         a< disconnect 95
         a< closed
         b> connect v5 max=11
         b< connack new
         b> subscribe #1 1:q0 2:q0 3:q0 4:q0 5:q0 6:q0
         b< suback #1 00 00 00 00 00 00
         b> unsubscribe #2 1 2 3 4 5 6 7
         b< disconnect 95
         b< closed",
    );
    let settings = Settings { receive_maximum: u16::MAX, topic_alias_maximum: 0, ..Settings::default() };
    play(1, &settings, "a> connect v5 max=4 refused=95");
    play(
        1,
        &settings,
        "a> connect v5 max=5
         a< connack new
         a> publish t x q1 #1
         a< puback #1 10",
    );
}

#[test]
fn a_keep_alive_that_nobody_can_be_told_of_is_the_clients() {
    let settings = Settings { max_keep_alive: 10, ..Settings::default() };
    play(
        1,
        &settings,
        "a> connect v4 clean keep=20
         a< connack new
         n> connect v4 clean
         n< connack new
         b> connect v5 keep=20
         b< connack new keep=10
         c> connect v5
         c< connack new keep=10
         after 16
         b< disconnect 8D
         b< closed
         c< disconnect 8D
         c< closed
         after 13
         after 2
         a< closed
         after 100000",
    );
}

#[test]
fn who_is_not_listened_to_is_not_found_silent() {
    let settings = Settings { persistence: true, receive_maximum: 1, ..Settings::default() };
    play(
        1,
        &settings,
        "a> connect v5 keep=10 expiry=100
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         b> connect v5 keep=10
         b< connack new
         hold
         b> publish t x q1 #1
         a< publish t x q1 #1
         after 10
         a> ping
         a< pingresp
         after 10
         a> ping
         a< pingresp
         commit
         b< puback #1
         after 8
         a> ping
         a< pingresp
         after 8
         b< disconnect 8D
         b< closed",
    );
}

#[test]
fn a_session_expiry_that_is_not_granted_changes_nothing() {
    let settings = Settings { max_session_expiry: 0, ..Settings::default() };
    play(
        1,
        &settings,
        "w> connect v5
         w< connack new
         w> subscribe #1 #:q0
         w< suback #1 00
         a> connect v5 expiry=100 will=w,gone,q0
         a< connack new expiry=0
         a> disconnect expiry=50
         a< closed
         a> connect v5 expiry=100
         a< connack new expiry=0",
    );
}

#[test]
fn disconnect_changes_the_session_expiry() {
    check(
        "3.14.2.2.2: shorter, longer, not at all, and never from 0; the will is published on an error",
        "w> connect v5
         w< connack new
         w> subscribe #1 w/#:q0
         w< suback #1 00
         a> connect v5 expiry=100
         a< connack new
         a> disconnect expiry=0
         a< closed
         a> connect v5 expiry=10
         a< connack new
         a> disconnect expiry=1000
         a< closed
         after 999
         a> connect v5 expiry=10
         a< connack present
         a> disconnect
         a< closed
         after 11
         a> connect v5 will=w/a,gone,q0
         a< connack new
         a> disconnect expiry=1
         a< disconnect 82
         w< publish w/a gone
         a< closed",
    );
}

#[test]
fn a_session_lasts_as_long_as_its_connection() {
    check(
        "MQTT-4.1.0-1, MQTT-4.1.0-2; 3.1.1 MQTT-3.1.2-6, MQTT-4.1.0-2",
        "a> connect v5
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         b> connect v4 clean
         b< connack new
         b> subscribe #1 t:q1
         b< suback #1 01
         after 10000000
         p> connect v4 clean
         p< connack new
         p> publish t x q1 #1
         p< puback #1
         a< publish t x q1 #1
         b< publish t x q1 #1
         lose a
         lose b
         a> connect v5
         a< connack new
         b> connect v4
         b< connack new
         p> publish t y",
    );
}

#[test]
fn clean_start_takes_a_living_session_apart() {
    check(
        "MQTT-3.1.2-4, MQTT-3.1.4-3, MQTT-3.2.2-2: nothing of it comes back",
        "a> connect v5 expiry=100
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         p> connect v4 clean
         p< connack new
         p> publish t 1 q1 #1
         p< puback #1
         a< publish t 1 q1 #1
         b> connect v5 as=a clean expiry=100
         a< disconnect 8E
         a< closed
         b< connack new
         p> publish t 2 q1 #2
         p< puback #2
         lose b
         c> connect v4 as=a
         c< connack present
         c> subscribe #1 t:q1
         c< suback #1 01
         d> connect v4 as=a clean
         c< closed
         d< connack new",
    );
}

#[test]
fn what_is_no_packet_ends_the_connection() {
    check(
        "MQTT-4.13.1-1, 3.1.1 MQTT-4.8.0-1, MQTT-3.1.0-2: 5.0 says why, the others can't",
        "w> connect v5
         w< connack new
         w> subscribe #1 w/#:q0
         w< suback #1 00
         a> connect v5 will=w/a,gone,q0
         a< connack new
         raw a 0000
         a< disconnect 81
         w< publish w/a gone
         a< closed
         b> connect v4 will=w/b,gone,q0
         b< connack new
         raw b 0000
         b< closed
         w< publish w/b gone
         c> connect v5
         c< connack new
         raw c 101000044d51545405000000000003616263
         c< disconnect 82
         c< closed
         d> connect v4
         d< connack new
         raw d 100f00044d515454040200000003616263
         d< closed
         e> connect v5
         e< connack new
         raw e 3a05000174000178
         e< disconnect 81
         e< closed
         f> connect v5
         f< connack new
         raw f f000
         f< disconnect 82
         f< closed",
    );
}

#[test]
fn client_identifiers_name_sessions() {
    for id in ["a", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ", &"long-id/é".repeat(100)] {
        let script = format!(
            "a> connect v5 expiry=10 as={id}
             a< connack new
             b> connect v4 as=other
             b< connack new
             lose a
             c> connect v5 as={id}
             c< connack present"
        );
        check("MQTT-3.1.3-2, MQTT-3.1.3-5: any length, each its own", &script);
    }
}
