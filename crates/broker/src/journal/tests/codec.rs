//! What is written is read, and nothing else is.

use midge_engine::record::Record;
use proptest::prelude::*;

use super::samples::any_record;
use crate::journal::codec::{Malformed, decode, encode, split};

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(record, &mut bytes);
    bytes
}

/// Writes the right length in front of a body.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(body);
    bytes
}

proptest! {
    #[test]
    fn records_are_read_as_they_were_written(records in prop::collection::vec(any_record(), 1..10)) {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| encode(record, &mut bytes));
        let mut rest = bytes.as_slice();
        for record in &records {
            prop_assert_eq!(&decode(split(&mut rest).unwrap()).unwrap(), record);
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn no_part_of_a_record_is_one(record in any_record()) {
        let bytes = encoded(&record);
        for end in 0..bytes.len() {
            prop_assert_eq!(split(&mut &bytes[..end]), Err(Malformed));
        }
        for end in 4..bytes.len() {
            prop_assert_eq!(decode(&framed(&bytes[4..end])), Err(Malformed), "{} of {}", end, bytes.len());
        }
        let mut longer = bytes[4..].to_vec();
        longer.push(0);
        prop_assert_eq!(decode(&framed(&longer)), Err(Malformed));
    }

    /// Each record has one form: what is read from changed bytes is another record, written as these bytes, or nothing.
    #[test]
    fn records_have_one_form(record in any_record(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = encoded(&record);
        let at = 4 + at.index(bytes.len() - 4);
        bytes[at] ^= 1 << bit;
        if let Ok(other) = decode(&bytes) {
            prop_assert_ne!(&other, &record);
            prop_assert_eq!(encoded(&other), bytes);
        }
    }

    #[test]
    fn anything_may_come(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = decode(&framed(&bytes));
        let _ = split(&mut bytes.as_slice()).map(decode);
    }
}

/// The files of a version must be readable for ever: these bytes are part of the format.
#[test]
fn the_form_stays() {
    use midge_engine::record::{MessageKey, SessionKey};
    use midge_mqtt::{PacketId, QoS, SubscriptionId};
    let session = SessionKey(300);
    let (packet_id, identifier) = (PacketId::new(0x0102).unwrap(), SubscriptionId::new(5).unwrap());
    for (record, expected) in [
        (Record::Started { session, client_id: "ab".into() }, &b"\x06\0\0\0\x01\xac\x02\x02ab"[..]),
        (Record::Online { session, username: Some("u".into()), expiry: 1 }, b"\x07\0\0\0\x02\xac\x02\x01\x01u\x01"),
        (Record::Offline { session, expiry: 1, since: 2 }, b"\x05\0\0\0\x03\xac\x02\x01\x02"),
        (Record::Will { session, will: None }, b"\x04\0\0\0\x04\xac\x02\x00"),
        (Record::Ended { session }, b"\x03\0\0\0\x05\xac\x02"),
        (Record::Unsubscribed { session, filter: "#".into() }, b"\x05\0\0\0\x07\xac\x02\x01#"),
        (
            Record::Message { key: MessageKey(1), message: super::samples::message(b"!", 9), expires: Some(3) },
            b"\x0f\0\0\0\x08\x01\x01\x09\x03a/b\x02\x01\x01\x01!\x01\x03",
        ),
        (
            Record::Queued {
                session,
                order: 7,
                message: MessageKey(1),
                qos: QoS::ExactlyOnce,
                retain: true,
                identifiers: [identifier].into(),
                shared: None,
                packet_id: Some(packet_id),
            },
            b"\x0c\0\0\0\x09\xac\x02\x07\x01\x06\x01\x05\x00\x01\x02\x01",
        ),
        (Record::Sent { session, order: 7, packet_id }, b"\x06\0\0\0\x0a\xac\x02\x07\x02\x01"),
        (Record::Released { session, order: 7, packet_id }, b"\x06\0\0\0\x0b\xac\x02\x07\x02\x01"),
        (Record::Done { session, order: 7 }, b"\x04\0\0\0\x0c\xac\x02\x07"),
        (Record::Received { session, packet_id }, b"\x05\0\0\0\x0d\xac\x02\x02\x01"),
        (Record::Forgotten { session, packet_id }, b"\x05\0\0\0\x0e\xac\x02\x02\x01"),
        (Record::Retained { topic: "t".into(), stamp: 4, message: None, expires: None }, b"\x06\0\0\0\x0f\x01t\x04\x00\x00"),
    ] {
        assert_eq!(encoded(&record), expected, "{record:?}");
    }
}
