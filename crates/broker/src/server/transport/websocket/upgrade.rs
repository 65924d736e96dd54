//! The request with which HTTP becomes WebSocket.
//!
//! RFC 6455 section 4.2; the subprotocol is required [MQTT-6.0.0-3].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tungstenite::handshake::derive_accept_key;

use super::Settings;

const MAX_REQUEST: usize = 8192;
const MAX_FIELDS: usize = 64;

/// The subprotocols that mean MQTT; the second is what clients of 3.1 say.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// What a request is answered with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Incomplete,
    Accepted { response: String, length: usize },
    Refused { response: String, reason: &'static str },
}

/// Answers a request.
pub(super) fn answer(request: &[u8], settings: &Settings) -> Answer {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(request) {
        Ok(httparse::Status::Complete(length)) => match check(&parsed, settings) {
            Ok((key, subprotocol)) => Answer::Accepted { response: accept(key, subprotocol), length },
            Err((status, reason)) => refuse(status, reason),
        },
        Ok(httparse::Status::Partial) if request.len() < MAX_REQUEST => Answer::Incomplete,
        Ok(httparse::Status::Partial) => refuse("431 Request Header Fields Too Large", "a request that is too long"),
        Err(_) => refuse("400 Bad Request", "no HTTP request"),
    }
}

type Refusal = (&'static str, &'static str);

fn check<'a>(request: &httparse::Request<'_, 'a>, settings: &Settings) -> Result<(&'a [u8], &'static str), Refusal> {
    let all = |name: &'static str| request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
    let one = |name: &'static str| all(name).next().map(|field| field.value);
    let has = |name: &'static str, word: &str| {
        all(name).any(|field| words(field.value).any(|found| found.eq_ignore_ascii_case(word.as_bytes())))
    };
    if request.method != Some("GET") || request.version != Some(1) {
        return Err(("405 Method Not Allowed", "no GET of HTTP/1.1"));
    }
    if !has("upgrade", "websocket") || !has("connection", "upgrade") {
        return Err(("426 Upgrade Required", "no request for WebSocket"));
    }
    if one("sec-websocket-version") != Some(b"13") {
        return Err(("426 Upgrade Required", "another version of WebSocket"));
    }
    let path = request.path.unwrap_or_default();
    if settings.path.as_ref().is_some_and(|wanted| path.split('?').next() != Some(wanted)) {
        return Err(("404 Not Found", "another path"));
    }
    // A page of anybody's can have a browser connect here; it can't choose what the browser says it is.
    if let Some(origin) = one("origin").filter(|_| !settings.origins.is_empty())
        && !settings.origins.iter().any(|allowed| allowed.as_bytes() == origin)
    {
        return Err(("403 Forbidden", "a page of another origin"));
    }
    let key = one("sec-websocket-key").filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16));
    let key = key.ok_or(("400 Bad Request", "no key"))?;
    let offered = |name: &&str| all("sec-websocket-protocol").any(|field| words(field.value).any(|word| word == name.as_bytes()));
    let subprotocol = SUBPROTOCOLS.into_iter().find(offered).ok_or(("400 Bad Request", "subprotocol mqtt isn't offered"))?;
    Ok((key, subprotocol))
}

/// Returns the elements of a comma-separated list.
fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn accept(key: &[u8], subprotocol: &str) -> String {
    let key = derive_accept_key(key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: {key}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
}

fn refuse(status: &str, reason: &'static str) -> Answer {
    let upgrade = if status.starts_with("426") { "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" } else { "" };
    let length = reason.len();
    let response = format!(
        "HTTP/1.1 {status}\r\n{upgrade}Connection: close\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{reason}"
    );
    Answer::Refused { response, reason }
}
