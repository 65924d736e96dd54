//! What every client relies on: sessions, acknowledgements, subscriptions, wills.

use midge_engine::limits::Settings;

use crate::{check, script};

#[test]
fn messages_reach_subscribers() {
    check(
        "MQTT-4.3.1-1, MQTT-4.3.2-4, MQTT-4.3.3-7",
        "a> connect v4 clean
         a< connack new
         b> connect v5
         b< connack new
         b> subscribe #1 x/+:q2
         b< suback #1 02
         a> publish x/1 zero
         b< publish x/1 zero
         a> publish x/1 one q1 #7
         a< puback #7
         b< publish x/1 one q1 #1
         b> puback #1
         a> publish x/1 two q2 #8
         a< pubrec #8
         b< publish x/1 two q2 #2
         b> pubrec #2
         b< pubrel #2
         b> pubcomp #2
         a> pubrel #8
         a< pubcomp #8
         a> ping
         a< pingresp
         a> disconnect
         a< closed
         b> unsubscribe #3 x/+ y
         b< unsuback #3 00 11",
    );
}

#[test]
fn connections_are_kept_apart_from_sessions() {
    check(
        "MQTT-3.1.2-4 to 6, MQTT-3.2.2-2, MQTT-3.2.2-3: clean start",
        "a> connect v4
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         a> disconnect
         a< closed
         b> connect v5
         b< connack new
         b> publish t one q1 #1
         b< puback #1
         a> connect v4
         a< connack present
         a< publish t one q1 #1
         a> puback #1
         lose a
         a> connect v4 clean
         a< connack new
         lose a
         a> connect v4
         a< connack new
         b> publish t two q1 #2
         b< puback #2 10",
    );
    check(
        "MQTT-3.1.4-3: session taken over",
        "a> connect v5 expiry=100
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         old> connect v5 as=x
         old< connack new
         new> connect v5 as=x
         old< disconnect 8E
         old< closed
         new< connack new
         new2> connect v4 as=x
         new< disconnect 8E
         new< closed
         new2< connack new
         third> connect v5 as=a
         a< disconnect 8E
         a< closed
         third< connack present",
    );
    check(
        "MQTT-3.1.3-6, MQTT-3.1.3-7: an assigned client identifier",
        "a> connect v5 as=
         a< connack new as=assigned",
    );
    check(
        "3.1.2.11.2, MQTT-3.1.2-23: session expiry",
        "a> connect v5 expiry=10
         a< connack new
         lose a
         after 9
         a> connect v5 expiry=10
         a< connack present
         lose a
         after 11
         a> connect v5 expiry=4294967295
         a< connack new
         a> disconnect expiry=5
         a< closed
         after 4
         a> connect v5
         a< connack present
         lose a
         a> connect v5
         a< connack new
         a> disconnect expiry=5
         a< disconnect 82
         a< closed",
    );
    check(
        "MQTT-3.1.2-22: keep alive of one and a half",
        "a> connect v5 keep=10
         a< connack new
         b> connect v4 keep=10
         b< connack new
         c> connect v4
         c< connack new
         after 14
         a> ping
         a< pingresp
         after 2
         b< closed
         after 12
         after 2
         a< disconnect 8D
         a< closed
         after 10000",
    );
    check(
        "MQTT-4.13.1-1, MQTT-3.1.0-2: what breaks the rules is told and closed",
        "a> connect v5
         a< connack new
         a> publish a/+ x
         a< disconnect 90
         a< closed
         b> connect v4
         b< connack new
         b> publish a/# x
         b< closed",
    );
}

