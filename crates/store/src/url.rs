//! Where a store is, as one text.
//!
//! Passwords are never shown: not by `Display`, not by `Debug`, not in errors.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// What the schemes are, for messages.
const SCHEMES: &str = "redis://, rediss://, redis+unix://, redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster:// and file:DIRECTORY";

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

/// What kind of store it is, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Single(Address),
    Unix(PathBuf),
    Sentinel { sentinels: Vec<Address>, service: String },
    Cluster(Vec<Address>),
    Directory(PathBuf),
}

/// Who we are to the store.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUrl {
    pub(crate) place: Place,
    pub(crate) login: Login,
    pub(crate) sentinel_login: Login,
    pub(crate) database: u32,
    pub(crate) tls: Option<TlsFiles>,
}

/// Why a text is no store URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// No scheme, or an unknown one.
    #[error("the scheme \"{0}\" is unknown: allowed are {SCHEMES}")]
    Scheme(String),
    /// No host where one is needed.
    #[error("no host: allowed is for example redis://127.0.0.1:6379")]
    NoHost,
    /// The port is no number from 1 to 65535.
    #[error("\"{0}\" is no port: allowed are numbers from 1 to 65535")]
    Port(String),
    /// The database is no number.
    #[error("\"{0}\" is no database: allowed is a number")]
    Database(String),
    /// `@` behind the host: a password with `/`, `?` or `#` in it that is not encoded.
    #[error("an @ stands behind the host: in names and passwords / ? # and @ are written %2F %3F %23 and %40")]
    Unencoded,
    /// A sentinel URL names no service.
    #[error("the service is missing: allowed is redis+sentinel://HOST:PORT,HOST:PORT/SERVICE")]
    NoService,
    /// A path is missing or not absolute.
    #[error("\"{0}\" is no absolute path")]
    NotAbsolute(String),
    /// An unknown parameter.
    #[error("the parameter \"{name}\" is unknown here: allowed are {allowed}")]
    Parameter {
        /// Its name.
        name: String,
        /// What is known for this scheme.
        allowed: &'static str,
    },
    /// `%` without two hexadecimal digits that make UTF-8.
    #[error("a %-encoding is no UTF-8")]
    Encoding,
}

