//! Retained messages: section 3.3.1.3.

use midge_engine::limits::Settings;
use midge_engine::retained::Bounds;
use midge_mqtt::Packet;

use crate::check;
use crate::script::{play, play_on};

#[test]
fn a_retained_message_is_nobodys_session() {
    check(
        "MQTT-3.3.1-7, MQTT-3.3.1-8; 3.1.1 MQTT-3.1.2-7: it outlives its publisher, and only RETAIN changes it",
        "a> connect v4 clean
         a< connack new
         a> publish t 1 q1 #1 retain
         a< puback #1
         a> publish t 2
         a> publish t -
         a> disconnect
         a< closed
         b> connect v5
         b< connack new
         b> subscribe #1 t:q2
         b< suback #1 02
         b< publish t 1 q1 #1 retain
         b> publish t - retain
         b< publish t -
         b> subscribe #2 t:q2
         b< suback #2 02",
    );
}

#[test]
fn no_local_holds_for_retained_messages() {
    check(
        "MQTT-3.8.3-3: what a client retained itself is not sent to it",
        "a> connect v5
         a< connack new
         b> connect v4 clean
         b< connack new
         a> publish a/1 x retain
         b> publish b/1 y retain
         a> subscribe #1 +/1:q0,nl
         a< suback #1 00
         a< publish b/1 y retain
         a> subscribe #2 +/1:q0
         a< suback #2 00
         a< publish a/1 x retain
         a< publish b/1 y retain
         b> subscribe #1 +/1:q0
         b< suback #1 00
         b< publish a/1 x retain
         b< publish b/1 y retain",
    );
}

#[test]
fn reserved_topics_are_not_found_by_wildcards() {
    check(
        "MQTT-4.7.2-1: retained ones neither",
        "a> connect v5
         a< connack new
         a> publish $x/y 1 retain
         a> publish x/y 2 retain
         a> subscribe #1 #:q0
         a< suback #1 00
         a< publish x/y 2 retain
         a> subscribe #2 +/y:q0
         a< suback #2 00
         a< publish x/y 2 retain
         a> subscribe #3 $x/+:q0
         a< suback #3 00
         a< publish $x/y 1 retain",
    );
}

#[test]
fn what_there_is_no_room_for_replaces_all_the_same() {
    let settings = Settings { persistence: true, retained: Bounds { messages: 10, bytes: 60 }, ..Settings::default() };
    for loops in [1, 2] {
        // MQTT-3.3.1-5: what is no longer true is not kept.
        play(
            loops,
            &settings,
            "a> connect v5
             a< connack new
             a> publish t 1 retain
             a> publish u 2 retain
             a> publish t 012345678901234567890123456789012345678901234567890123456789 retain
             b> connect v4 clean
             b< connack new
             b> subscribe #1 +:q0
             b< suback #1 00
             b< publish u 2 retain
             crash
             a< closed
             b< closed
             b> connect v4 clean
             b< connack new
             b> subscribe #1 +:q0
             b< suback #1 00
             b< publish u 2 retain",
        );
    }
}

#[test]
fn all_that_is_retained_comes_however_small_the_queue() {
    for loops in [1, 2] {
        let settings = Settings { max_queued_messages: 2, max_inflight: 1, ..Settings::default() };
        let mut script = String::from("p> connect v5\np< connack new\n");
        for number in 10..30 {
            script.push_str(&format!("p> publish r/{number} x q1 #1 retain\np< puback #1 10\n"));
        }
        // MQTT-3.3.1-9
        script.push_str("a> connect v4 clean\na< connack new\na> subscribe #1 r/+:q1\na< suback #1 01\n");
        for number in 10..30 {
            let id = number - 9;
            script.push_str(&format!("a< publish r/{number} x q1 #{id} retain\na> puback #{id}\n"));
        }
        play(loops, &settings, &script);
    }
}

#[test]
fn replacing_a_subscription_loses_nothing() {
    check(
        "MQTT-3.8.4-3, MQTT-3.8.4-4: retained messages come again, the rest goes on",
        "a> connect v5 expiry=100 rm=1
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         p> connect v4 clean
         p< connack new
         p> publish t 1 q1 #1 retain
         p< puback #1
         p> publish t 2 q1 #2
         p< puback #2
         a< publish t 1 q1 #1
         a> subscribe #2 t:q1 id=4
         a< suback #2 01
         a> puback #1
         a< publish t 2 q1 #2
         a> puback #2
         a< publish t 1 q1 #3 retain id=4
         a> puback #3
         p> publish t 3
         a< publish t 3 id=4",
    );
}

#[test]
fn unsubscribing_ends_what_was_retained_too() {
    let settings = Settings { max_outgoing_bytes: 64, ..Settings::default() };
    let mut script = String::from("p> connect v5\np< connack new\n");
    (100..300).for_each(|number| script.push_str(&format!("p> publish r/{number} 0123456789 retain\n")));
    script.push_str("a> connect v4 clean\na< connack new\nslow a\na> subscribe #1 r/+:q0\n");
    // MQTT-3.10.4-2: nothing new once it is withdrawn, and nothing twice where it is replaced.
    let withdrawn = "a> unsubscribe #2 r/+\nread a\na< suback #1 00\na< publish r/100 0123456789 retain\n";
    let replaced = "a> subscribe #2 r/+:q0\nread a\na< suback #1 00\n";
    for loops in [1, 2] {
        let mut server = play_on(loops, &settings, &format!("{script}{withdrawn}"));
        let mut rest = Vec::new();
        while let Some(unsuback) = server.next_packet("a", |packet| matches!(packet, Packet::Unsuback(_))) {
            rest.push(unsuback);
        }
        assert!(rest.len() < 70 && rest.contains(&true), "{rest:?}");
        let mut server = play_on(loops, &settings, &format!("{script}{replaced}"));
        let mut messages = 0;
        while let Some(publish) = server.next_packet("a", |packet| matches!(packet, Packet::Publish(_))) {
            messages += usize::from(publish);
        }
        assert!((200..270).contains(&messages), "{messages}");
    }
}
