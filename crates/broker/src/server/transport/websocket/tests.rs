//! Requests and frames as RFC 6455 has and forbids them.

use std::io::IoSlice;

use super::*;

/// The request of RFC 6455 section 1.3, with another subprotocol.
const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\nSec-WebSocket-Protocol: chat, mqtt\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

fn upgraded() -> WebSocket {
    let mut socket = WebSocket::new(Arc::default());
    assert!(!socket.open(REQUEST.as_bytes(), &mut Vec::new()).unwrap());
    let written = socket.waiting().len();
    socket.wrote(written, 0);
    socket
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[test]
fn answers_a_request_as_the_standard_shows() {
    for size in [1, 7, 10_000] {
        let settings = Settings { path: Some("/mqtt".into()), origins: vec!["http://example.com".into()] };
        let (mut socket, mut clear) = (WebSocket::new(Arc::new(settings)), Vec::new());
        for part in REQUEST.as_bytes().chunks(size) {
            assert!(!socket.open(part, &mut clear).unwrap());
        }
        let response = String::from_utf8(socket.waiting().to_vec()).unwrap();
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        assert!(response.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
        assert!(response.ends_with("\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"), "{response}");
        assert!(clear.is_empty());
    }
}

#[test]
fn refuses_other_requests() {
    let settings = Settings { path: Some("/mqtt".into()), origins: vec!["http://example.com".into()] };
    let check = |from: &str, to: &str, status: &str| {
        assert!(REQUEST.contains(from), "{from}");
        let mut socket = WebSocket::new(Arc::new(settings.clone()));
        let refused = socket.open(REQUEST.replace(from, to).as_bytes(), &mut Vec::new());
        assert!(matches!(refused, Err(Broken::WebSocket(_))), "{from} -> {to}: {refused:?}");
        let response = String::from_utf8(socket.waiting().to_vec()).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{from} -> {to}: {response}");
    };
    check("GET ", "POST ", "405");
    check("HTTP/1.1", "HTTP/1.0", "405");
    check("/mqtt ", "/other ", "404");
    check("Upgrade: websocket", "Upgrade: h2c", "426");
    check("keep-alive, Upgrade", "keep-alive", "426");
    check("Version: 13", "Version: 8", "426");
    check("chat, mqtt", "chat", "400");
    check("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", "400");
    check("http://example.com", "http://evil.example", "403");
    check("GET /mqtt HTTP/1.1", "\x10\x0d\0\x04MQTT", "400");
}

#[test]
fn refuses_a_request_that_never_ends() {
    let mut socket = WebSocket::new(Arc::default());
    assert!(!socket.open(b"GET /mqtt HTTP/1.1\r\nX: ", &mut Vec::new()).unwrap());
    assert!(socket.open(&[b'x'; 10_000], &mut Vec::new()).is_err());
    assert!(socket.waiting().starts_with(b"HTTP/1.1 431 "));
}

#[test]
fn unmasks_frames_in_any_portions() {
    let long = vec![7; 300];
    let frames =
        [frame(0x82, b"one"), frame(0x02, b"tw"), frame(0x89, b"ping"), frame(0x80, b"o"), frame(0x82, b""), frame(0x82, &long)];
    let input = frames.concat();
    for size in [1, 2, 3, 5, 1000] {
        let mut socket = upgraded();
        let mut clear = Vec::new();
        for part in input.chunks(size) {
            assert!(!socket.open(part, &mut clear).unwrap());
        }
        assert_eq!(clear, [b"onetwo", &long[..]].concat(), "{size}");
        assert_eq!(socket.waiting(), b"\x8a\x04ping");
    }
}

#[test]
fn refuses_frames_that_break_the_rules() {
    let check = |input: &[u8], code: u16| {
        let mut socket = upgraded();
        assert!(socket.open(input, &mut Vec::new()).is_err(), "{input:x?}");
        assert_eq!(socket.waiting(), [&[0x88, 2][..], &code.to_be_bytes()].concat(), "{input:x?}");
    };
    check(&frame(0x81, b"text"), 1003);
    check(&frame(0x80, b"x"), 1002);
    check(&[frame(0x02, b"x"), frame(0x82, b"y")].concat(), 1002);
    check(&frame(0xc2, b"x"), 1002);
    check(&frame(0x83, b"x"), 1002);
    check(&frame(0x8b, b"x"), 1002);
    check(&frame(0x09, b"x"), 1002);
    check(&frame(0x89, &[0; 126]), 1002);
    check(b"\x82\x01x", 1002);
    check(b"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 1002);
}

#[test]
fn closes_when_the_client_does_and_hears_nothing_after() {
    let mut socket = upgraded();
    let mut clear = Vec::new();
    let input = [frame(0x82, b"a"), frame(0x88, &[0x03, 0xe9]), frame(0x82, b"b")].concat();
    assert!(socket.open(&input, &mut clear).unwrap());
    assert_eq!((&clear[..], socket.waiting()), (&b"a"[..], &b"\x88\x02\x03\xe9"[..]));
}

#[test]
fn frames_what_is_written_and_keeps_its_promise_of_a_length() {
    for (length, head) in [(5, &b"\x82\x05"[..]), (127, b"\x82\x7e\0\x7f"), (70_000, b"\x82\x7f\0\0\0\0\0\x01\x11\x70")] {
        let mut socket = upgraded();
        let packets = [publish(length), b"\xc0\0".to_vec()].concat();
        let rest = |at: usize| [IoSlice::new(&packets[at..])];
        assert_eq!(socket.begin(&rest(0), packets.len()), (head, length));
        socket.wrote(1, 0);
        // A ping meanwhile is answered behind the frame.
        socket.open(&frame(0x89, b""), &mut Vec::new()).unwrap();
        assert_eq!(socket.begin(&rest(0), packets.len()), (&head[1..], length));
        socket.wrote(head.len() - 1, length - 1);
        assert_eq!(socket.waiting(), b"");
        assert_eq!(socket.begin(&rest(length - 1), 3), (&b""[..], 1));
        socket.wrote(0, 1);
        assert_eq!(socket.begin(&rest(length), 2), (&b"\x8a\0\x82\x02"[..], 2));
    }
}

#[test]
fn a_packet_in_pieces_has_frames_of_its_own() {
    let mut socket = upgraded();
    let packets = [publish(100), publish(20)].concat();
    let (mut at, mut frames) = (0, Vec::new());
    while at < packets.len() {
        // Pieces as an engine lends them, cut within a fixed header too, and no more than so much at once.
        let slices: Vec<IoSlice<'_>> = packets[at..].chunks(3).map(IoSlice::new).collect();
        let most = (packets.len() - at).min(70);
        let (head, payload) = socket.begin(&slices, most);
        let written = head.len();
        frames.push(payload);
        socket.wrote(written, payload);
        at += payload;
    }
    assert_eq!(frames, [70, 30, 20]);
}

/// Returns a PUBLISH of so many bytes.
fn publish(length: usize) -> Vec<u8> {
    let body = (0..5).map(|header| length - header).find(|body| {
        let needed = if *body < 128 {
            2
        } else if *body < 16_384 {
            3
        } else {
            4
        };
        body + needed == length
    });
    let mut rest = body.unwrap();
    let mut packet = vec![0x30];
    while rest >= 128 {
        packet.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    packet.push(u8::try_from(rest).unwrap());
    packet.resize(length, b'x');
    packet
}
