//! Pushes reach those who are named, and then are told of.

use midge_engine::limits::Settings;

use crate::script::{play, play_on};
use crate::{check, check_durable};

#[test]
fn those_who_are_named_get_it_without_a_subscription() {
    check(
        "by client, by user, by group, all",
        "a1> connect v5 user=ann
         a1< connack new
         a2> connect v4 user=ann
         a2< connack new
         b> connect v5 user=bob
         b< connack new
         c> connect v5
         c< connack new
         join a1 g
         join c g
         push 1 client:a2 t one
         a2< publish t one q1 #1
         pushed 1 1 0
         push 2 user:ann t two q2
         a1< publish t two q2 #1
         a2< publish t two q2 #2
         pushed 2 2 0
         push 3 group:g t three q0
         a1< publish t three
         c< publish t three
         pushed 3 2 0
         push 4 all t four q0
         a1< publish t four
         a2< publish t four
         b< publish t four
         c< publish t four
         pushed 4 4 0
         push 5 client:nobody t five
         pushed 5 0 0
         push 6 user:nobody t six
         pushed 6 0 0
         push 7 group:nobody t seven
         pushed 7 0 0
         deny a1 r t
         push 8 user:ann t eight q0 left=9
         a2< publish t eight
         pushed 8 1 0",
    );
}

#[test]
fn subscribers_are_counted_wherever_they_are() {
    check(
        "by topic, retained, and one member of each group",
        "a> connect v5 user=ann expiry=100
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         b> connect v5
         b< connack new
         b> subscribe #1 t:q0
         b< suback #1 00
         c> connect v5 expiry=100
         c< connack new
         c> subscribe #1 t:q1
         c< suback #1 01
         lose c
         push 1 subscribers t one retain
         a< publish t one q1 #1
         b< publish t one
         pushed 1 2 1
         d> connect v5
         d< connack new
         d> subscribe #1 t:q0
         d< suback #1 00
         d< publish t one retain
         push 2 subscribers nobody two
         pushed 2 0 0
         a> subscribe #2 $share/g/u:q1
         a< suback #2 01
         push 3 subscribers u three
         a< publish u three q1 #2
         pushed 3 1 0",
    );
}

#[test]
fn who_is_away_gets_it_later() {
    check_durable(
        "QoS 1 and 2 wait for sessions that last, a crash in between",
        "a> connect v5 user=ann expiry=100
         a< connack new
         lose a
         push 1 user:ann t one
         pushed 1 0 1
         push 2 client:a t two q2
         pushed 2 0 1
         push 3 all t three q0
         pushed 3 0 0
         push 4 user:ann t late left=5
         pushed 4 0 1
         crash 2
         after 6
         a> connect v5 user=ann expiry=100
         a< connack present
         a< publish t one q1 #1
         a< publish t two q2 #2",
    );
}

#[test]
fn its_end_waits_for_the_journal() {
    check_durable(
        "what was told to be done is there after a crash",
        "a> connect v5 user=ann expiry=100
         a< connack new
         b> connect v5 user=ann expiry=100
         b< connack new
         b> subscribe #1 s:q1
         b< suback #1 01
         lose a
         lose b
         hold
         push 1 user:ann t one
         push 2 subscribers s two
         push 3 subscribers kept three retain
         pending 1
         pending 2
         pending 3
         commit
         pushed 1 0 2
         pushed 2 0 1
         pushed 3 0 0
         crash
         a> connect v5 user=ann expiry=100
         a< connack present
         a< publish t one q1 #1
         a> subscribe #1 kept:q0
         a< suback #1 00
         a< publish kept three retain
         b> connect v5 user=ann expiry=100
         b< connack present
         b< publish t one q1 #1
         b< publish s two q1 #2",
    );
}

#[test]
fn pushes_wait_until_it_is_known_whose_the_sessions_are() {
    check_durable(
        "after a restart nobody is forgotten",
        "a> connect v5 user=ann expiry=100
         a< connack new
         join a g
         crash
         a< closed
         forget
         push 1 group:g t one
         push 2 subscribers t two
         pending 1
         pending 2
         know
         pushed 1 0 1
         pushed 2 0 0
         a> connect v5 user=ann expiry=100
         a< connack present
         a< publish t one q1 #1",
    );
}

/// More than are looked at in one call.
const MANY: usize = 700;

#[test]
fn pushes_to_many_keep_their_order() {
    for loops in [1, 2, 3] {
        let mut server = play_on(
            loops,
            &Settings::default(),
            "a> connect v5
             a< connack new
             a> subscribe #1 t:q0
             a< suback #1 00",
        );
        for number in 0..MANY {
            let name = format!("c{number}");
            crate::script::play_line(&mut server, &format!("{name}> connect v5 user=ann"));
            crate::script::play_line(&mut server, &format!("{name}< connack new"));
        }
        server.manual = true;
        for line in ["push 1 all t 1 q0", "push 2 subscribers t 2 q0", "push 3 user:ann t 3 q0", "push 4 client:a t 4 q0"] {
            crate::script::play_line(&mut server, line);
        }
        server.manual = false;
        server.settle();
        for (token, delivered) in [(1, MANY + 1), (2, 1), (3, MANY), (4, 1)] {
            crate::script::play_line(&mut server, &format!("pushed {token} {delivered} 0"));
        }
        for line in ["a< publish t 1", "a< publish t 2", "a< publish t 4", "c9< publish t 1", "c9< publish t 3"] {
            crate::script::play_line(&mut server, line);
        }
    }
}

#[test]
fn a_push_is_bounded_by_what_the_server_offers() {
    let settings = Settings { max_qos: midge_mqtt::QoS::AtMostOnce, retain: false, ..Settings::default() };
    for loops in [1, 2] {
        play(
            loops,
            &settings,
            "a> connect v4 user=ann
             a< connack new
             push 1 user:ann t one q2
             a< publish t one
             pushed 1 1 0
             push 2 subscribers t two retain
             pushed 2 0 0",
        );
    }
}