#[test]
fn acknowledgements_lead_to_the_next_message() {
    check(
        "MQTT-3.1.2-24, 4.9: the client's receive maximum",
        "a> connect v5 rm=2
         a< connack new
         a> subscribe #1 t:q2
         a< suback #1 02
         b> connect v4
         b< connack new
         b> publish t 1 q2 #1
         b< pubrec #1
         b> publish t 2 q1 #2
         b< puback #2
         b> publish t 3 q1 #3
         b< puback #3
         b> publish t 4 q1 #4
         b< puback #4
         b> publish t 5
         a< publish t 1 q2 #1
         a< publish t 2 q1 #2
         a< publish t 5
         a> pubrec #1
         a< pubrel #1
         a> pubcomp #1
         a< publish t 3 q1 #3
         a> puback #2 87
         a< publish t 4 q1 #4
         b> pubrel #1
         b< pubcomp #1",
    );
    check(
        "MQTT-4.4.0-1, MQTT-3.3.1-1: what wasn't acknowledged is sent again",
        "a> connect v5 expiry=100
         a< connack new
         a> subscribe #1 t:q2
         a< suback #1 02
         b> connect v4
         b< connack new
         b> publish t 1 q2 #1
         b< pubrec #1
         b> publish t 2 q1 #2
         b< puback #2
         b> publish t 3 q2 #3
         b< pubrec #3
         a< publish t 1 q2 #1
         a< publish t 2 q1 #2
         a< publish t 3 q2 #3
         a> pubrec #1
         a< pubrel #1
         lose a
         b> publish t 4 q1 #4
         b< puback #4
         a> connect v5 expiry=100 rm=2
         a< connack present
         a< pubrel #1
         a< publish t 2 q1 #2 dup
         a< publish t 3 q2 #3 dup
         a> puback #2
         a< publish t 4 q1 #4
         a> pubrec #3
         a< pubrel #3
         a> pubcomp #1
         a> pubcomp #3
         a> puback #4",
    );
    check(
        "MQTT-4.3.3-10, MQTT-4.3.3-11: exactly once from the client",
        "a> connect v5 expiry=100
         a< connack new
         b> connect v4
         b< connack new
         b> subscribe #1 t:q2
         b< suback #1 02
         a> publish t 1 q2 #1
         a< pubrec #1
         b< publish t 1 q2 #1
         lose a
         a> connect v5 expiry=100
         a< connack present
         a> publish t 1 q2 #1 dup
         a< pubrec #1
         a> pubrel #1
         a< pubcomp #1
         a> pubrel #1
         a< pubcomp #1 92
         a> publish t 2 q2 #1
         a< pubrec #1
         b< publish t 2 q2 #2
         a> pubrec #9
         a< pubrel #9 92
         a> puback #9
         a> pubcomp #9",
    );
    check(
        "MQTT-4.3.3-4: a refused message of QoS 2 goes no further",
        "a> connect v5 rm=1
         a< connack new
         a> subscribe #1 t:q2
         a< suback #1 02
         a> publish t 1 q2 #1
         a< publish t 1 q2 #1
         a< pubrec #1
         a> publish t 2 q2 #2
         a< pubrec #2
         a> pubrec #1 80
         a< publish t 2 q2 #2",
    );
    let settings = Settings { receive_maximum: 1, ..Settings::default() };
    for loops in [1, 2] {
        let script = "a> connect v5
             a< connack new
             a> publish t 1 q2 #1
             a< pubrec #1
             a> publish t 1 q1 #2
             a< disconnect 93
             a< closed";
        script::play(loops, &settings, script); // MQTT-3.3.4-9
    }
}

