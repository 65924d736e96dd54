//! The keys of the native schema as a type.
//!
//! [`KeySpace`] turns a [`Key`] into the bytes that stand in Redis and back; nothing else spells a key.
//! The braces are Redis Cluster hash tags: one user's keys share a slot.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::name::{ClientId, GroupName, NameError, NodeName, Username};

/// One key of the native schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Key {
    /// `user:{NAME}`: a user's record.
    User(Username),
    /// `user:{NAME}:acl`: a user's rules.
    UserAcl(Username),
    /// `user:{NAME}:autosub`: a user's automatic subscriptions.
    UserAutosub(Username),
    /// `group:{NAME}:acl`: a group's rules.
    GroupAcl(GroupName),
    /// `group:{NAME}:autosub`: a group's automatic subscriptions.
    GroupAutosub(GroupName),
    /// `client:{ID}:autosub`: the automatic subscriptions of one client identifier.
    ClientAutosub(ClientId),
    /// `all:acl`: everyone's rules.
    AllAcl,
    /// `all:autosub`: everyone's automatic subscriptions.
    AllAutosub,
    /// `ban:{KIND:VALUE}`: a ban; its text is the reason.
    Ban(BanTarget),
    /// `node:{NAME}`: how a server is.
    Node(NodeName),
    /// `online:{NAME}`: a user's connected clients; `online:{}` those without a username.
    Online(Option<Username>),
    /// `seen:{NAME}`: when a user's client was connected last.
    Seen(Username),
    /// `online:node:{NAME}`: the clients that a server has entered as connected.
    NodeOnline(NodeName),
    /// `shield:{KIND:VALUE}`: failed logins counted for a user or an address.
    Shield(ShieldTarget),
}

/// Who a ban is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BanTarget {
    /// `user:NAME`
    User(Username),
    /// `client:ID`
    Client(ClientId),
    /// `ip:ADDRESS` or `ip:ADDRESS/PREFIX`; a range has no host bits set.
    Network(IpNet),
}

/// Whose failed logins are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ShieldTarget {
    /// `user:NAME`
    User(Username),
    /// `ip:ADDRESS`
    Address(IpAddr),
}

/// Why a text names no target of a ban.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The kind is unknown, or missing.
    #[error("\"{0}\" names nothing that can be banned: allowed are user:NAME, client:ID, ip:ADDRESS and ip:ADDRESS/PREFIX")]
    Kind(String),
    /// The name behind the kind is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The address or range can't be read.
    #[error("\"{0}\" is no IP address and no range: allowed are for example ip:192.0.2.7, ip:192.0.2.0/24 and ip:2001:db8::/32")]
    Address(String),
}

impl std::str::FromStr for BanTarget {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.split_once(':') {
            Some(("user", name)) => Ok(Self::User(name.parse()?)),
            Some(("client", id)) => Ok(Self::Client(id.parse()?)),
            Some(("ip", range)) => range
                .parse::<IpNet>()
                .or_else(|_| range.parse::<IpAddr>().map(IpNet::from))
                .map(|net| Self::Network(net.trunc()))
                .map_err(|_| TargetError::Address(range.escape_debug().to_string())),
            _ => Err(TargetError::Kind(text.escape_debug().to_string())),
        }
    }
}

impl fmt::Display for BanTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Client(id) => write!(f, "client:{id}"),
            Self::Network(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "ip:{}", net.addr()),
            Self::Network(net) => write!(f, "ip:{net}"),
        }
    }
}

impl fmt::Display for ShieldTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Address(address) => write!(f, "ip:{address}"),
        }
    }
}

/// The keys under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpace {
    prefix: String,
}

impl Default for KeySpace {
    fn default() -> Self {
        Self::new("midge:")
    }
}

impl KeySpace {
    /// Returns the space of keys that begin with `prefix`, which may be empty.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Returns what every key begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the beginnings of all keys that carry policy; a change below any other concerns no decision.
    #[must_use]
    pub fn policy_prefixes(&self) -> Vec<String> {
        ["user:", "group:", "client:", "all:", "ban:"].map(|kind| format!("{}{kind}", self.prefix)).to_vec()
    }

    /// Returns the key as it stands in the store.
    #[must_use]
    pub fn render(&self, key: &Key) -> String {
        let prefix = &self.prefix;
        match key {
            Key::User(name) => format!("{prefix}user:{{{name}}}"),
            Key::UserAcl(name) => format!("{prefix}user:{{{name}}}:acl"),
            Key::UserAutosub(name) => format!("{prefix}user:{{{name}}}:autosub"),
            Key::GroupAcl(name) => format!("{prefix}group:{{{name}}}:acl"),
            Key::GroupAutosub(name) => format!("{prefix}group:{{{name}}}:autosub"),
            Key::ClientAutosub(id) => format!("{prefix}client:{{{id}}}:autosub"),
            Key::AllAcl => format!("{prefix}all:acl"),
            Key::AllAutosub => format!("{prefix}all:autosub"),
            Key::Ban(target) => format!("{prefix}ban:{{{target}}}"),
            Key::Node(name) => format!("{prefix}node:{{{name}}}"),
            Key::Online(None) => format!("{prefix}online:{{}}"),
            Key::Online(Some(name)) => format!("{prefix}online:{{{name}}}"),
            Key::Seen(name) => format!("{prefix}seen:{{{name}}}"),
            Key::NodeOnline(name) => format!("{prefix}online:node:{{{name}}}"),
            Key::Shield(target) => format!("{prefix}shield:{{{target}}}"),
        }
    }

