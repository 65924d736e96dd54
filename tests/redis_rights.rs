//! The rights that the documentation gives a broker's Redis user suffice.
//!
//! The commands are taken from `docs/REDIS.md` as they stand there, and Redis notes whatever they don't allow.

use std::time::Duration;

use midge_testkit::{Connect, Mosquitto, MosquittoVersion, Protocol, RawClient, RedisServer, RedisVersion, until, workspace};

const SOON: Duration = Duration::from_secs(20);

/// Returns the arguments of each `redis-cli ACL SETUSER` of the documentation.
fn documented() -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(workspace().join("docs/REDIS.md")).unwrap();
    let commands = page.lines().filter_map(|line| line.trim().strip_prefix("redis-cli ACL SETUSER "));
    commands.map(|rest| rest.split(' ').map(|word| word.trim_matches('\'').to_owned()).collect()).collect()
}

fn serves(store: &RedisServer, options: &str) {
    store.cli(&["HSET", "midge:user:{alice}", "password", "{plain}wonderland", "enabled", "1"]).unwrap();
    let config = format!(
        "auth_plugin {{plugin}}\nauth_opt_store redis://midge@127.0.0.1:{}\nauth_opt_store_password PASSWORD\n{options}\n",
        store.port()
    );
    let mut broker = Mosquitto::builder(MosquittoVersion::V2_0_21).config(&config).start().unwrap();
    broker.process().wait_log("following changes in the store", SOON).unwrap();
    let login = |password: &str| {
        RawClient::try_connect(broker.port(), &Connect::new(Protocol::V5, "phone").login("alice", password)).unwrap()
    };
    assert_ne!(login("wrong").1, 0);
    let mut client = until("alice to be let in", SOON, || {
        let (client, code) = login("wonderland");
        Ok((code == 0).then_some(client))
    })
    .unwrap();
    if options.contains("rehash") {
        until("the password to be encoded anew", SOON, || {
            Ok(store.cli(&["HGET", "midge:user:{alice}", "password"])?.starts_with("$argon2id$").then_some(()))
        })
        .unwrap();
    }
    store.cli(&["HSET", "midge:user:{alice}", "enabled", "0"]).unwrap();
    client.closed(SOON).unwrap();
    let refused = store.cli(&["ACL", "LOG"]).unwrap();
    assert_eq!(refused.trim(), "", "{options}");
}

#[test]
fn each_way_of_working_needs_no_more_than_is_documented() {
    let commands = documented();
    let of = |user: &str| -> Vec<&Vec<String>> { commands.iter().filter(|words| words[0] == user).collect() };
    for (used, options) in [
        (1, "auth_opt_watch tracking"),
        (2, "auth_opt_watch tracking\nauth_opt_rehash_on_login argon2id"),
        (3, "auth_opt_watch keyspace\nauth_opt_rehash_on_login argon2id"),
    ] {
        let store = RedisServer::builder(RedisVersion::Redis7).config("notify-keyspace-events Kghx$").start().unwrap();
        for words in of("midge").into_iter().take(used) {
            let words: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(words.iter().map(String::as_str)).collect();
            assert_eq!(store.cli(&words).unwrap().trim(), "OK", "{words:?}");
        }
        serves(&store, options);
    }
    assert_eq!((of("midge").len(), of("admin").len()), (3, 1));
}