#[test]
fn subscriptions_decide_how_a_message_looks() {
    check(
        "MQTT-3.8.4-3, MQTT-3.8.4-8: replaced, and the smaller QoS counts",
        "a> connect v5
         a< connack new
         a> subscribe #1 t:q2 t:q1
         a< suback #1 02 01
         a> publish t x q2 #1
         a< publish t x q1 #1
         a< pubrec #1
         a> subscribe #2 t:q0
         a< suback #2 00
         a> publish t x q2 #2
         a< publish t x
         a< pubrec #2",
    );
    check(
        "MQTT-3.3.4-2, MQTT-3.3.4-3: overlapping subscriptions, one copy",
        "a> connect v5
         a< connack new
         a> subscribe #1 a/#:q1 id=5
         a< suback #1 01
         a> subscribe #2 a/+:q2 id=6
         a< suback #2 02
         a> subscribe #3 +/b:q0
         a< suback #3 00
         a> publish a/b x q2 #1
         a< publish a/b x q2 #1 id=5 id=6
         a< pubrec #1
         a> publish c/b x
         a< publish c/b x
         a> publish a x
         a< publish a x id=5",
    );
    check(
        "MQTT-3.8.3-3: no local",
        "a> connect v5
         a< connack new
         a> subscribe #1 t:q0,nl #:q1,nl
         a< suback #1 00 01
         a> publish t x
         a> subscribe #2 t:q0
         a< suback #2 00
         a> publish t y q1 #1
         a< publish t y
         a< puback #1",
    );
    check(
        "MQTT-3.3.1-12, MQTT-3.3.1-13: retain as published",
        "a> connect v5
         a< connack new
         a> subscribe #1 t:q0,rap
         a< suback #1 00
         b> connect v4
         b< connack new
         b> subscribe #1 t:q0
         b< suback #1 00
         b> publish t x retain
         a< publish t x retain
         b< publish t x
         b> publish t -
         a< publish t -
         b< publish t -",
    );
    check(
        "MQTT-4.7.2-1, MQTT-4.8.2-1: what is matched and refused",
        "a> connect v5
         a< connack new
         a> subscribe #1 #:q0 $x/#:q1 $share:q0
         a< suback #1 00 01 8F
         a> publish $x/y z
         a< publish $x/y z",
    );
    check(
        "MQTT-3.3.2-18, MQTT-3.3.2-15, MQTT-3.3.2-20, MQTT-3.3.2-4: properties go through as they are",
        "a> connect v5
         a< connack new
         b> connect v4
         b< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         b> subscribe #1 t:q1
         b< suback #1 01
         a> publish t x q1 #9 utf8=1 response=r/s u-b=2 correlation=c u-a=1 type=text u-b=3
         a< publish t x q1 #1 utf8=1 response=r/s u-b=2 correlation=c u-a=1 type=text u-b=3
         b< publish t x q1 #1
         a< puback #9",
    );
}

#[test]
fn retained_messages_are_found_by_new_subscriptions() {
    check(
        "MQTT-3.3.1-5, MQTT-3.3.1-6, MQTT-3.3.1-8, MQTT-3.3.1-9 to 11",
        "a> connect v5
         a< connack new
         a> publish r/1 one q1 #1 retain
         a< puback #1 10
         a> publish r/2 two retain u-k=v
         a> publish r/3 three
         a> publish r/1 uno q1 #2 retain
         a< puback #2 10
         b> connect v5
         b< connack new
         b> subscribe #1 r/+:q2 id=7
         b< suback #1 02
         b< publish r/1 uno q1 #1 retain id=7
         b> puback #1
         b< publish r/2 two retain id=7 u-k=v
         b> subscribe #2 r/2:q0,rh1
         b< suback #2 00
         b< publish r/2 two retain u-k=v
         b> subscribe #3 r/2:q0,rh1
         b< suback #3 00
         b> subscribe #4 r/1:q0,rh2
         b< suback #4 00
         b> subscribe #5 r/2:q0
         b< suback #5 00
         b< publish r/2 two retain u-k=v
         a> publish r/2 - retain
         b< publish r/2 - id=7
         c> connect v4
         c< connack new
         c> subscribe #1 r/#:q0
         c< suback #1 00
         c< publish r/1 uno retain",
    );
    check(
        "MQTT-3.3.2-5, MQTT-3.3.2-6: messages expire",
        "a> connect v5 expiry=100
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         lose a
         b> connect v5
         b< connack new
         b> publish t one q1 #1 left=10
         b< puback #1
         b> publish t two q1 #2 left=20 retain
         b< puback #2
         after 12.5
         a> connect v5 expiry=100
         a< connack present
         a< publish t two q1 #1 left=8
         c> connect v5
         c< connack new
         c> subscribe #1 t:q0
         c< suback #1 00
         c< publish t two retain left=8
         after 10
         c> subscribe #2 t:q0
         c< suback #2 00",
    );
}

