//! What was acknowledged survives a crash, and nothing is acknowledged before.

use midge_engine::limits::Settings;

use crate::check_durable;
use crate::script::play;

#[test]
fn acknowledgements_wait_for_the_journal() {
    check_durable(
        "nothing is promised before it is on disk",
        "hold
         a> connect v5 expiry=100
         commit
         a< connack new
         hold
         a> subscribe #1 t:q2
         commit
         a< suback #1 02
         p> connect v4 clean
         p< connack new
         hold
         p> publish t 0
         a< publish t 0
         p> publish t 1 q1 #1
         a< publish t 1 q1 #1
         p> publish t 2 q2 #2
         p> publish u 3 q1 #3
         commit
         p< puback #1
         p< pubrec #2
         p< puback #3
         a< publish t 2 q2 #2
         hold
         a> pubrec #2
         commit
         a< pubrel #2
         hold
         a> publish v x q2 #7
         commit
         a< pubrec #7
         hold
         a> pubrel #7
         commit
         a< pubcomp #7",
    );
}

#[test]
fn sessions_go_on_after_a_crash() {
    let servers = check_durable(
        "MQTT-3.1.2-5, MQTT-4.1.0-1, MQTT-4.1.0-2: session state outlives the server",
        "a> connect v5 expiry=1000 rm=3
         a< connack new
         a> subscribe #1 t/+:q2 id=9
         a< suback #1 02
         p> connect v4
         p< connack new
         p> publish t/1 1 q2 #1
         p< pubrec #1
         p> publish t/1 2 q2 #2
         p< pubrec #2
         p> publish t/1 3 q1 #3
         p< puback #3
         p> publish t/2 4 q1 #4
         p< puback #4
         p> publish t/2 keep q1 #5 retain
         p< puback #5
         a< publish t/1 1 q2 #1 id=9
         a< publish t/1 2 q2 #2 id=9
         a< publish t/1 3 q1 #3 id=9
         a> pubrec #1
         a< pubrel #1
         p> pubrel #1
         p< pubcomp #1
         crash
         a< closed
         p< closed
         p> connect v4
         p< connack present
         p> publish t/1 2 q2 #2 dup
         p< pubrec #2
         a> connect v5 expiry=1000 rm=5
         a< connack present
         a< pubrel #1
         a< publish t/1 2 q2 #2 dup id=9
         a< publish t/1 3 q1 #3 dup id=9
         a< publish t/2 4 q1 #4 id=9
         a< publish t/2 keep q1 #5 id=9
         a> pubcomp #1
         a> pubrec #2
         a< pubrel #2
         a> pubcomp #2
         a> puback #3
         a> puback #4
         a> puback #5
         p> publish t/3 5 q1 #6
         p< puback #6
         a< publish t/3 5 q1 #6 id=9
         a> puback #6
         a> subscribe #2 t/2:q0
         a< suback #2 00
         a< publish t/2 keep retain",
    );
    for server in servers {
        assert_eq!((server.state().messages.len(), server.state().sessions.len()), (0, 2));
        let queued: usize = server.shards.iter().map(|shard| shard.counters().queued_messages).sum();
        assert_eq!(queued, 0);
    }
}

#[test]
fn a_crash_may_change_the_number_of_loops() {
    check_durable(
        "sessions, groups and retained messages move to the loops they belong to then",
        "a> connect v5 expiry=1000
         a< connack new
         a> subscribe #1 t:q1 $share/g/u:q1
         a< suback #1 01 01
         b> connect v5 expiry=1000
         b< connack new
         b> subscribe #1 $share/g/u:q1
         b< suback #1 01
         lose a
         lose b
         p> connect v4 clean
         p< connack new
         p> publish t 1 q1 #1 retain
         p< puback #1
         p> publish old x retain
         p> publish old - retain
         crash 4
         p< closed
         a> connect v5 expiry=1000
         a< connack present
         a< publish t 1 q1 #1
         p> connect v4 clean
         p< connack new
         p> publish u 2 q1 #2
         p< puback #2
         a< publish u 2 q1 #2
         p> subscribe #3 #:q0
         p< suback #3 00
         p< publish t 1 retain
         crash 1
         a< closed
         p< closed
         b> connect v5 expiry=1000
         b< connack present
         b> subscribe #2 #:q0
         b< suback #2 00
         b< publish t 1 retain",
    );
}

