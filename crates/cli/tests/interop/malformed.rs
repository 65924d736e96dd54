//! What is no MQTT ends its own connection alone.
//!
//! Some thousands of malformed packets, of all three versions: the refused rows of the table of wire vectors,
//! and systematic damage to a packet of each type. What each must lead to comes from the standards and from
//! the table, never from the decoder under test.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use midge_mqtt::vectors::{self, Expected, Vector};
use midge_mqtt::{Peer, ProtocolVersion};
use midge_testkit::{Connect, Protocol, RawClient};

use crate::served::Served;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a second turn of the corpus may leave behind, in bytes: the allocator's own slack.
const SLACK: u64 = 4 << 20;

/// How many failures are enough to see.
const MANY: usize = 20;

/// Bytes that a client sends, after CONNECT or instead of it.
struct Case {
    name: String,
    level: u8,
    /// Whether a CONNECT goes before.
    connected: bool,
    bytes: Vec<u8>,
    /// The reason codes that 5.0 may give.
    reasons: Vec<u8>,
}

impl Case {
    fn after_connect(name: impl Into<String>, level: u8, bytes: &[u8], reasons: &[u8]) -> Self {
        Self { name: name.into(), level, connected: true, bytes: bytes.to_vec(), reasons: reasons.to_vec() }
    }

    fn first(name: impl Into<String>, level: u8, bytes: &[u8], reasons: &[u8]) -> Self {
        Self { connected: false, ..Self::after_connect(name, level, bytes, reasons) }
    }

    /// Returns what is wrong with the server's reaction, if anything.
    fn judge(&self, port: u16) -> Result<(), String> {
        let mut input = if self.connected { hello(self.level, "malformed") } else { Vec::new() };
        let accepted = if self.connected { connack(self.level) } else { Vec::new() };
        input.extend(&self.bytes);
        let answer = exchange(port, &input)?;
        let told = |rest: &[u8]| match rest {
            [] => true,
            // Only 5.0 can say why: in CONNACK before it said yes [MQTT-4.13.1-1], in DISCONNECT after.
            [0x20, 0x03, 0x00, code, 0x00] if self.level == 5 && !self.connected => self.reasons.contains(code),
            [0xE0, 0x01, code] if self.level == 5 && self.connected => self.reasons.contains(code),
            // Before, CONNACK refuses a version or an identifier, and nothing else that a packet shows.
            [0x20, 0x02, 0x00, 0x01 | 0x02] => !self.connected && self.level != 5,
            _ => false,
        };
        let rest = answer.get(..accepted.len()).filter(|start| start.starts_with(&accepted[..1.min(accepted.len())]));
        let Some(rest) = rest.map(|_| skip_connack(&answer, self.connected)) else { return Err(format!("answered {answer:02x?}")) };
        let silent = rest.is_empty() && self.level == 5 && self.must_be_told();
        if told(rest) && !silent { Ok(()) } else { Err(format!("answered {rest:02x?}, not {:02x?}", self.reasons)) }
    }

    /// Returns whether 5.0 has to say the reason: always, but to who hasn't shown to speak it.
    fn must_be_told(&self) -> bool {
        self.connected || self.bytes.starts_with(b"\x10") && self.bytes.windows(7).any(|at| at == b"\0\x04MQTT\x05")
    }
}

fn skip_connack(answer: &[u8], connected: bool) -> &[u8] {
    if !connected {
        return answer;
    }
    let length = answer.get(1).map_or(answer.len(), |length| usize::from(*length) + 2);
    answer.get(length..).unwrap_or_default()
}

/// Returns how an accepting CONNACK begins.
fn connack(level: u8) -> Vec<u8> {
    if level == 5 { vec![0x20] } else { vec![0x20, 0x02, 0x00, 0x00] }
}

fn protocol(level: u8) -> Protocol {
    match level {
        3 => Protocol::V3_1,
        4 => Protocol::V3_1_1,
        _ => Protocol::V5,
    }
}

fn hello(level: u8, id: &str) -> Vec<u8> {
    Connect::new(protocol(level), id).encode()
}

/// Sends bytes and returns all that comes until the server closes.
fn exchange(port: u16, input: &[u8]) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let written = stream.write_all(input);
    match stream.read_to_end(&mut answer) {
        // What the server hasn't read of a connection that it closes makes a reset of the end.
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(format!("the connection stands: {error}")),
        _ if written.is_err() && answer.is_empty() => Ok(answer),
        _ => Ok(answer),
    }
}