impl StoreUrl {
    /// Returns whether the store is a directory, which is held open from [`crate::open`] on.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.place, Place::Directory(_))
    }

    /// Replaces name and password by those given apart.
    #[must_use]
    pub fn with_credentials(mut self, user: Option<&str>, password: Option<&str>) -> Self {
        if let Some(user) = user {
            self.login.user = Some(user.to_owned());
        }
        if let Some(password) = password {
            self.login.password = Some(password.to_owned());
        }
        self
    }

    /// Returns the directory of an embedded store.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn new(place: Place) -> Self {
        Self { place, login: Login::default(), sentinel_login: Login::default(), database: 0, tls: None }
    }

    fn take_parameters(&mut self, query: &str) -> Result<(), StoreUrlError> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value)?;
            let sentinel = matches!(self.place, Place::Sentinel { .. });
            let unix = matches!(self.place, Place::Unix(_));
            match (name, &mut self.tls) {
                ("ca", Some(tls)) => tls.ca = Some(value.into()),
                ("cert", Some(tls)) => tls.certificate = Some(value.into()),
                ("key", Some(tls)) => tls.key = Some(value.into()),
                ("db", _) if unix => self.database = database(&value)?,
                ("user", _) if unix => self.login.user = Some(value),
                ("pass" | "password", _) if unix => self.login.password = Some(value),
                ("sentinel_user", _) if sentinel => self.sentinel_login.user = Some(value),
                ("sentinel_password", _) if sentinel => self.sentinel_login.password = Some(value),
                _ => return Err(StoreUrlError::Parameter { name: name.escape_debug().to_string(), allowed: self.parameters() }),
            }
        }
        Ok(())
    }

    fn parameters(&self) -> &'static str {
        match (&self.place, self.tls.is_some()) {
            (Place::Unix(_), _) => "db, user and password",
            (Place::Sentinel { .. }, true) => "ca, cert, key, sentinel_user and sentinel_password",
            (Place::Sentinel { .. }, false) => "sentinel_user and sentinel_password",
            (_, true) => "ca, cert and key",
            (_, false) => "none",
        }
    }

    fn scheme(&self) -> &'static str {
        match (&self.place, self.tls.is_some()) {
            (Place::Single(_), false) => "redis://",
            (Place::Single(_), true) => "rediss://",
            (Place::Unix(_), _) => "redis+unix://",
            (Place::Sentinel { .. }, false) => "redis+sentinel://",
            (Place::Sentinel { .. }, true) => "rediss+sentinel://",
            (Place::Cluster(_), false) => "redis+cluster://",
            (Place::Cluster(_), true) => "rediss+cluster://",
            (Place::Directory(_), _) => "file:",
        }
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        if let Some(directory) = text.strip_prefix("file:") {
            let directory = directory.strip_prefix("//").unwrap_or(directory);
            return match directory {
                "" => Err(StoreUrlError::NotAbsolute(String::new())),
                _ => Ok(Self::new(Place::Directory(directory.into()))),
            };
        }
        let scheme_error = || StoreUrlError::Scheme(text.split([':', '/', '@']).next().unwrap_or("").escape_debug().to_string());
        let (scheme, rest) = text.split_once("://").ok_or_else(scheme_error)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
        // Checked before anything is quoted in an error, since it would be part of the password.
        let unix = matches!(scheme, "redis+unix" | "unix");
        if !unix && (path.is_some_and(|path| path.contains('@')) || query.contains('@')) {
            return Err(StoreUrlError::Unencoded);
        }
        let (login, hosts) = authority.rsplit_once('@').map_or(("", authority), |(login, hosts)| (login, hosts));
        let mut url = match scheme {
            "redis" | "rediss" => {
                let mut addresses = addresses(hosts, 6379)?;
                let mut url = Self::new(Place::Single(addresses.swap_remove(0)));
                url.database = path.filter(|path| !path.is_empty()).map_or(Ok(0), database)?;
                url
            }
            "redis+unix" | "unix" => {
                let path = decode(rest)?;
                if !path.starts_with('/') {
                    return Err(StoreUrlError::NotAbsolute(path));
                }
                Self::new(Place::Unix(path.into()))
            }
            "redis+sentinel" | "rediss+sentinel" => {
                let (service, db) =
                    path.map_or(("", None), |path| path.split_once('/').map_or((path, None), |(service, db)| (service, Some(db))));
                if service.is_empty() {
                    return Err(StoreUrlError::NoService);
                }
                let mut url = Self::new(Place::Sentinel { sentinels: addresses(hosts, 26379)?, service: decode(service)? });
                url.database = db.filter(|db| !db.is_empty()).map_or(Ok(0), database)?;
                url
            }
            "redis+cluster" | "rediss+cluster" => match path {
                None | Some("" | "0") => Self::new(Place::Cluster(addresses(hosts, 6379)?)),
                Some(db) => return Err(StoreUrlError::Database(db.escape_debug().to_string())),
            },
            _ => return Err(scheme_error()),
        };
        url.tls = scheme.starts_with("rediss").then(TlsFiles::default);
        if !matches!(url.place, Place::Unix(_)) && !login.is_empty() {
            let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
            url.login.user = Some(decode(user)?).filter(|user| !user.is_empty());
            url.login.password = password.map(decode).transpose()?;
        }
        url.take_parameters(query)?;
        Ok(url)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme())?;
        if let Some(user) = &self.login.user {
            write!(f, "{user}@")?;
        }
        match &self.place {
            Place::Single(address) => write!(f, "{address}"),
            Place::Unix(path) | Place::Directory(path) => write!(f, "{}", path.display()),
            Place::Sentinel { sentinels, service } => write!(f, "{}/{service}", join(sentinels)),
            Place::Cluster(addresses) => f.write_str(&join(addresses)),
        }?;
        if self.database == 0 { Ok(()) } else { write!(f, "/{}", self.database) }
    }
}

