//! Wills: section 3.1.2.5, 3.1.3.2 and 3.14.4.

use crate::check;

#[test]
fn a_will_looks_like_any_message() {
    check(
        "MQTT-3.1.2-14, MQTT-3.1.2-15, MQTT-3.1.3-10: retained or not, properties in their order",
        "w> connect v5
         w< connack new
         w> subscribe #1 w/#:q2,rap
         w< suback #1 02
         v> connect v4 clean
         v< connack new
         v> subscribe #1 w/#:q1
         v< suback #1 01
         a> connect v5 will=w/a,gone,q2,retain utf8=1 type=text response=r correlation=c u-b=1 u-a=2 left=30 delay=0
         a< connack new
         lose a
         w< publish w/a gone q2 #1 retain left=30 utf8=1 type=text response=r correlation=c u-b=1 u-a=2
         v< publish w/a gone q1 #1
         b> connect v4 will=w/b,gone,q1
         b< connack new
         lose b
         w< publish w/b gone q1 #2
         v< publish w/b gone q1 #2
         x> connect v5
         x< connack new
         x> subscribe #1 w/+:q0
         x< suback #1 00
         x< publish w/a gone retain left=30 utf8=1 type=text response=r correlation=c u-b=1 u-a=2",
    );
}

#[test]
fn a_will_is_published_once() {
    check(
        "MQTT-3.1.2-10: removed once published, and by the next connection",
        "w> connect v5
         w< connack new
         w> subscribe #1 w/#:q0
         w< suback #1 00
         a> connect v5 expiry=10 will=w/a,gone,q0
         a< connack new
         lose a
         w< publish w/a gone
         after 11
         a> connect v5 expiry=100 will=w/a,gone,q0 delay=5
         a< connack new
         lose a
         after 6
         w< publish w/a gone
         a> connect v5 expiry=100
         a< connack present
         lose a
         after 101
         b> connect v5 expiry=100 will=w/b,gone,q0 delay=5
         b< connack new
         b> disconnect
         b< closed
         after 101",
    );
}

#[test]
fn a_will_and_the_next_connection() {
    check(
        "MQTT-3.1.2-8, MQTT-3.1.3-9: a taken over session publishes its will, unless it is delayed and goes on",
        "w> connect v5
         w< connack new
         w> subscribe #1 w/#:q0
         w< suback #1 00
         a> connect v5 expiry=100 will=w/a,1,q0
         a< connack new
         b> connect v5 as=a expiry=100 will=w/a,2,q0 delay=10
         a< disconnect 8E
         w< publish w/a 1
         a< closed
         b< connack present
         c> connect v5 as=a expiry=100 will=w/a,3,q0 delay=10
         b< disconnect 8E
         b< closed
         c< connack present
         lose c
         after 9
         d> connect v4 as=a will=w/a,4,q0
         d< connack present
         after 10
         lose d
         w< publish w/a 4
         e> connect v5 as=a expiry=100 will=w/a,5,q0 delay=10
         e< connack present
         lose e
         f> connect v5 as=a clean
         f< connack new
         after 20
         lose f
         g> connect v5 as=a expiry=100 will=w/a,6,q0 delay=10
         g< connack new
         h> connect v5 as=a clean
         w< publish w/a 6
         g< disconnect 8E
         g< closed
         h< connack new",
    );
    check(
        "3.1.3.2.2: the end of the session is the end of the delay",
        "w> connect v5
         w< connack new
         w> subscribe #1 w/#:q0
         w< suback #1 00
         a> connect v5 expiry=100 will=w/a,gone,q0 delay=50
         a< connack new
         a> disconnect 04 expiry=5
         a< closed
         after 4
         after 2
         w< publish w/a gone
         a> connect v5 expiry=100 will=w/a,gone,q0 delay=50
         a< connack new
         a> disconnect 04 expiry=0
         a< closed
         w< publish w/a gone
         a> connect v5 expiry=100 will=w/a,gone,q0 delay=4294967295
         a< connack new
         lose a
         after 99
         after 2
         w< publish w/a gone",
    );
}

#[test]
fn a_will_to_a_group_of_ones_own_goes_to_who_is_there() {
    check(
        "4.8.2: the member whose will it is has gone",
        "a> connect v5 expiry=100 will=w,gone,q1
         a< connack new
         a> subscribe #1 $share/g/w:q1
         a< suback #1 01
         b> connect v5
         b< connack new
         b> subscribe #1 $share/g/w:q1
         b< suback #1 01
         lose a
         b< publish w gone q1 #1
         c> connect v5 will=w,gone,q0
         c< connack new
         c> subscribe #1 $share/g/w:q1
         c< suback #1 01
         lose c
         b< publish w gone",
    );
}
