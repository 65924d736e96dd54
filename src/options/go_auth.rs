//! The Redis options of mosquitto-go-auth, with their meaning.
//!
//! What says where Redis is becomes a store URL; the rest is known by name, so that a copied configuration raises no alarm.

/// Where mosquitto-go-auth's options say that Redis is.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    host: Option<String>,
    port: Option<u16>,
    db: Option<u32>,
    cluster: bool,
    addresses: Option<String>,
    tls: bool,
    auth_plug: bool,
    given: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Store {
    /// Takes an option that says where Redis is; returns whether it was one.
    pub(super) fn take(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let filled = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "redis_host" => self.host = filled(),
            "redis_port" => self.port = Some(value.parse().map_err(|_| "allowed is a port from 1 to 65535".to_owned())?),
            "redis_db" => self.db = Some(value.parse().map_err(|_| "allowed is the number of a database".to_owned())?),
            "redis_password" => self.password = filled(),
            "redis_pass" => (self.password, self.auth_plug) = (filled(), true),
            "redis_username" => self.user = filled(),
            "redis_tls" => self.tls = value == "true",
            "redis_mode" => self.cluster = value == "cluster",
            "redis_cluster_addresses" => self.addresses = filled(),
            "backends" if value.split(',').any(|name| name.trim() == "redis") => return Ok(true),
            "backends" => return Err("allowed is a list that holds redis".to_owned()),
            _ => return Ok(false),
        }
        self.given = true;
        Ok(true)
    }

    /// Returns the store URL that the options amount to, if any of them was given.
    ///
    /// Without `redis_db` it is database 1, as in mosquitto-go-auth, or 0 beside `redis_pass`, which is mosquitto-auth-plug's.
    pub(super) fn url(&self) -> Option<String> {
        let scheme = if self.tls { "rediss" } else { "redis" };
        match &self.addresses {
            _ if !self.given => None,
            Some(addresses) if self.cluster => Some(format!("{scheme}+cluster://{addresses}")),
            _ => {
                let host = self.host.as_deref().unwrap_or("localhost");
                let db = self.db.unwrap_or(if self.auth_plug { 0 } else { 1 });
                Some(format!("{scheme}://{host}:{}/{db}", self.port.unwrap_or(6379)))
            }
        }
    }
}

/// Returns whether `key` is an option of mosquitto-go-auth that means nothing here.
pub(super) fn is_known(key: &str) -> bool {
    const NAMES: &[&str] = &[
        "redis_disable_superuser",
        "redis_register",
        "redis_hasher",
        "redis_hasher_salt_size",
        "redis_hasher_iterations",
        "redis_hasher_keylen",
        "redis_hasher_algorithm",
        "redis_hasher_salt_encoding",
        "redis_hasher_cost",
        "redis_hasher_memory",
        "redis_hasher_parallelism",
        "hasher",
        "hasher_salt_size",
        "hasher_iterations",
        "hasher_keylen",
        "hasher_algorithm",
        "hasher_salt_encoding",
        "hasher_cost",
        "hasher_memory",
        "hasher_parallelism",
        "cache",
        "cache_type",
        "cache_reset",
        "cache_refresh",
        "auth_cache_seconds",
        "acl_cache_seconds",
        "auth_jitter_seconds",
        "acl_jitter_seconds",
        "cache_host",
        "cache_port",
        "cache_password",
        "cache_db",
        "cache_mode",
        "cache_addresses",
        "disable_superuser",
        "exhaust_backend_first",
        "use_clientid_as_username",
        "check_prefix",
        "strip_prefix",
        "prefixes",
        "retry_count",
        "log_dest",
        "log_file",
    ];
    NAMES.contains(&key)
}