fn notation(text: &str) -> Vec<u8> {
    vectors::bytes(text).unwrap_or_else(|| panic!("not in the notation: {text}"))
}

/// Puts a length before a body.
fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length & 0x7F).unwrap();
        length >>= 7;
        frame.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    frame.extend(body);
    frame
}

/// The refused rows of the table that a client could send.
fn of_the_table(cases: &mut Vec<Case>) {
    for vector in vectors::all() {
        let Vector { origin, note, version, bytes, expected: Expected::Refused { reason_code, error, .. }, peer } = vector else {
            continue;
        };
        let level = match version {
            // Who asks for a version that isn't there is told so as 3.1.1 tells it.
            _ if error == "UnsupportedProtocolVersion" => 4,
            ProtocolVersion::V31 => 3,
            ProtocolVersion::V311 => 4,
            ProtocolVersion::V5 => 5,
        };
        // The server takes bridges in, which the rows don't presuppose.
        if note.contains("bridge") {
            continue;
        }
        let (name, reasons) = (format!("{origin} ({note})"), [reason_code.value()]);
        match peer {
            Peer::NewClient => cases.push(Case::first(name, level, &bytes, &reasons)),
            Peer::Client(_) => cases.push(Case::after_connect(name, level, &bytes, &reasons)),
            Peer::Server(_) => {}
        }
    }
}

/// One packet of each type that a client sends, with the lengths of its body at which it would be whole.
const WHOLE: &[(u8, &str, u8, &str, &[usize])] = &[
    (3, "PUBACK", 0x40, "0001", &[]),
    (3, "PUBREC", 0x50, "0001", &[]),
    (3, "PUBREL", 0x62, "0001", &[]),
    (3, "PUBCOMP", 0x70, "0001", &[]),
    (3, "SUBSCRIBE", 0x82, "0001 'a/b' 01", &[]),
    (3, "UNSUBSCRIBE", 0xA2, "0001 'a/b'", &[]),
    (4, "PUBACK", 0x40, "0001", &[]),
    (4, "PUBREC", 0x50, "0001", &[]),
    (4, "PUBREL", 0x62, "0001", &[]),
    (4, "PUBCOMP", 0x70, "0001", &[]),
    (4, "SUBSCRIBE", 0x82, "0001 'a/b' 01", &[]),
    (4, "UNSUBSCRIBE", 0xA2, "0001 'a/b'", &[]),
    (5, "PUBACK", 0x40, "0001 00 { 26 'k' 'v' }", &[2, 3]),
    (5, "PUBREC", 0x50, "0001 00 { 26 'k' 'v' }", &[2, 3]),
    (5, "PUBREL", 0x62, "0001 00 { 26 'k' 'v' }", &[2, 3]),
    (5, "PUBCOMP", 0x70, "0001 00 { 26 'k' 'v' }", &[2, 3]),
    (5, "SUBSCRIBE", 0x82, "0001 { 0B 01 26 'k' 'v' } 'a/b' 01", &[]),
    (5, "UNSUBSCRIBE", 0xA2, "0001 { 26 'k' 'v' } 'a/b'", &[]),
    (5, "DISCONNECT", 0xE0, "04 { 11 00000001 1F 'why' 26 'k' 'v' }", &[0, 1]),
];

/// Cut short by each number of bytes, and longer by one, the length before it always right.
fn cut_and_longer(cases: &mut Vec<Case>) {
    for (level, name, first, body, whole) in WHOLE {
        let body = notation(body);
        for length in (0..body.len()).filter(|length| !whole.contains(length)) {
            // An acknowledgement of nothing and a cut one differ in nothing but the reader.
            let bytes = frame(*first, &body[..length]);
            cases.push(Case::after_connect(format!("{level} {name} cut to {length}"), *level, &bytes, &[0x81, 0x82]));
        }
        let mut longer = body.clone();
        longer.push(0);
        let bytes = frame(*first, &longer);
        cases.push(Case::after_connect(format!("{level} {name} with a byte more"), *level, &bytes, &[0x81]));
    }
    for level in [3, 4, 5] {
        let whole = hello(level, "malformed");
        let (first, body) = (whole[0], &whole[2..]);
        for length in 0..body.len() {
            let bytes = frame(first, &body[..length]);
            cases.push(Case::first(format!("{level} CONNECT cut to {length}"), level, &bytes, &[0x81, 0x82, 0x84, 0x85]));
        }
        cases.push(Case::first(format!("{level} CONNECT with a byte more"), level, &frame(first, &[body, &[0]].concat()), &[0x81]));
    }
}

