//! Conversations with one or more loops, each for a clause of the standard.

#[path = "support/script.rs"]
mod script;
#[path = "support/server.rs"]
mod server;

use midge_engine::limits::Settings;

fn check(clause: &str, script: &str) {
    for persistence in [false, true] {
        for loops in [1, 2, 3] {
            println!("{clause}, {loops} loops, persistence {persistence}");
            script::play(loops, &Settings { persistence, ..Settings::default() }, script);
        }
    }
}

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
