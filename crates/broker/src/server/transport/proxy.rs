//! Who a proxy speaks for: PROXY protocol, versions 1 and 2.
//!
//! After "The PROXY protocol", HAProxy, 2020. A listener that expects the header takes no connection without it: else clients could choose their address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Broken;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header of version 1, section 2.1.
const MAX_V1: usize = 107;

/// The longest header of version 2 that is taken; addresses need 36 bytes, the rest is what proxies add.
const MAX_V2: usize = 4096;

/// The front of a connection until its header is complete.
#[derive(Debug, Default)]
pub(in crate::server) struct Header(Vec<u8>);

impl Header {
    /// Takes bytes; once the header is complete, returns the client's address and what follows.
    ///
    /// The address is `None` where the proxy speaks for itself or doesn't know it.
    ///
    /// # Errors
    /// What came can't be the beginning of a header.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Option<Spoken>, Broken> {
        self.0.extend_from_slice(bytes);
        let front = &self.0;
        let common = front.len().min(SIGNATURE.len());
        let parsed = if front[..common] == SIGNATURE[..common] { version2(front)? } else { version1(front)? };
        Ok(parsed.map(|(length, address)| {
            let rest = self.0.split_off(length);
            (address, rest)
        }))
    }
}

/// The client's address, and what follows the header.
type Spoken = (Option<SocketAddr>, Vec<u8>);

type Parsed = Option<(usize, Option<SocketAddr>)>;

fn version1(input: &[u8]) -> Result<Parsed, Broken> {
    let common = input.len().min(6);
    if input[..common] != b"PROXY "[..common] {
        return Err(Broken::Proxy("there is none"));
    }
    let line = input.get(..MAX_V1).unwrap_or(input);
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if input.len() < MAX_V1 { Ok(None) } else { Err(Broken::Proxy("no end of line")) };
    };
    let text = std::str::from_utf8(&line[..end]).map_err(|_| Broken::Proxy("not ASCII"))?;
    let words: Vec<&str> = text.split(' ').collect();
    let address = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, _, port, _] => {
            let ip: IpAddr = source.parse().map_err(|_| Broken::Proxy("bad address"))?;
            if ip.is_ipv4() != (*family == "TCP4") {
                return Err(Broken::Proxy("address of another family"));
            }
            Some(SocketAddr::new(ip, port.parse().map_err(|_| Broken::Proxy("bad port"))?))
        }
        _ => return Err(Broken::Proxy("bad line")),
    };
    Ok(Some((end + 2, address)))
}

fn version2(input: &[u8]) -> Result<Parsed, Broken> {
    let Some(&[command, family, high, low]) = input.get(12..16) else { return Ok(None) };
    let length = 16 + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Err(Broken::Proxy("longer than any that is needed"));
    }
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Broken::Proxy("unknown version or command")),
    };
    let Some(body) = input.get(16..length) else { return Ok(None) };
    let address = match family {
        _ if local => None,
        0x11 => Some(inet(body).ok_or(Broken::Proxy("too short"))?),
        0x21 => Some(inet6(body).ok_or(Broken::Proxy("too short"))?),
        // Unspecified, datagrams and Unix sockets have no address that means anything here.
        _ => None,
    };
    Ok(Some((length, address)))
}

fn inet(body: &[u8]) -> Option<SocketAddr> {
    let (ip, rest) = body.split_first_chunk::<4>()?;
    let port = rest.get(4..)?.first_chunk::<2>()?;
    Some((Ipv4Addr::from(*ip), u16::from_be_bytes(*port)).into())
}

fn inet6(body: &[u8]) -> Option<SocketAddr> {
    let (ip, rest) = body.split_first_chunk::<16>()?;
    let port = rest.get(16..)?.first_chunk::<2>()?;
    Some((Ipv6Addr::from(*ip), u16::from_be_bytes(*port)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    /// Feeds a header byte by byte and returns the address as text, `-` for none, or the error.
    fn read(header: &[u8]) -> String {
        let mut state = Header::default();
        for byte in header {
            match state.take(&[*byte]) {
                Ok(None) => {}
                Ok(Some((address, rest))) => {
                    assert!(rest.is_empty());
                    return address.map_or("-".to_owned(), |address| address.to_string());
                }
                Err(error) => return error.to_string(),
            }
        }
        "incomplete".to_owned()
    }

    #[test]
    fn reads_headers_of_both_versions() {
        let check = |header: &[u8], expected: &str| assert_eq!(read(header), expected, "{header:x?}");
        check(b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 1883\r\n", "192.0.2.1:4711");
        check(b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 1883\r\n", "[2001:db8::1]:4711");
        check(b"PROXY UNKNOWN\r\n", "-");
        check(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "-");
        check(b"PROXY TCP4 2001:db8::1 2001:db8::2 4711 1883\r\n", "bad PROXY header: address of another family");
        check(b"PROXY TCP4 192.0.2.1 198.51.100.2 99999 1883\r\n", "bad PROXY header: bad port");
        check(b"PROXY TCP4 192.0.2.1\r\n", "bad PROXY header: bad line");
        check(b"\x10\x0d\x00\x04MQTT", "bad PROXY header: there is none");
        check(&[b"PROXY TCP4 "[..].to_vec(), vec![b'1'; 200]].concat(), "bad PROXY header: no end of line");
        check(&v2(0x21, 0x11, b"\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x67\x07\x5b"), "192.0.2.1:4711");
        check(&v2(0x21, 0x11, b"\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x67\x07\x5b\x03\x00\x01x"), "192.0.2.1:4711");
        let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], b"\x12\x67\x07\x5b"].concat();
        check(&v2(0x21, 0x21, &six), "[2001:db8::1]:4711");
        check(&v2(0x20, 0x00, b""), "-");
        check(&v2(0x21, 0x31, &[0; 216]), "-");
        check(&v2(0x21, 0x11, b"\xc0\x00"), "bad PROXY header: too short");
        check(&v2(0x11, 0x11, b""), "bad PROXY header: unknown version or command");
        check(&v2(0x21, 0x11, &[0; 5000]), "bad PROXY header: longer than any that is needed");
        check(&v2(0x21, 0x11, b"\xc0")[..16], "incomplete");
    }

    #[test]
    fn gives_back_what_follows() {
        let (address, rest) = Header::default().take(b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 1883\r\n\x10\x0d").unwrap().unwrap();
        assert_eq!((address.unwrap().port(), &rest[..]), (4711, &b"\x10\x0d"[..]));
    }
}