/// Every value of the four flags but the one that is right [MQTT-2.1.3-1], and of the four bits above.
fn first_bytes(cases: &mut Vec<Case>) {
    // 3.1 gives the flags of most packets no meaning, wrong ones neither.
    for (level, name, first, body, _) in WHOLE.iter().filter(|(level, ..)| *level > 3) {
        for flags in (0..16).filter(|flags| *flags != first & 0x0F) {
            let bytes = frame(first & 0xF0 | flags, &notation(body));
            cases.push(Case::after_connect(format!("{level} {name} with flags {flags:04b}"), *level, &bytes, &[0x81]));
        }
    }
    for (level, what) in [(3, 0x00), (4, 0x00), (5, 0x00), (3, 0xF0), (4, 0xF0)] {
        for flags in 0..16 {
            let bytes = [what | flags, 0];
            cases.push(Case::after_connect(format!("{level} type {:x}", what | flags), level, &bytes, &[0x81]));
        }
    }
    for level in [3, 4, 5] {
        for server in [0x20, 0x90, 0xB0, 0xD0] {
            let bytes = frame(server, &[0, 1]);
            cases.push(Case::after_connect(format!("{level} a server's {server:x}"), level, &bytes, &[0x82]));
        }
        for first in (0..=0xFF).filter(|first| first & 0xF0 != 0x10) {
            cases.push(Case::first(format!("{level} {first:02x} first"), level, &frame(first, &[0, 1, 0, 0]), &[]));
        }
        let second = hello(level, "malformed");
        cases.push(Case::after_connect(format!("{level} CONNECT again"), level, &second, &[0x82]));
        for over in [&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F][..], &[0xC0, 0x80, 0x80, 0x80, 0x80, 0x00]] {
            cases.push(Case::after_connect(format!("{level} length of five bytes"), level, over, &[0x81]));
        }
        // A mebibyte is the most that a server takes that nobody configured.
        cases.push(Case::after_connect(format!("{level} too large"), level, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F], &[0x95]));
    }
}

/// The properties of 5.0: identifier, a value that is right, and the packets of clients they belong to:
/// CONNECT (c), will (w), PUBLISH (p), acknowledgements (a), SUBSCRIBE (s), UNSUBSCRIBE (u), DISCONNECT (d), AUTH (x).
const PROPERTIES: &[(u8, &str, &str)] = &[
    (0x01, "01", "wp"),
    (0x02, "00000001", "wp"),
    (0x03, "'t'", "wp"),
    (0x08, "'t'", "wp"),
    (0x09, "( 00 )", "wp"),
    (0x0B, "01", "s"),
    (0x11, "00000001", "cd"),
    (0x12, "'i'", ""),
    (0x13, "0001", ""),
    (0x15, "'m'", "cx"),
    (0x16, "( 00 )", "cx"),
    (0x17, "01", "c"),
    (0x18, "00000001", "w"),
    (0x19, "01", "c"),
    (0x1A, "'r'", ""),
    (0x1C, "'s'", "d"),
    (0x1F, "'r'", "adx"),
    (0x21, "0001", "c"),
    (0x22, "0001", "c"),
    (0x23, "0001", "p"),
    (0x24, "01", ""),
    (0x25, "01", ""),
    (0x26, "'k' 'v'", "cwpasudx"),
    (0x27, "00010000", "c"),
    (0x28, "01", ""),
    (0x29, "01", ""),
    (0x2A, "01", ""),
];

/// Where properties stand: the letter of the packet, its first byte, what is before them and behind.
const PLACES: &[(char, u8, &str, &str)] = &[
    ('c', 0x10, "'MQTT' 05 02 003C", "'malformed'"),
    ('w', 0x10, "'MQTT' 05 06 003C 00 'malformed'", "'t' 'p'"),
    ('p', 0x30, "'t'", "70"),
    ('p', 0x32, "'t' 0001", "70"),
    ('a', 0x40, "0001 00", ""),
    ('a', 0x50, "0001 00", ""),
    ('a', 0x62, "0001 00", ""),
    ('a', 0x70, "0001 00", ""),
    ('s', 0x82, "0001", "'t' 00"),
    ('u', 0xA2, "0001", "'t'"),
    ('d', 0xE0, "00", ""),
    ('x', 0xF0, "18", ""),
];

