//! What the command does to the clients of a running server.

use midge_testkit::{Connect, Protocol, RawClient, RedisServer, RedisVersion, until};

use crate::running::{Running, SOON};

/// Does the same over both kinds of stores.
fn check(test: impl Fn(&Running)) {
    test(&Running::embedded());
    let redis = RedisServer::builder(RedisVersion::Redis7).start().unwrap();
    test(&Running::over(&redis.url(), "here"));
}

fn connect(server: &Running, id: &str) -> (RawClient, u8) {
    RawClient::try_connect(server.port(), &Connect::new(Protocol::V5, id).login("alice", "secret")).unwrap()
}

#[test]
fn status_tells_of_a_running_server() {
    check(|server| {
        server.user("alice", &[], &[("inbox/#", "rs")]);
        let _phone = server.listen("alice", "phone", "inbox/x");
        server.ok(&["push", "--wait", "inbox/x", "hello"]);
        let fact = |status: &str, name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().to_owned()
        };
        let status = until("its report", SOON, || {
            let status = server.ok(&["status", "here"]);
            Ok((fact(&status, "pushed ") == "1" && fact(&status, "clients ") == "1").then_some(status))
        })
        .unwrap();
        for (name, value) in [("body ", "midge"), ("sessions ", "1"), ("pushes_waiting ", "0"), ("delivered ", "1")] {
            assert_eq!(fact(&status, name), value, "{name}: {status}");
        }
        let all = server.ok(&["status"]);
        let row = all.lines().find(|line| line.starts_with("here ")).unwrap_or_default();
        assert!(row.split_whitespace().nth(1) == Some("midge"), "{all}");
    });
}

#[test]
fn kicks_and_bans_end_connections_and_explain_says_so() {
    check(|server| {
        server.user("alice", &[], &[("inbox/#", "rs")]);
        let answer = |words: &[&str]| {
            let ran = server.midge(&[&["explain"], words].concat());
            (ran.code, ran.out)
        };
        let (code, said) = answer(&["--user", "alice", "--client", "phone", "receive", "inbox/x"]);
        assert!(code == 0 && said.contains("inbox/#"), "{said}");
        assert_eq!(answer(&["--user", "alice", "--client", "phone", "publish", "inbox/x"]).0, 1);

        let mut phone = server.listen("alice", "phone", "inbox/x");
        server.ok(&["kick", "user:alice", "--for", "1s"]);
        phone.process().wait_log("DISCONNECT", SOON).unwrap();
        // It comes back by itself, and finds its session.
        until("the phone to be back", SOON, || {
            let told = server.midge(&["push", "--wait", "inbox/x", "hello"]);
            Ok(told.out.contains("delivered to 1").then_some(()))
        })
        .unwrap();
        phone.wait(1, SOON).unwrap();

        let (mut tablet, code) = connect(server, "tablet");
        assert_eq!(code, 0);
        server.ok(&["ban", "add", "client:tablet", "--reason", "lost"]);
        assert_eq!(tablet.closed(SOON).unwrap(), Some(0x98), "administrative action, MQTT 5.0 section 3.14.2.1");
        assert_eq!(connect(server, "tablet").1, 0x8a);
        let (_, said) = answer(&["--user", "alice", "--client", "tablet", "receive", "inbox/x"]);
        assert!(said.contains("lost"), "{said}");
        server.ok(&["ban", "remove", "client:tablet"]);
        until("the ban to end", SOON, || Ok((connect(server, "tablet").1 == 0).then_some(()))).unwrap();

        // A rule that goes is told to who is connected.
        server.ok(&["acl", "remove", "--user", "alice", "inbox/#"]);
        until("the rule to go", SOON, || {
            let told = server.midge(&["push", "--wait", "--client", "phone", "inbox/x", "x"]);
            Ok(told.out.contains("nobody").then_some(()))
        })
        .unwrap();
        server.ok(&["user", "remove", "alice"]);
        phone.process().wait_log("DISCONNECT (135)", SOON).unwrap();
    });
}
