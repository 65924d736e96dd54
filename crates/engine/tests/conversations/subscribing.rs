//! Subscriptions and what they match: sections 3.8 to 3.11, 4.7.

use crate::check;

#[test]
fn unsubscribing_lets_what_is_under_way_arrive() {
    check(
        "MQTT-3.10.4-1 to MQTT-3.10.4-6: character by character, nothing new, but to the end",
        "a> connect v5 expiry=100
         a< connack new
         a> subscribe #1 t:q2 +:q1 x/y:q0
         a< suback #1 02 01 00
         p> connect v4 clean
         p< connack new
         p> publish t 1 q2 #1
         p< pubrec #1
         a< publish t 1 q2 #1
         a> unsubscribe #2 t T # + x/+
         a< unsuback #2 00 11 11 00 11
         p> publish t 2 q2 #2
         p< pubrec #2
         p> publish x/y z
         a< publish x/y z
         a> pubrec #1
         a< pubrel #1
         lose a
         a> connect v5 expiry=100
         a< connack present
         a< pubrel #1
         a> pubcomp #1
         b> connect v4 clean
         b< connack new
         b> unsubscribe #3 t u
         b< unsuback #3",
    );
}

#[test]
fn names_are_taken_as_they_are() {
    check(
        "MQTT-4.7.3-4, MQTT-3.3.2-3, MQTT-1.5.4-3: no case is folded, no slash dropped, no letter composed, no mark stripped",
        "a> connect v5
         a< connack new
         a> subscribe #1 a:q0 /a:q0 a/:q0 é:q0 +/+:q0
         a< suback #1 00 00 00 00 00
         a> publish A x
         a> publish \u{feff}a x
         a> publish e\u{301} x
         a> publish a x
         a< publish a x
         a> publish /a x
         a< publish /a x
         a> publish a/ x
         a< publish a/ x
         a> publish é x
         a< publish é x
         a> publish / x
         a< publish / x",
    );
}

#[test]
fn failures_are_told_as_the_version_can() {
    check(
        "MQTT-3.8.4-5 to MQTT-3.8.4-7, MQTT-3.9.3-1, MQTT-3.9.3-2; 3.1.1 MQTT-3.9.3-2",
        "deny * s no/#
         a> connect v5
         a< connack new
         a> subscribe #1 a:q2 no/b:q1 c:q1 $share/g/no/b:q1 d:q0
         a< suback #1 02 87 01 87 00
         b> connect v4 clean
         b< connack new
         b> subscribe #1 a:q2 no/b:q1 c:q1 $share/g/no/b:q1 $share/+/x:q0
         b< suback #1 02 80 01 80 80
         c> connect v3 clean
         c< connack new
         c> subscribe #1 a:q2 no/b:q1
         c< suback #1 02 80",
    );
}

#[test]
fn a_group_and_a_subscription_of_the_same_client() {
    check(
        "4.8.2, MQTT-4.8.2-3: each with its own QoS and identifier",
        "a> connect v5
         a< connack new
         a> subscribe #1 t:q0 id=1
         a< suback #1 00
         a> subscribe #2 $share/g/t:q1 id=2
         a< suback #2 01
         p> connect v4 clean
         p< connack new
         p> publish t x q2 #1
         p< pubrec #1
         a< publish t x id=1
         a< publish t x q1 #1 id=2
         a> unsubscribe #3 $share/g/t
         a< unsuback #3 00
         p> publish t y q2 #2
         p< pubrec #2
         a< publish t y id=1",
    );
}