/// Properties unknown, where they don't belong, twice, and cut.
fn properties(cases: &mut Vec<Case>) {
    for (place, first, before, behind) in PLACES {
        let mut add = |name: String, properties: &str, reasons: &[u8]| {
            let bytes = frame(*first, &notation(&format!("{before} {{ {properties} }} {behind}")));
            let name = format!("5 {place} {first:02x} {name}");
            cases.push(if *first == 0x10 {
                Case::first(name, 5, &bytes, reasons)
            } else {
                Case::after_connect(name, 5, &bytes, reasons)
            });
        };
        for id in (0..=0xFF_u8).filter(|id| *id < 0x80 && PROPERTIES.iter().all(|(known, ..)| known != id)) {
            add(format!("unknown property {id:02x}"), &format!("{id:02X} 00"), &[0x81]);
        }
        for (id, value, where_) in PROPERTIES {
            let once = format!("{id:02X} {value}");
            if !where_.contains(*place) {
                // A property that doesn't belong is malformed (2.2.2.2); sections on single ones say protocol error.
                add(format!("property {id:02x}"), &once, &[0x81, 0x82]);
            } else if *id != 0x26 {
                add(format!("property {id:02x} twice"), &format!("{once} {once}"), &[0x82]);
            }
            add(format!("property {id:02x} without its value"), &format!("{id:02X}"), &[0x81, 0x82]);
        }
        add("an identifier of two bytes".to_owned(), "A600 'k' 'v'", &[0x81]);
        add("an identifier without end".to_owned(), "FFFFFFFF", &[0x81]);
    }
}

/// What is no UTF-8 that MQTT takes [MQTT-1.5.4-1], [MQTT-1.5.4-2]: surrogates, overlong forms, what is above U+10FFFF,
/// halves, U+0000; and what a server may refuse (1.5.4): control characters and non-characters.
const ILL: &[&str] = &[
    "00",
    "61 00",
    "00 61",
    "61 00 62",
    "EDA080",
    "EDAFBF",
    "EDB080",
    "EDBFBF",
    "61 EDA080 EDB080 62",
    "C080",
    "C1BF",
    "E08080",
    "E09FBF",
    "F0808080",
    "F08FBFBF",
    "F4908080",
    "F5808080",
    "F888808080",
    "FC8480808080",
    "FE",
    "FF",
    "80",
    "BF",
    "C3",
    "E282",
    "F09F98",
    "C328",
    "E22882",
    "61 80",
    "C3 C3A4",
    "01",
    "61 1F",
    "7F 61",
    "C280",
    "61 C29F",
    "EFB790",
    "EFB7AF",
    "61 EFBFBE",
    "EFBFBF 61",
    "F09FBFBE",
    "F48FBFBF",
];

/// Where strings stand: version, what is before and behind.
const STRINGS: &[(u8, u8, &str, &str)] = &[
    (3, 0x10, "'MQIsdp' 03 02 003C", ""),
    (4, 0x10, "'MQTT' 04 02 003C", ""),
    (4, 0x10, "'MQTT' 04 06 003C 'malformed'", "'p'"),
    (4, 0x10, "'MQTT' 04 82 003C 'malformed'", ""),
    (5, 0x10, "'MQTT' 05 02 003C 00", ""),
    (5, 0x10, "'MQTT' 05 06 003C 00 'malformed' 00", "'p'"),
    (5, 0x10, "'MQTT' 05 82 003C 00 'malformed'", ""),
    (3, 0x30, "", "70"),
    (4, 0x30, "", "70"),
    (5, 0x30, "", "00 70"),
    (3, 0x82, "0001", "00"),
    (4, 0x82, "0001", "00"),
    (5, 0x82, "0001 00", "00"),
    (3, 0xA2, "0001", ""),
    (4, 0xA2, "0001", ""),
    (5, 0xA2, "0001 00", ""),
];

/// Where strings stand among properties: the first byte, what is before and behind the properties, and within before and behind the string.
const PROPERTY_STRINGS: &[(u8, &str, &str, &str, &str)] = &[
    (0x10, "'MQTT' 05 02 003C", "26", "'v'", "'malformed'"),
    (0x10, "'MQTT' 05 02 003C", "26 'k'", "", "'malformed'"),
    (0x10, "'MQTT' 05 02 003C", "15", "", "'malformed'"),
    (0x10, "'MQTT' 05 06 003C 00 'malformed'", "03", "", "'t' 'p'"),
    (0x10, "'MQTT' 05 06 003C 00 'malformed'", "08", "", "'t' 'p'"),
    (0x30, "'t'", "03", "", "70"),
    (0x30, "'t'", "08", "", "70"),
    (0x30, "'t'", "26", "'v'", "70"),
    (0x30, "'t'", "26 'k'", "", "70"),
    (0x40, "0001 00", "1F", "", ""),
    (0x50, "0001 00", "26", "'v'", ""),
    (0x62, "0001 00", "26 'k'", "", ""),
    (0x70, "0001 00", "1F", "", ""),
    (0x82, "0001", "26", "'v'", "'t' 00"),
    (0xA2, "0001", "26 'k'", "", "'t'"),
    (0xE0, "00", "1F", "", ""),
    (0xF0, "18", "15", "", ""),
];