fn join(addresses: &[Address]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn decode(text: &str) -> Result<String, StoreUrlError> {
    percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| StoreUrlError::Encoding)
}

fn database(text: &str) -> Result<u32, StoreUrlError> {
    text.parse().map_err(|_| StoreUrlError::Database(text.escape_debug().to_string()))
}

fn addresses(hosts: &str, default_port: u16) -> Result<Vec<Address>, StoreUrlError> {
    hosts.split(',').map(|host| address(host.trim(), default_port)).collect()
}

fn address(text: &str, default_port: u16) -> Result<Address, StoreUrlError> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((six, rest)) => (six, rest.strip_prefix(':')),
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err(StoreUrlError::NoHost);
    }
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| StoreUrlError::Port(shown_port(port)))?,
        None => default_port,
    };
    Ok(Address { host: decode(host)?, port })
}

/// Returns what may be shown of a port that is none: digits, since anything else may be a password whose host is missing.
fn shown_port(port: &str) -> String {
    if port.bytes().all(|byte| byte.is_ascii_digit()) { port.to_owned() } else { "…".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_without_passwords() {
        for (text, shown) in [
            ("redis://127.0.0.1", "redis://127.0.0.1:6379"),
            ("redis://127.0.0.1:7000/3", "redis://127.0.0.1:7000/3"),
            ("redis://:geheim@host", "redis://host:6379"),
            ("redis://me:ge%40heim@host:1", "redis://me@host:1"),
            ("redis://me:a@b@host", "redis://me@host:6379"),
            ("redis://[::1]:7000", "redis://[::1]:7000"),
            ("rediss://host?ca=/etc/ca.pem", "rediss://host:6379"),
            ("redis+unix:///run/redis.sock?db=2&password=geheim", "redis+unix:///run/redis.sock/2"),
            ("redis+sentinel://a,b:2/main/1?sentinel_password=geheim", "redis+sentinel://a:26379,b:2/main/1"),
            ("redis+cluster://u:geheim@a:1,b:2", "redis+cluster://u@a:1,b:2"),
            ("file:/var/lib/midge", "file:/var/lib/midge"),
        ] {
            let url: StoreUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.to_string(), shown, "{text}");
            assert!(!format!("{url:?}").contains("heim"), "{url:?}");
        }
        let url: StoreUrl = "redis://me:ge%40heim@host".parse().unwrap();
        assert_eq!(url.login.password.as_deref(), Some("ge@heim"));
    }

    #[test]
    fn errors_name_the_part() {
        for (text, expected) in [
            ("http://x", "scheme \"http\""),
            ("127.0.0.1:6379", "scheme \"127.0.0.1\""),
            ("redis://", "no host"),
            ("redis://h:0", "\"0\" is no port"),
            ("redis://h:x", "is no port"),
            ("redis://me:geheim", "is no port"),
            ("redis://me:1/geheim@h", "%2F"),
            ("redis://me:1?geheim@h", "%3F"),
            ("redis+sentinel://me:1/geheim@h", "%2F"),
            ("redis://h/x", "\"x\" is no database"),
            ("redis://h?ca=x", "parameter \"ca\""),
            ("redis+sentinel://h", "service"),
            ("redis+cluster://h/3", "\"3\" is no database"),
            ("redis+unix://x", "absolute"),
            ("redis://%ff@h", "UTF-8"),
            ("", "scheme"),
        ] {
            let error = text.parse::<StoreUrl>().expect_err(text).to_string();
            assert!(error.contains(expected) && !error.contains("geheim"), "{text}: {error}");
        }
    }
}
