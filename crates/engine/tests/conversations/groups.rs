//! Shared subscriptions, section 4.8.2, wherever members and home are.

use crate::{check, check_durable};

#[test]
fn one_member_gets_a_message() {
    check(
        "MQTT-4.8.2-1, 4.8.2: members take turns, ordinary subscribers get all",
        "a> connect v5
         a< connack new
         b> connect v4 clean
         b< connack new
         o> connect v5
         o< connack new
         a> subscribe #1 $share/g/t/+:q1 id=3
         a< suback #1 01
         b> subscribe #1 $share/g/t/+:q0
         b< suback #1 00
         o> subscribe #1 t/#:q0
         o< suback #1 00
         p> connect v4 clean
         p< connack new
         p> publish t/1 one q1 #1
         p< puback #1
         p> publish t/1 two q1 #2
         p< puback #2
         p> publish t/1 three q1 #3
         p< puback #3
         a< publish t/1 one q1 #1 id=3
         b< publish t/1 two
         a< publish t/1 three q1 #2 id=3
         o< publish t/1 one
         o< publish t/1 two
         o< publish t/1 three
         a> unsubscribe #2 $share/g/t/+ $share/h/t/+
         a< unsuback #2 00 11
         p> publish t/1 four
         b< publish t/1 four
         o< publish t/1 four
         p> publish t/1 five
         b< publish t/1 five
         o< publish t/1 five",
    );
    check(
        "4.8.2: no retained messages for a shared subscription",
        "a> connect v5
         a< connack new
         a> publish t x retain
         a> subscribe #1 $share/g/t:q1
         a< suback #1 01",
    );
    check(
        "MQTT-3.8.3-4: no local on a shared subscription",
        "a> connect v5
         a< connack new
         a> subscribe #1 $share/g/t:q1,nl
         a< disconnect 82
         a< closed",
    );
}

#[test]
fn members_who_are_there_come_first() {
    check(
        "4.8.2: connected members are preferred, and a message waits where none is",
        "a> connect v5 expiry=100
         a< connack new
         b> connect v5 expiry=100
         b< connack new
         a> subscribe #1 $share/g/t:q1
         a< suback #1 01
         b> subscribe #1 $share/g/t:q1
         b< suback #1 01
         lose a
         p> connect v4 clean
         p< connack new
         p> publish t 1 q1 #1
         p< puback #1
         p> publish t 2 q1 #2
         p< puback #2
         b< publish t 1 q1 #1
         b< publish t 2 q1 #2
         b> puback #1
         b> puback #2
         lose b
         a> connect v5 expiry=100
         a< connack present
         p> publish t 3 q1 #3
         p< puback #3
         a< publish t 3 q1 #1
         a> puback #1",
    );
}

#[test]
fn what_an_ended_member_had_goes_to_another() {
    check(
        "MQTT-4.8.2-4, MQTT-4.8.2-5, 4.8.2: QoS 1 moves on, QoS 2 in flight doesn't",
        "a> connect v5 expiry=10 rm=2
         a< connack new
         a> subscribe #1 $share/g/t:q2
         a< suback #1 02
         p> connect v4 clean
         p< connack new
         p> publish t one q1 #1
         p< puback #1
         p> publish t two q2 #2
         p< pubrec #2
         p> publish t three q2 #3
         p< pubrec #3
         a< publish t one q1 #1
         a< publish t two q2 #2
         b> connect v5
         b< connack new
         b> subscribe #1 $share/g/t:q2
         b< suback #1 02
         lose a
         after 11
         b< publish t one q1 #1
         b< publish t three q2 #2
         b> puback #1 87
         b> pubrec #2
         b< pubrel #2
         b> pubcomp #2
         c> connect v5
         c< connack new",
    );
    check(
        "MQTT-4.8.2-6: what a member refuses is not offered to others",
        "a> connect v5
         a< connack new
         b> connect v5
         b< connack new
         a> subscribe #1 $share/g/t:q1
         a< suback #1 01
         p> connect v5
         p< connack new
         p> publish t one q1 #1
         p< puback #1
         a< publish t one q1 #1
         b> subscribe #1 $share/g/t:q1
         b< suback #1 01
         a> puback #1 80
         lose a",
    );
}

#[test]
fn a_member_that_may_not_is_passed_over() {
    check(
        "permission of the member decides, not of the group",
        "deny a r t
         a> connect v5
         a< connack new
         b> connect v5
         b< connack new
         a> subscribe #1 $share/g/t:q1
         a< suback #1 01
         b> subscribe #1 $share/g/t:q1
         b< suback #1 01
         p> connect v5
         p< connack new
         p> publish t one q1 #1
         p< puback #1
         p> publish t two q1 #2
         p< puback #2
         p> publish t three
         b< publish t one q1 #1
         b< publish t two q1 #2
         b< publish t three",
    );
}

#[test]
fn groups_and_their_messages_survive() {
    check_durable(
        "a message that waited for an ended member finds another after a crash",
        "a> connect v5 expiry=10
         a< connack new
         a> subscribe #1 $share/g/t:q1
         a< suback #1 01
         lose a
         p> connect v4 clean
         p< connack new
         p> publish t one q1 #1
         p< puback #1
         b> connect v5 expiry=1000
         b< connack new
         b> subscribe #1 $share/g/t:q1
         b< suback #1 01
         b> disconnect
         b< closed
         p> publish t two q1 #2
         p< puback #2
         crash
         p< closed
         after 11
         b> connect v5 expiry=1000
         b< connack present
         b< publish t two q1 #1
         b< publish t one q1 #2",
    );
}