/// Each kind of string that is none, at each place of a string.
fn strings(cases: &mut Vec<Case>) {
    let mut add = |level: u8, first: u8, ill: &str, body: &str| {
        let bytes = frame(first, &notation(body));
        let name = format!("{level} {first:02x} {body} with {ill}");
        // Malformed; where a topic is what is ill-formed, its own reason is as right.
        let reasons = [0x81, 0x85, 0x8F, 0x90];
        cases.push(if first == 0x10 {
            Case::first(name, level, &bytes, &reasons)
        } else {
            Case::after_connect(name, level, &bytes, &reasons)
        });
    };
    for ill in ILL {
        for (level, first, before, behind) in STRINGS {
            add(*level, *first, ill, &format!("{before} ( {ill} ) {behind}"));
        }
        for (first, before, inner, after, behind) in PROPERTY_STRINGS {
            add(5, *first, ill, &format!("{before} {{ {inner} ( {ill} ) {after} }} {behind}"));
        }
    }
}

/// Numbers that aren't allowed: QoS, options, identifiers, reason codes, wildcards in names.
fn values(cases: &mut Vec<Case>) {
    for level in [3, 4, 5] {
        let none = if level == 5 { "00" } else { "" };
        let mut add = |name: String, first: u8, body: &str, reasons: &[u8]| {
            cases.push(Case::after_connect(format!("{level} {name}"), level, &frame(first, &notation(body)), reasons));
        };
        for first in [0x36, 0x37, 0x3E, 0x3F] {
            add("PUBLISH of QoS 3".to_owned(), first, &format!("'t' 0001 {none} 70"), &[0x81]);
        }
        for first in [0x32, 0x34] {
            add("PUBLISH without identifier".to_owned(), first, &format!("'t' 0000 {none} 70"), &[0x81, 0x82]);
        }
        for (first, rest) in [(0x40, ""), (0x50, ""), (0x62, ""), (0x70, ""), (0x82, "'t' 00"), (0xA2, "'t'")] {
            let none = if first >= 0x82 { none } else { "" };
            add(format!("{first:02x} of identifier 0"), first, &format!("0000 {none} {rest}"), &[0x81, 0x82]);
        }
        for topic in ["'#'", "'+'", "'a/#'", "'a/+/b'", "'a#'", "'+a'", "'a/b+'", "'/#/'"] {
            add(format!("PUBLISH to {topic}"), 0x30, &format!("{topic} {none} 70"), &[0x81, 0x82, 0x90]);
        }
        add("PUBLISH to nothing".to_owned(), 0x30, &format!("'' {none} 70"), &[0x81, 0x82, 0x90]);
        for filter in ["''", "'a#'", "'#/a'", "'a/#/b'", "'+a'", "'a+'", "'a/+b/c'", "'##'", "'++'"] {
            add(format!("SUBSCRIBE to {filter}"), 0x82, &format!("0001 {none} {filter} 00"), &[0x81, 0x82, 0x8F]);
            add(format!("UNSUBSCRIBE from {filter}"), 0xA2, &format!("0001 {none} {filter}"), &[0x81, 0x82, 0x8F]);
        }
        add("SUBSCRIBE to nothing".to_owned(), 0x82, &format!("0001 {none}"), &[0x81, 0x82]);
        add("UNSUBSCRIBE from nothing".to_owned(), 0xA2, &format!("0001 {none}"), &[0x81, 0x82]);
        for options in 0..=0xFF_u8 {
            let allowed = if level == 5 { options & 0xC0 == 0 && options & 0x30 != 0x30 } else { options & 0xFC == 0 };
            // 3.1 leaves the six bits above without use.
            if options & 0x03 == 0x03 || !allowed && level > 3 {
                add(
                    format!("SUBSCRIBE with options {options:02x}"),
                    0x82,
                    &format!("0001 {none} 't' {options:02X}"),
                    &[0x81, 0x82],
                );
            }
        }
    }
    for (first, known) in [
        (0x40, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99][..]),
        (0x50, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]),
        (0x62, &[0x00, 0x92]),
        (0x70, &[0x00, 0x92]),
    ] {
        for code in (0..=0xFF_u8).filter(|code| !known.contains(code)) {
            let bytes = frame(first, &[0, 1, code]);
            cases.push(Case::after_connect(format!("5 {first:02x} with reason {code:02x}"), 5, &bytes, &[0x81, 0x82]));
        }
    }
}

