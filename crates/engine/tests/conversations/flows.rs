//! Delivery step by step: sections 3.3 to 3.7, 4.3 to 4.9.

use midge_engine::limits::Settings;

use crate::check;
use crate::script::play;

#[test]
fn dup_says_only_whether_we_sent_it_before() {
    check(
        "MQTT-3.3.1-1 to MQTT-3.3.1-3, MQTT-4.3.2-2, MQTT-4.3.2-5: a copy of QoS 1 is a new message",
        "a> connect v5
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         p> connect v4 clean
         p< connack new
         p> publish t 1 q1 #1 dup
         p< puback #1
         a< publish t 1 q1 #1
         p> publish t 1 q1 #1 dup
         p< puback #1
         a< publish t 1 q1 #2
         p> publish t 2 q2 #1 dup
         p< pubrec #1
         a< publish t 2 q1 #3",
    );
}

#[test]
fn an_exhausted_quota_stops_nothing_else() {
    check(
        "MQTT-3.3.4-9, MQTT-3.3.4-10, MQTT-4.9.0-2, MQTT-4.9.0-3: only PUBLISH above QoS 0 waits",
        "a> connect v5 rm=1 expiry=100
         a< connack new
         a> subscribe #1 t:q2
         a< suback #1 02
         p> connect v4 clean
         p< connack new
         p> publish t 1 q2 #1
         p< pubrec #1
         p> publish t 2 q1 #2
         p< puback #2
         p> publish t 0
         a< publish t 1 q2 #1
         a< publish t 0
         a> ping
         a< pingresp
         a> subscribe #2 u:q0
         a< suback #2 00
         a> unsubscribe #3 u
         a< unsuback #3 00
         a> publish u x q2 #9
         a< pubrec #9
         a> pubrel #9
         a< pubcomp #9
         a> pubrec #1
         a< pubrel #1
         a> publish u x q1 #9
         a< puback #9 10
         lose a
         a> connect v5 rm=1 expiry=100
         a< connack present
         a< pubrel #1
         a< publish t 2 q1 #2
         a> pubcomp #1
         a> puback #2",
    );
}

#[test]
fn puback_says_when_nobody_has_a_subscription() {
    check(
        "3.4.2.1: PUBACK says it, a subscription with no local is one all the same; PUBREC leaves it out",
        "a> connect v5
         a< connack new
         a> publish t 1 q1 #1
         a< puback #1 10
         a> subscribe #1 t/#:q1,nl
         a< suback #1 01
         a> publish t 2 q1 #2
         a< puback #2
         a> publish u 3 q2 #3
         a< pubrec #3
         a> unsubscribe #2 t/#
         a< unsuback #2 00
         a> publish t 4 q1 #4
         a< puback #4 10",
    );
}

#[test]
fn acknowledgements_of_the_wrong_kind_end_the_connection() {
    for version in ["v4", "v5"] {
        let said = if version == "v5" { "a< disconnect 82" } else { "" };
        for (qos, answers) in
            [(1, &["pubrec #1", "pubcomp #1"][..]), (2, &["puback #1", "pubcomp #1", "pubrec #1\na< pubrel #1\na> puback #1"])]
        {
            for answer in answers {
                let script = format!(
                    "a> connect {version} clean
                     a< connack new
                     a> subscribe #1 t:q{qos}
                     a< suback #1 0{qos}
                     p> connect v4 clean
                     p< connack new
                     p> publish t 1 q{qos} #1
                     p< {} #1
                     a< publish t 1 q{qos} #1
                     a> {answer}
                     {said}
                     a< closed",
                    if qos == 1 { "puback" } else { "pubrec" },
                );
                check("4.13, 3.1.1 MQTT-4.8.0-1: they are out of order", &script);
            }
        }
    }
}

#[test]
fn a_copy_of_qos_2_counts_once() {
    let settings = Settings { receive_maximum: 1, ..Settings::default() };
    for loops in [1, 2] {
        // MQTT-3.3.4-7: as many places are freed as were taken.
        play(
            loops,
            &settings,
            "a> connect v5 expiry=100
             a< connack new
             a> publish t 1 q2 #1
             a< pubrec #1
             a> publish t 1 q2 #1 dup
             a< pubrec #1
             a> pubrel #1
             a< pubcomp #1
             a> publish t 2 q2 #2
             a< pubrec #2
             lose a
             a> connect v5 expiry=100
             a< connack present
             a> publish t 2 q2 #2 dup
             a< pubrec #2
             a> pubrel #2
             a< pubcomp #2
             a> publish t 3 q2 #3
             a< pubrec #3
             lose a
             a> connect v5 expiry=100
             a< connack present
             a> publish t 3 q2 #3 dup
             a< pubrec #3
             a> publish t 4 q1 #4
             a< disconnect 93
             a< closed",
        );
    }
}

#[test]
fn what_was_sent_expires_no_more() {
    check(
        "MQTT-4.3.3-7, MQTT-4.3.3-13, MQTT-4.4.0-1, MQTT-4.4.0-2",
        "a> connect v5 expiry=100 rm=2
         a< connack new
         a> subscribe #1 t:q2
         a< suback #1 02
         p> connect v5
         p< connack new
         p> publish t 1 q2 #1 left=5
         p< pubrec #1
         p> publish t 2 q1 #2 left=5
         p< puback #2
         p> publish t 3 q2 #3 left=5
         p< pubrec #3
         a< publish t 1 q2 #1 left=5
         a< publish t 2 q1 #2 left=5
         lose a
         after 10
         p> pubrel #1
         p< pubcomp #1
         p> publish t 4 q1 #4 left=0
         p< puback #4 10
         a> connect v5 expiry=100 rm=2
         a< connack present
         a< publish t 1 q2 #1 dup left=0
         a< publish t 2 q1 #2 dup left=0
         a> puback #2 80
         a> pubrec #1 80
         lose a
         a> connect v5 expiry=100
         a< connack present",
    );
}