#[test]
fn aliases_and_sizes() {
    check(
        "MQTT-3.3.2-7 to 12: topic aliases of a client",
        "a> connect v5
         a< connack new
         a> subscribe #1 #:q0
         a< suback #1 00
         a> publish t/1 x alias=1
         a< publish t/1 x
         a> publish - y alias=1
         a< publish t/1 y
         a> publish t/2 z alias=1
         a< publish t/2 z
         a> publish - z alias=1
         a< publish t/2 z
         lose a
         a> connect v5
         a< connack new
         a> publish - y alias=1
         a< disconnect 82
         a< closed
         b> connect v5
         b< connack new
         b> publish t y alias=17
         b< disconnect 94
         b< closed",
    );
    check(
        "MQTT-3.1.2-26, MQTT-3.1.2-27: topic aliases towards a client",
        "a> connect v5 aliases=1
         a< connack new
         a> subscribe #1 #:q1
         a< suback #1 01
         a> publish t/1 x
         a< publish t/1 x alias=1
         a> publish t/1 y q1 #1
         a< publish - y q1 #1 alias=1
         a< puback #1
         a> publish t/2 z
         a< publish t/2 z alias=1
         a> publish t/2 z
         a< publish - z alias=1
         a> publish t/1 x
         a< publish t/1 x alias=1",
    );
    check(
        "MQTT-3.1.2-25: the client's maximum packet size",
        "a> connect v5 max=30 rm=1
         a< connack new
         a> subscribe #1 t:q2
         a< suback #1 02
         a> publish t 0123456789012345678901234567890 q1 #1
         a< puback #1
         a> publish t 0123456789012345678901234567890
         a> publish t 0123456789012345678901234567890 q2 #2
         a< pubrec #2
         a> publish t small q1 #3
         a< publish t small q1 #3
         a< puback #3",
    );
}

#[test]
fn wills() {
    check(
        "MQTT-3.1.2-8, MQTT-3.1.2-10, MQTT-3.14.4-3: published unless the client says goodbye",
        "w> connect v5
         w< connack new
         w> subscribe #1 will/+:q1
         w< suback #1 01
         a> connect v4 clean will=will/a,gone,q1
         a< connack new
         lose a
         w< publish will/a gone q1 #1
         w> puback #1
         a> connect v4 clean will=will/a,gone,q1
         a< connack new
         a> disconnect
         a< closed
         a> connect v5 will=will/a,gone,q0 u-k=v
         a< connack new
         a> disconnect 04
         a< closed
         w< publish will/a gone u-k=v
         a> connect v4 clean will=will/a,gone,q0 keep=2
         a< connack new
         after 4
         a< closed
         w< publish will/a gone",
    );
    check(
        "MQTT-3.1.3-9, 3.1.3.2.2: will delay",
        "w> connect v5
         w< connack new
         w> subscribe #1 will/+:q1
         w< suback #1 01
         a> connect v5 expiry=20 will=will/a,gone,q0,retain delay=10 left=60
         a< connack new
         lose a
         after 9
         a> connect v5 expiry=20 will=will/a,gone,q0,retain delay=10 left=60
         a< connack present
         lose a
         after 11
         w< publish will/a gone left=60
         after 10
         a> connect v5 expiry=5 will=will/a,early,q0 delay=10
         a< connack new
         lose a
         after 6
         w< publish will/a early
         b> connect v5 expiry=50 will=will/b,gone,q0 delay=10
         b< connack new
         b2> connect v5 as=b expiry=50 will=will/b,gone,q0 delay=10
         b< disconnect 8E
         b< closed
         b2< connack present
         b3> connect v5 as=b clean
         w< publish will/b gone
         b2< disconnect 8E
         b2< closed
         b3< connack new
         w> subscribe #2 will/a:q0
         w< suback #2 00
         w< publish will/a gone retain left=44",
    );
}
