//! Settings of one listener.

use std::net::SocketAddr;
use std::path::PathBuf;

use midge_core::certificate::CertificateField;

use super::super::section::Setting;
use super::SWITCH;
use super::users::{IDENTITIES, IDENTITY_FIELDS};

/// What a listener's settings are written into before it is known that they go together.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Draft {
    pub(in super::super) address: Option<SocketAddr>,
    pub(in super::super) unix: Option<PathBuf>,
    pub(in super::super) unix_mode: Option<u32>,
    pub(in super::super) web_socket: bool,
    pub(in super::super) path: Option<String>,
    pub(in super::super) origins: Vec<String>,
    pub(in super::super) proxy_protocol: bool,
    pub(in super::super) allow_anonymous: Option<bool>,
    pub(in super::super) max_connections: Option<usize>,
    pub(in super::super) certificate: Option<PathBuf>,
    pub(in super::super) key: Option<PathBuf>,
    pub(in super::super) client_ca: Option<PathBuf>,
    pub(in super::super) require_client_certificate: Option<bool>,
    pub(in super::super) identity: Option<Option<CertificateField>>,
}

/// The settings of a listener; those behind `tls.` stand in its table `tls`.
pub(in super::super) const LISTENER: &[Setting<Draft>] = &[
    Setting::<Draft>::new(
        "address",
        "none",
        "an IP address and a port, such as 127.0.0.1:1883, 0.0.0.0:1883 for every IPv4 address or [::]:1883 for every address",
        "Where it listens; a listener has either this or unix.",
        |s, v| v.text.parse().map(|v| s.address = Some(v)).map_err(|_| String::new()),
    )
    .in_words(),
    Setting::<Draft>::new(
        "unix",
        "none",
        "a path of at most 107 bytes",
        "The Unix socket that it listens at; a listener has either this or address.",
        |s, v| {
            let path = v.path()?;
            // What sun_path holds with its final zero, unix(7).
            if path.as_os_str().len() > 107 {
                return Err(format!("{} is too long", path.display()));
            }
            s.unix = Some(path);
            Ok(())
        },
    )
    .in_words(),
    Setting::<Draft>::new(
        "unix_mode",
        "0660",
        "an octal number from 0000 to 0777",
        "Who may connect to the Unix socket, as chmod takes it.",
        |s, v| match u32::from_str_radix(v.text, 8) {
            Ok(mode) if mode <= 0o777 => {
                s.unix_mode = Some(mode);
                Ok(())
            }
            _ => Err(String::new()),
        },
    ),
    Setting::<Draft>::new("protocol", "mqtt", "mqtt or ws", "What is spoken: plain MQTT, or MQTT in WebSocket.", |s, v| {
        v.one_of(&[("mqtt", false), ("ws", true)]).map(|v| s.web_socket = v)
    }),
    Setting::<Draft>::new(
        "path",
        "/mqtt",
        "a path that begins with /, or * for every one",
        "The path of the URL that WebSocket clients ask for; any other is answered with 404.",
        |s, v| match v.text.starts_with('/') || v.text == "*" {
            true => {
                s.path = Some(v.text.to_owned());
                Ok(())
            }
            false => Err(String::new()),
        },
    ),
    Setting::<Draft>::new(
        "origins",
        "all",
        "origins as browsers send them, separated by commas, such as https://app.example.org,https://example.org:8443",
        "From which web pages WebSocket clients may come; those outside of browsers name none and are not asked.",
        |s, v| {
            let origins = v.text.split(',').map(str::trim);
            s.origins = origins
                .map(|origin| Some(origin.to_owned()).filter(|origin| is_origin(origin)).ok_or_else(String::new))
                .collect::<Result<_, _>>()?;
            Ok(())
        },
    )
    .in_words(),
    Setting::<Draft>::new(
        "proxy_protocol",
        "false",
        SWITCH,
        "Whether each connection begins with the header of a proxy (PROXY protocol 1 or 2) that says where it comes from; \
         whoever else reaches the listener could claim any address.",
        |s, v| v.switch().map(|v| s.proxy_protocol = v),
    ),
    Setting::<Draft>::new(
        "allow_anonymous",
        "what the setting anonymous says",
        SWITCH,
        "Whether clients without a username get in here.",
        |s, v| v.switch().map(|v| s.allow_anonymous = Some(v)),
    )
    .in_words()
    .reloads(),
    Setting::<Draft>::new(
        "max_connections",
        "none",
        "a number from 1 to 10000000, or none",
        "Connections of this listener, beside those of all together; more are closed as soon as they are accepted.",
        |s, v| {
            s.max_connections = v.unless_none(|v| v.number(1, 10_000_000))?;
            Ok(())
        },
    ),
    Setting::<Draft>::new(
        "tls.certificate",
        "none",
        "a readable PEM file",
        "The server's certificate with those between it and the authority; with it the listener speaks TLS.",
        |s, v| v.file().map(|v| s.certificate = Some(v)),
    )
    .in_words()
    .reloads(),
    Setting::<Draft>::new("tls.key", "none", "a readable PEM file", "The key of the certificate.", |s, v| {
        v.file().map(|v| s.key = Some(v))
    })
    .in_words()
    .reloads(),
    Setting::<Draft>::new(
        "tls.client_ca",
        "none",
        "a readable PEM file",
        "The authorities whose certificates clients may show.",
        |s, v| v.file().map(|v| s.client_ca = Some(v)),
    )
    .in_words()
    .reloads(),
    Setting::<Draft>::new(
        "tls.require_client_certificate",
        "true where tls.client_ca is set",
        SWITCH,
        "Whether a client without a certificate is sent away.",
        |s, v| v.switch().map(|v| s.require_client_certificate = Some(v)),
    )
    .in_words()
    .reloads(),
    Setting::<Draft>::new(
        "tls.identity",
        "what the setting tls_identity says",
        IDENTITIES,
        "Which field of a client's certificate is its username, without a password.",
        |s, v| v.one_of(&IDENTITY_FIELDS).map(|v| s.identity = Some(v)),
    )
    .in_words()
    .reloads(),
];

/// Returns whether `text` is an origin, a scheme and a host and perhaps a port: RFC 6454, section 6.1.
fn is_origin(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, host)| !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '@', ' ']))
}