#[test]
fn aliases_end_with_the_connection() {
    check(
        "MQTT-3.3.2-7: towards a client as well; what is sent again has its topic name",
        "a> connect v5 expiry=100 aliases=1
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         p> connect v5
         p< connack new
         p> publish t 1 q1 #1
         p< puback #1
         p> publish t 2 q1 #2
         p< puback #2
         a< publish t 1 q1 #1 alias=1
         a< publish - 2 q1 #2 alias=1
         lose a
         a> connect v5 expiry=100 aliases=1
         a< connack present
         a< publish t 1 q1 #1 dup alias=1
         a< publish - 2 q1 #2 dup alias=1
         lose a
         a> connect v5 expiry=100
         a< connack present
         a< publish t 1 q1 #1 dup
         a< publish t 2 q1 #2 dup
         a> puback #1
         a> puback #2",
    );
}

#[test]
fn an_alias_never_keeps_a_message_back() {
    check(
        "MQTT-3.1.2-25: what fits only without an alias goes without",
        "a> connect v5 aliases=1 max=20
         a< connack new
         a> subscribe #1 topic:q0
         a< suback #1 00
         p> connect v4 clean
         p< connack new
         p> publish topic 1234567
         a< publish topic 1234567 alias=1
         p> publish topic 1234567890
         a< publish - 1234567890 alias=1
         lose a
         a> connect v5 aliases=1 max=20
         a< connack new
         a> subscribe #1 topic:q0
         a< suback #1 00
         p> publish topic 12345678
         a< publish topic 12345678
         p> publish topic 12345678901
         p> publish topic 1
         a< publish topic 1 alias=1",
    );
}

#[test]
fn an_alias_is_set_though_its_message_is_refused() {
    check(
        "3.3.2.3.4: the mapping is the packet's, the refusal the message's",
        "deny p p no
         a> connect v5
         a< connack new
         a> subscribe #1 no:q0
         a< suback #1 00
         p> connect v5
         p< connack new
         p> publish no x q1 #1 alias=2
         p< puback #1 87
         allow p p no
         p> publish - y alias=2
         a< publish no y",
    );
}

#[test]
fn packet_identifiers_are_used_again() {
    // MQTT-2.2.1-4, MQTT-4.3.2-1, MQTT-4.3.3-1: all 65,535 of them, and never one that is in use.
    let mut script = String::from(
        "a> connect v5 expiry=100 rm=2
         a< connack new
         a> subscribe #1 t:q2
         a< suback #1 02
         p> connect v4 clean
         p< connack new
         p> publish t held q2 #1
         p< pubrec #1
         a< publish t held q2 #1\n",
    );
    for number in 2..=65_536 + 5 {
        let id = if number <= 65_535 { number } else { number - 65_534 };
        script.push_str(&format!("p> publish t x q1 #2\np< puback #2\na< publish t x q1 #{id}\na> puback #{id}\n"));
    }
    script.push_str("a> pubrec #1\na< pubrel #1\na> pubcomp #1\n");
    play(1, &Settings::default(), &script);
}

#[test]
fn clients_that_want_no_explanations_get_none() {
    check(
        "MQTT-3.1.2-29: no reason string and no user property but those of messages",
        "deny * p no
         a> connect v5 problem=0
         a< connack new
         a> subscribe #1 t:q2 $share:q0
         a< suback #1 02 8F
         a> publish no x q1 #1
         a< puback #1 87
         a> publish t x q2 #2 u-k=v
         a< publish t x q2 #1 u-k=v
         a< pubrec #2
         a> pubrel #7
         a< pubcomp #7 92
         a> pubrec #9
         a< pubrel #9 92
         a> unsubscribe #3 u
         a< unsuback #3 11
         a> publish - x alias=9
         a< disconnect 82
         a< closed",
    );
}

#[test]
fn denied_messages_are_acknowledged() {
    check(
        "3.1.1 MQTT-3.3.5-2: all the way, though nobody gets them; and nothing is left behind",
        "deny p p no
         o> connect v5
         o< connack new
         o> subscribe #1 no:q2
         o< suback #1 02
         p> connect v4
         p< connack new
         p> publish no 1
         p> publish no 1 q1 #1
         p< puback #1
         p> publish no 2 q2 #2 retain
         p< pubrec #2
         p> publish no 2 q2 #2 dup
         p< pubrec #2
         p> pubrel #2
         p< pubcomp #2
         allow p p no
         p> publish no 3 q2 #2
         p< pubrec #2
         o< publish no 3 q2 #1",
    );
}

#[test]
fn no_alias_is_taken_where_none_is_offered() {
    let settings = Settings { topic_alias_maximum: 0, ..Settings::default() };
    // MQTT-3.2.2-18
    play(
        1,
        &settings,
        "a> connect v5
         a< connack new
         a> publish t x alias=1
         a< disconnect 94
         a< closed",
    );
}

#[test]
fn every_alias_up_to_the_maximum_is_taken() {
    // MQTT-3.3.2-12
    let mut script = String::from("a> connect v5\na< connack new\na> subscribe #1 #:q0\na< suback #1 00\n");
    for alias in 1..=16 {
        script.push_str(&format!("a> publish t/{alias} x alias={alias}\na< publish t/{alias} x\n"));
    }
    for alias in (1..=16).rev() {
        script.push_str(&format!("a> publish - y alias={alias}\na< publish t/{alias} y\n"));
    }
    check("all of them, and they stay", &script);
}
