//! What clients may not do, and what happens at each bound.

use midge_engine::limits::{Settings, WhenFull};
use midge_engine::retained::Bounds;

use crate::check;
use crate::script::play;

#[test]
fn permission_is_asked_for_everything() {
    check(
        "MQTT-3.3.5-2, MQTT-3.9.3-1: what isn't allowed is refused",
        "deny * p no/#
         deny a s secret/#
         deny a r secret/#
         a> connect v5
         a< connack new
         o> connect v4 clean
         o< connack new
         a> subscribe #1 #:q1 secret/x:q1
         a< suback #1 01 87
         o> subscribe #1 no/#:q1
         o< suback #1 01
         a> publish no/1 x
         a> publish no/1 x q1 #1
         a< puback #1 87
         a> publish no/1 x q2 #2
         a< pubrec #2 87
         a> publish no/1 x q2 #2
         a< pubrec #2 87
         o> publish no/1 x q1 #3
         o< puback #3
         o> publish no/1 x q2 #4
         o< pubrec #4
         o> pubrel #4
         o< pubcomp #4
         o> publish secret/x y q1 #5
         o< puback #5
         o> publish secret/x y retain
         o> publish yes z retain
         a< publish yes z
         a> subscribe #2 #:q0
         a< suback #2 00
         a< publish yes z retain
         w> connect v5 will=no/w,x,q0 refused=87",
    );
    check(
        "revoked while it waits: queued, in flight, and a will",
        "a> connect v5 expiry=100 rm=2
         a< connack new
         a> subscribe #1 t/#:q2
         a< suback #1 02
         p> connect v4 clean
         p< connack new
         p> publish t/1 1 q2 #1
         p< pubrec #1
         p> publish t/1 2 q1 #2
         p< puback #2
         p> publish t/1 3 q1 #3
         p< puback #3
         a< publish t/1 1 q2 #1
         a< publish t/1 2 q1 #2
         lose a
         deny a r t/1
         a> connect v5 expiry=100 rm=2 will=t/2,w,q0
         a< connack present
         a< pubrel #1
         a> pubcomp #1
         deny a p t/2
         lose a
         allow a p t/2
         a> connect v5 expiry=100
         a< connack present",
    );
}

#[test]
fn what_is_not_offered_is_refused() {
    let settings = Settings {
        max_qos: midge_mqtt::QoS::AtLeastOnce,
        retain: false,
        shared_subscriptions: false,
        max_session_expiry: 60,
        max_keep_alive: 30,
        max_topic_levels: 2,
        max_subscriptions: 2,
        max_sessions: 4,
        ..Settings::default()
    };
    let server = play(
        1,
        &settings,
        "a> connect v5 expiry=100 keep=60
         a< connack new expiry=60 maxq=1 RetainAvailable SharedSubscriptionAvailable keep=30
         a> subscribe #1 a:q2 $share/g/t:q1 a/b/c:q0 b:q0 c:q0
         a< suback #1 01 9E 8F 00 97
         a> subscribe #2 b:q1
         a< suback #2 01
         a> unsubscribe #3 a
         a< unsuback #3 00
         a> subscribe #4 c:q0
         a< suback #4 00
         a> publish a/b/c x q1 #1
         a< puback #1 90
         a> publish a/b/c x
         b> connect v5 will=t,x,q2 refused=9B
         b> connect v5 will=t,x,q1,retain refused=9A
         b> connect v5 will=t/t/t,x,q1 refused=90
         b> connect v5
         b< connack new maxq=1 RetainAvailable SharedSubscriptionAvailable keep=30
         b> publish t x q2 #1
         b< disconnect 9B
         b< closed
         b> connect v4 clean
         b< connack new
         b> publish t x retain
         b< closed
         c> connect v4
         c< connack new
         d> connect v4
         d< connack new
         e> connect v4
         e< connack new
         f> connect v4 refused=97
         e> subscribe #1 1:q0 2:q0 3:q0
         e< suback #1 00 00 80",
    );
    let counters = server.shards[0].counters();
    assert_eq!((counters.refused_subscriptions, counters.refused_levels, counters.refused_sessions), (2, 4, 1));
}

#[test]
fn queues_are_bounded() {
    for (when_full, kept) in [(WhenFull::DropOldest, ["3", "4"]), (WhenFull::DropNew, ["1", "2"])] {
        for persistence in [false, true] {
            let settings = Settings { max_queued_messages: 2, when_full, persistence, ..Settings::default() };
            let script = format!(
                "a> connect v5 expiry=100
                 a< connack new
                 a> subscribe #1 t:q1
                 a< suback #1 01
                 lose a
                 p> connect v4 clean
                 p< connack new
                 p> publish t 0
                 p> publish t 1 q1 #1
                 p< puback #1
                 p> publish t 2 q1 #2
                 p< puback #2
                 p> publish t 3 q1 #3
                 p< puback #3
                 p> publish t 4 q1 #4
                 p< puback #4
                 a> connect v5 expiry=100
                 a< connack present
                 a< publish t {} q1 #1
                 a< publish t {} q1 #2
                 a> puback #1
                 a> puback #2",
                kept[0], kept[1]
            );
            let server = play(1, &settings, &script);
            let counters = server.shards[0].counters();
            assert_eq!((counters.dropped_full, counters.queued_messages, counters.queued_bytes), (2, 0, 0));
            assert_eq!(server.state().messages.len(), 0);
        }
    }
}

#[test]
fn slow_readers_lose_qos_0_first() {
    let settings = Settings { max_outgoing_bytes: 30, ..Settings::default() };
    let server = play(
        2,
        &settings,
        "a> connect v4 clean
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         slow a
         p> connect v4 clean
         p< connack new
         p> publish t 0123456789
         p> publish t 1123456789
         p> publish t 2123456789
         p> publish t 3123456789 q1 #1
         p< puback #1
         p> publish t 4123456789
         p> publish t 5123456789 q1 #2
         p< puback #2
         read a
         a< publish t 0123456789
         a< publish t 1123456789
         a< publish t 3123456789 q1 #1
         a< publish t 5123456789 q1 #2
         p> publish t 6
         a< publish t 6",
    );
    let dropped: u64 = server.shards.iter().map(|shard| shard.counters().dropped_slow).sum();
    assert_eq!(dropped, 2);
}

#[test]
fn retained_messages_are_bounded_and_wait_for_slow_readers() {
    for (loops, retained) in [(1, 200), (2, 200), (1, 150)] {
        let retained_bounds = Bounds { messages: retained, bytes: 1_000_000 };
        let settings = Settings { max_outgoing_bytes: 256, retained: retained_bounds, ..Settings::default() };
        let mut script = String::from("p> connect v5\np< connack new\n");
        (100..300).for_each(|number| script.push_str(&format!("p> publish r/{number} 0123456789 retain\n")));
        script.push_str("a> connect v4 clean\na< connack new\nslow a\na> subscribe #1 r/+:q0\nread a\na< suback #1 00\n");
        (100..100 + retained).for_each(|number| script.push_str(&format!("a< publish r/{number} 0123456789 retain\n")));
        let server = play(loops, &settings, &script);
        assert!(server.shards.iter().all(|shard| shard.counters().dropped_slow == 0));
    }
}