#[test]
fn intervals_go_on_through_a_crash() {
    check_durable(
        "MQTT-3.1.2-23, MQTT-3.1.3-9, MQTT-3.3.2-5: expiries and delays",
        "a> connect v5 expiry=20
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         lose a
         b> connect v5 expiry=100
         b< connack new
         b> subscribe #1 #:q1
         b< suback #1 01
         p> connect v5
         p< connack new
         p> publish t short q1 #1 left=5
         p< puback #1
         p> publish t long q1 #2 left=50
         p< puback #2
         b< publish t short q1 #1 left=5
         b< publish t long q1 #2 left=50
         b> puback #1
         b> puback #2
         w> connect v5 expiry=100 will=w,gone,q1 delay=10
         w< connack new
         crash
         b< closed
         p< closed
         w< closed
         after 8
         b> connect v5 expiry=100
         b< connack present
         a> connect v5 expiry=20
         a< connack present
         a< publish t long q1 #1 left=42
         lose a
         after 3
         b< publish w gone q1 #1
         after 20
         a> connect v5
         a< connack new",
    );
}

#[test]
fn what_was_not_acknowledged_may_be_lost() {
    check_durable(
        "a session that was never confirmed is not there after a crash",
        "hold
         a> connect v5 expiry=100
         crash
         a< closed
         commit
         a> connect v5 expiry=100
         a< connack new
         p> connect v4 clean
         p< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         hold
         p> publish t 1 q1 #1
         a< publish t 1 q1 #1
         crash
         p< closed
         a< closed
         commit
         a> connect v5 expiry=100
         a< connack present",
    );
}

#[test]
fn what_one_target_drops_another_keeps() {
    check_durable(
        "one target drops it, the next still has it after a crash",
        "a> connect v5 expiry=100 max=20
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         b> connect v5 expiry=100
         b< connack new
         b> subscribe #1 t:q1
         b< suback #1 01
         p> connect v4 clean
         p< connack new
         p> publish t 0123456789012345678901234567890123456789 q1 #1
         p< puback #1
         b< publish t 0123456789012345678901234567890123456789 q1 #1
         crash
         p< closed
         a< closed
         b< closed
         b> connect v5 expiry=100
         b< connack present
         b< publish t 0123456789012345678901234567890123456789 q1 #1 dup",
    );
}

#[test]
fn what_is_on_disk_is_kept_though_nobody_was_told() {
    // MQTT-4.3.3-10: what came and where it went is one batch, so the copy is not passed on again.
    // Between the commits of two loops it may be, so there is one.
    let settings = Settings { persistence: true, ..Settings::default() };
    play(
        1,
        &settings,
        "a> connect v5 expiry=100
         a< connack new
         a> subscribe #1 t:q2
         a< suback #1 02
         p> connect v5 expiry=100
         p< connack new
         hold
         p> publish t 1 q2 #1
         disk
         crash
         a< closed
         p< closed
         commit
         p> connect v5 expiry=100
         p< connack present
         p> publish t 1 q2 #1 dup
         p< pubrec #1
         p> pubrel #1
         p< pubcomp #1
         a> connect v5 expiry=100
         a< connack present
         a< publish t 1 q2 #1 dup
         a> pubrec #1
         a< pubrel #1
         a> pubcomp #1",
    );
}

#[test]
fn nothing_is_said_before_connack() {
    check_durable(
        "MQTT-3.2.0-1, MQTT-3.14.0-1: neither DISCONNECT nor a message overtakes it",
        "a> connect v5 expiry=100
         a< connack new
         a> subscribe #1 t:q1
         a< suback #1 01
         lose a
         p> connect v4 clean
         p< connack new
         p> publish t 1 q1 #1
         p< puback #1
         hold
         a> connect v5 expiry=100
         p> publish t 2
         b> connect v5 as=a expiry=100
         a< closed
         commit
         b< connack present
         b< publish t 1 q1 #1 dup
         b> puback #1",
    );
}