/// CONNECT with every protocol level, every mismatch of name and level, and every flag that contradicts another.
fn connects(cases: &mut Vec<Case>) {
    // The highest bit is a bridge's, which 3.1 and 3.1.1 have and 5.0 hasn't.
    let spoken = [3, 4, 5, 0x83, 0x84, 0x85];
    for level in (0..=0xFF_u8).filter(|level| !spoken.contains(level)) {
        let bytes = frame(0x10, &notation(&format!("'MQTT' {level:02X} 02 003C 'malformed'")));
        cases.push(Case::first(format!("level {level}"), 4, &bytes, &[]));
    }
    let bridge = frame(0x10, &notation("'MQTT' 85 02 003C 00 'malformed'"));
    cases.push(Case::first("a bridge of 5.0", 5, &bridge, &[0x84]));
    for name in ["''", "'M'", "'mqtt'", "'MQTS'", "'MQTTX'", "'MQIsdq'", "'HTTP'", "( 4D515454 00 )"] {
        for level in [3, 4, 5] {
            let bytes = frame(0x10, &notation(&format!("{name} {level:02X} 02 003C 00 'malformed'")));
            cases.push(Case::first(format!("name {name} {level}"), 4, &bytes, &[]));
        }
    }
    for (level, none) in [(4, ""), (5, "00")] {
        for flags in 0..=0xFF_u8 {
            let (will, qos, retain) = (flags & 4 != 0, flags >> 3 & 3, flags & 0x20 != 0);
            let alone = flags & 0x40 != 0 && flags & 0x80 == 0 && level == 4;
            let wrong = flags & 1 != 0 || !will && (qos > 0 || retain) || qos == 3 || alone;
            if wrong {
                let mut body = format!("'MQTT' {level:02X} {flags:02X} 003C {none} 'malformed'");
                body.extend(will.then(|| format!("{none} 't' 'p'")));
                body.extend((flags & 0x80 != 0).then_some("'u'"));
                body.extend((flags & 0x40 != 0).then_some("'p'"));
                let reasons = [0x81, 0x82, 0x9B];
                cases.push(Case::first(
                    format!("{level} connect flags {flags:08b}"),
                    level,
                    &frame(0x10, &notation(&body)),
                    &reasons,
                ));
            }
        }
    }
}

fn corpus() -> Vec<Case> {
    let mut cases = Vec::new();
    for add in [of_the_table, cut_and_longer, first_bytes, properties, strings, values, connects] {
        add(&mut cases);
    }
    cases
}

#[test]
fn malformed_packets_end_their_connection_and_nothing_else() {
    let server = Served::plain();
    let cases = corpus();
    assert!(cases.len() > 2000, "the corpus has shrunk to {}", cases.len());
    let mut bystanders: Vec<RawClient> = [3, 4, 5]
        .map(|level| {
            let mut client = RawClient::connect(server.port, &Connect::new(protocol(level), &format!("bystander{level}"))).unwrap();
            client.subscribe(&[("bystander", 1)]).unwrap();
            client
        })
        .into();
    let mut memory = Vec::new();
    for turn in 0..3 {
        let mut failures = Vec::new();
        for (at, case) in cases.iter().enumerate() {
            if let Err(found) = case.judge(server.port) {
                failures.push(format!("{}: {:02x?}: {found}", case.name, case.bytes));
                // A connection that stands takes its time.
                if failures.len() >= MANY {
                    break;
                }
            }
            if at % 100 == 0 {
                let payload = format!("{turn} {at}");
                bystanders[0].publish("bystander", payload.as_bytes(), 1, false).unwrap();
                for client in &mut bystanders {
                    assert_eq!(client.message(PATIENCE).unwrap().unwrap().payload, payload.as_bytes());
                }
            }
        }
        assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
        memory.push(server.memory());
    }
    assert!(memory[2] < memory[1] + SLACK, "memory grows with each turn: {memory:?}");
}
