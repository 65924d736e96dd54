//! Every row of the table of wire vectors, decoded and encoded.

// A test may stop at the first surprise, in its helpers too.
#![allow(clippy::unwrap_used)]

use midge_mqtt::vectors::{self, Expected, Vector};
use midge_mqtt::{DecodeError, Decoded, EncodeError, Packet, Rules, decode, decode_frame};

fn encoded(vector: &Vector, packet: &Packet<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    packet.encode(vector.version, &mut out)?;
    Ok(out)
}

/// What is wrong with a row, if anything.
fn judge(vector: &Vector) -> Result<(), String> {
    let found = decode_frame(&vector.rules(), &vector.bytes);
    let (canonical, packet) = match (&vector.expected, found) {
        (Expected::Packet { canonical }, Ok(packet)) => (*canonical, packet),
        (Expected::Refused { .. }, Err(error)) if vector.expects(&error) => return Ok(()),
        (Expected::Refused { .. }, Err(error)) => {
            let (code, clause) = (error.reason_code(), error.clause(vector.version));
            return Err(format!("found {error:?} {:#04x} {clause:?}", code.value()));
        }
        (_, found) => return Err(format!("found {found:?}")),
    };
    let bytes = encoded(vector, &packet).map_err(|error| error.to_string())?;
    if canonical != (bytes == vector.bytes) {
        return Err(format!("encodes to {bytes:02x?}"));
    }
    if decode_frame(&vector.rules(), &bytes) != Ok(packet) {
        return Err("encodes to another packet".to_owned());
    }
    Ok(())
}

#[test]
fn every_row() {
    let table = vectors::all();
    let mut failures = Vec::new();
    for vector in &table {
        if let Err(found) = judge(vector) {
            failures.push(format!("{} ({}): {found}", vector.origin, vector.note));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), table.len(), failures.join("\n"));
    assert!(table.len() > 900, "the table has shrunk to {} rows", table.len());
}

#[test]
fn a_part_of_a_valid_packet_is_incomplete() {
    for vector in vectors::all().iter().filter(|vector| vector.is_valid()) {
        let len = vector.bytes.len();
        // The long ones would take their time byte by byte.
        for cut in (0..len).filter(|cut| *cut < 300 || cut % 997 == 0 || *cut + 3 > len) {
            match decode(&vector.rules(), &vector.bytes[..cut]) {
                Ok(Decoded::Incomplete(needed)) => {
                    assert!(needed > cut && needed <= len, "{}: {needed}", vector.origin);
                }
                other => panic!("{} cut at {cut}: {other:?}", vector.origin),
            }
        }
    }
}

#[test]
fn what_follows_a_packet_is_left_alone() {
    for vector in vectors::all().iter().filter(|vector| vector.is_valid()) {
        let mut bytes = vector.bytes.clone();
        bytes.extend_from_slice(&[0xFF; 3]);
        match decode(&vector.rules(), &bytes) {
            Ok(Decoded::Packet(_, len)) => assert_eq!(len, vector.bytes.len()),
            other => panic!("{}: {other:?}", vector.origin),
        }
    }
}

#[test]
fn a_packet_too_large_is_refused_by_its_first_bytes() {
    for vector in vectors::all().iter().filter(|vector| vector.is_valid()) {
        let size = u32::try_from(vector.bytes.len()).unwrap();
        let exact = vector.rules().with_max_packet_size(size);
        assert!(matches!(decode(&exact, &vector.bytes), Ok(Decoded::Packet(..))));
        let smaller = vector.rules().with_max_packet_size(size - 1);
        let head = &vector.bytes[..vector.bytes.len().min(5)];
        let expected = DecodeError::PacketTooLarge { size, maximum: size - 1 };
        assert_eq!(decode(&smaller, head), Err(expected), "{}", vector.origin);
        assert_eq!(expected.reason_code().value(), 0x95);
    }
}

#[test]
fn a_packet_that_announces_256_mb_is_refused_with_five_bytes() {
    let rules = Rules::new(midge_mqtt::Peer::NewClient).with_max_packet_size(1 << 20);
    let refused = decode(&rules, &[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert!(matches!(refused, Err(DecodeError::PacketTooLarge { size: 268_435_460, .. })));
}