    /// Returns the key that `bytes` name, or `None` where they are no key of this space.
    ///
    /// Every key ends in exactly one of `}`, `}:acl` and `}:autosub`, so a name with braces in it reads back as itself.
    #[must_use]
    pub fn parse(&self, bytes: &[u8]) -> Option<Key> {
        let (kind, rest) = std::str::from_utf8(bytes).ok()?.strip_prefix(&self.prefix)?.split_once(':')?;
        if kind == "all" {
            return match rest {
                "acl" => Some(Key::AllAcl),
                "autosub" => Some(Key::AllAutosub),
                _ => None,
            };
        }
        if let Some(inner) = rest.strip_prefix("node:{").filter(|_| kind == "online") {
            return inner.strip_suffix('}')?.parse().ok().map(Key::NodeOnline);
        }
        let inner = rest.strip_prefix('{')?;
        let end = inner.rfind('}')?;
        let (name, tail) = (&inner[..end], &inner[end + 1..]);
        match (kind, tail) {
            ("user", "") => name.parse().ok().map(Key::User),
            ("user", ":acl") => name.parse().ok().map(Key::UserAcl),
            ("user", ":autosub") => name.parse().ok().map(Key::UserAutosub),
            ("group", ":acl") => name.parse().ok().map(Key::GroupAcl),
            ("group", ":autosub") => name.parse().ok().map(Key::GroupAutosub),
            ("client", ":autosub") => name.parse().ok().map(Key::ClientAutosub),
            ("ban", "") => name.parse().ok().map(Key::Ban),
            ("online", "") if name.is_empty() => Some(Key::Online(None)),
            ("online", "") => name.parse().ok().map(|name| Key::Online(Some(name))),
            ("seen", "") => name.parse().ok().map(Key::Seen),
            ("node", "") => name.parse().ok().map(Key::Node),
            ("shield", "") => match name.split_once(':')? {
                ("user", user) => user.parse().ok().map(|user| Key::Shield(ShieldTarget::User(user))),
                ("ip", address) => address.parse().ok().map(|address| Key::Shield(ShieldTarget::Address(address))),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_as_themselves() {
        let space = KeySpace::default();
        for text in [
            "midge:user:{alice}",
            "midge:user:{alice}:acl",
            "midge:user:{alice}:autosub",
            "midge:user:{a}:acl}",
            "midge:user:{a}:acl}:acl",
            "midge:user:{{}}",
            "midge:group:{staff}:acl",
            "midge:group:{staff}:autosub",
            "midge:client:{phone-1}:autosub",
            "midge:all:acl",
            "midge:all:autosub",
            "midge:ban:{user:bob}",
            "midge:ban:{client:x:y}",
            "midge:ban:{ip:10.0.0.0/8}",
            "midge:ban:{ip:2001:db8::1}",
            "midge:node:{host-1#2}",
            "midge:online:{alice}",
            "midge:online:{}",
            "midge:online:{node:{x}",
            "midge:online:node:{host-1#2}",
            "midge:seen:{alice}",
            "midge:shield:{user:bob}",
            "midge:shield:{ip:192.0.2.1}",
        ] {
            let key = space.parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a key"));
            assert_eq!(space.render(&key), text);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let space = KeySpace::default();
        for text in [
            "",
            "midge:",
            "user:{a}",
            "midge:user:a",
            "midge:user:{}",
            "midge:user:{a}:xyz",
            "midge:all:",
            "midge:ban:{ip:x}",
            "midge:ban:{dog:x}",
            "midge:seen:{}",
            "midge:online:node:{}",
            "midge:online:nodes",
        ] {
            assert_eq!(space.parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(space.parse(b"midge:user:{\xff}"), None);
    }

    #[test]
    fn targets_of_bans() {
        for (text, shown) in [("ip:10.1.2.3/8", "ip:10.0.0.0/8"), ("ip:10.1.2.3/32", "ip:10.1.2.3"), ("user:a:b", "user:a:b")] {
            assert_eq!(text.parse::<BanTarget>().unwrap().to_string(), shown);
        }
        for text in ["", "user", "user:", "ip:", "ip:10.0.0.0/33", "dog:x"] {
            assert!(text.parse::<BanTarget>().is_err(), "{text:?}");
        }
    }
}
