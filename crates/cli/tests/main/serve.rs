//! A server from its start to its end, or why none.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use midge_testkit::{Connect, Protocol, RawClient, until};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::place::{MIDGE, Place, Ran};
use crate::serving::{PATIENCE, Serving, path};

fn serve(folder: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new(MIDGE);
    command.env_clear().current_dir(folder).args(["serve", "--data", "data"]).args(words).stdin(Stdio::null());
    Ran::of(&command.output().unwrap())
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let taken = TempDir::new().unwrap();
    std::fs::write(taken.path().join("file"), "").unwrap();
    std::fs::write(taken.path().join("wrong.toml"), "threads = 0\nnode = 1.5").unwrap();
    for (words, code, said) in [
        (&["--config", "absent.toml"][..], 2, "midge: absent.toml: the file can't be read"),
        (
            &["--config", "wrong.toml"],
            2,
            "wrong.toml:1: threads = \"0\": allowed is a number from 1 to 255\nmidge: wrong.toml:2: node: ",
        ),
        (&["--listen", "1883"], 2, "midge: --listen: listener 1: address = \"1883\": allowed is an IP address and a port"),
        (&["--store", "http://x"], 2, "midge: --store: store = \"http://x\": the scheme"),
        (&["--listen", "0.0.0.0:0"], 2, "there is nobody who could log in: add a user first, with `midge --store file:/"),
        (&["--listen", "[::]:0", "--store", "file:elsewhere"], 2, "/elsewhere user add NAME`"),
        (&["--data", "file/x"], 2, "cannot be used multiple times"),
        (&["--store", "file:file"], 3, "midge: file: is not a directory"),
    ] {
        let ran = serve(taken.path(), words);
        assert_eq!(ran.code, code, "{words:?}: {ran:?}");
        assert!(ran.err.contains(said) && ran.out.is_empty(), "{words:?}: {ran:?}");
    }
    let mut command = Command::new(MIDGE);
    command.env_clear().current_dir(taken.path()).args(["serve", "--data", "file"]);
    let ran = Ran::of(&command.output().unwrap());
    assert!(ran.code == 4 && ran.err.contains("the data directory file can't be made"), "{ran:?}");
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let place = Place::served();
    let url = place.url();
    let ran = serve(TempDir::new().unwrap().path(), &["--store", &url]);
    assert!(ran.code == 3 && ran.err.contains("is in use by another process"), "{ran:?}");
    place.ok(&["user", "add", "alice", "--no-password"], "");
}

#[test]
fn users_who_are_added_before_open_the_door() -> Result<()> {
    let folder = TempDir::new()?;
    let store = format!("file:{}", folder.path().join("data").display());
    let add = ["--store", &store, "user", "add", "alice", "--no-password"];
    let ran = Ran::of(&Command::new(MIDGE).env_clear().args(add).output()?);
    assert_eq!(ran.code, 0, "{ran:?}");
    let server = Serving::with(folder, &["--listen", "0.0.0.0:0"])?;
    assert!(!server.publish(&["-t", "t", "-m", "x"])?.status.success());
    let (status, _) = server.end(Signal::TERM)?;
    assert_eq!(status.code(), Some(0));
    Ok(())
}

#[test]
fn the_first_user_ends_that_nobody_needs_a_name() -> Result<()> {
    let mut server = Serving::start()?;
    let mut guest = server.subscribe(&["-t", "chat/#"])?;
    server.publish(&["-t", "chat/1", "-m", "before"])?.success()?;
    assert_eq!(guest.wait(1, PATIENCE)?[0].payload, "before");
    server.add_user("alice")?;
    server.process().wait_log("there are users now", PATIENCE)?;
    guest.process().wait_log("Received DISCONNECT", PATIENCE)?;
    let refused = server.publish(&["-t", "chat/1", "-m", "after"])?;
    assert!(refused.stderr.contains("Not authorized"), "{refused:?}");
    Ok(())
}

#[test]
fn a_name_is_no_hindrance_before_there_are_users() -> Result<()> {
    let server = Serving::start()?;
    for words in [&["-u", "somebody", "-P", "whatever"][..], &["-u", "somebody"]] {
        server.publish(&[words, &["-t", "chat/1", "-m", "x"]].concat())?.success()?;
    }
    let mut guest = server.subscribe(&["-u", "somebody", "-P", "whatever", "-t", "chat/#"])?;
    server.add_user("alice")?;
    guest.process().wait_log("Received DISCONNECT", PATIENCE)?;
    let refused = server.publish(&["-u", "somebody", "-P", "whatever", "-t", "chat/1", "-m", "x"])?;
    assert!(refused.stderr.contains("Bad User Name or Password"), "{refused:?}");
    Ok(())
}

#[test]
fn who_is_let_in_without_a_name_has_rules_once_there_is_a_user() -> Result<()> {
    let server = Serving::with(TempDir::new()?, &["--listen", "0.0.0.0:0", "--allow-anonymous"])?;
    let publish =
        |topic: &str| -> Result<bool> { Ok(!server.publish(&["-t", topic, "-m", "x"])?.stderr.contains("Not authorized")) };
    let mut guest = server.subscribe(&["-t", "#", "-t", "$SYS/test"])?;
    assert!(publish("chat/1")? && !publish("$SYS/test")?);
    guest.wait(1, PATIENCE)?;
    server.add_user("alice")?;
    until("a denial", PATIENCE, || Ok((!publish("probe")?).then_some(())))?;
    server.ok(&["acl", "add", "--group", "anonymous", "chat/#", "prs"]);
    let mut ruled = until("a right", PATIENCE, || Ok(server.subscribe(&["-t", "chat/#"]).ok()))?;
    assert!(publish("chat/2")? && !guest.process().ended()?);
    ruled.wait(1, PATIENCE)?;
    // What nothing allowed any more was taken away.
    assert!(guest.messages()?.iter().all(|message| message.topic != "chat/2"));
    Ok(())
}

#[test]
fn rules_bans_and_kicks_act_on_who_is_connected() -> Result<()> {
    let server = Serving::start()?;
    server.add_user("alice")?;
    let alice = ["-u", "alice", "-P", "secret", "-t", "chat/1"];
    let publish = |text: &str| -> Result<String> { Ok(server.publish(&[&alice[..], &["-m", text]].concat())?.stderr) };
    until("a login with the new password", PATIENCE, || Ok(publish("denied")?.contains("failed: Not authorized").then_some(())))?;
    server.ok(&["acl", "add", "--user", "alice", "chat/#", "prs"]);
    let sub = |id: &str| server.subscribe(&[&["-i", id, "-c", "-x", "60"][..], &alice].concat());
    let mut reader = until("a subscription", PATIENCE, || Ok(sub("reader").ok()))?;
    publish("allowed")?;
    assert_eq!(reader.wait(1, PATIENCE)?[0].payload, "allowed");
    let explained = server.ok(&["explain", "--user", "alice", "--client", "reader", "publish", "chat/1"]);
    assert!(explained.starts_with("allowed"), "{explained}");
    let clients = || -> Result<Option<()>> {
        let status: serde_json::Value = serde_json::from_str(&server.ok(&["status", "--json"]))?;
        Ok((status[0]["clients"] == 1 && status[0]["body"] == "midge").then_some(()))
    };
    until("a status with one client", PATIENCE, clients)?;
    server.ok(&["kick", "client:reader"]);
    reader.process().wait_log("Received DISCONNECT", PATIENCE)?;
    server.ok(&["ban", "add", "user:alice"]);
    let banned = |text: String| Ok(text.contains("Banned").then_some(()));
    until("a refusal of who is banned", PATIENCE, || publish("banned").and_then(banned))?;
    Ok(())
}

/// Shows in the server's own store, or in the Redis at `store`, who is online and what is hot.
fn shows_clients_and_topics(store: Option<&str>) -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("midge.toml");
    let lines = "node = \"here\"\nanonymous = \"allow\"\nhot_interval = \"1s\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n";
    let store = store.map(|store| format!("store = \"{store}\"\n")).unwrap_or_default();
    std::fs::write(&file, store + lines)?;
    let name = path(&file).to_owned();
    let server = Serving::with(folder, &["--config", &name])?;
    let mut phone = server.subscribe(&["-i", "phone", "-t", "chat/#"])?;
    let clients = || -> Result<serde_json::Value> { Ok(serde_json::from_str(&server.ok(&["clients", "--json"]))?) };
    let shown = |count: usize| {
        until("the right clients", PATIENCE, || Ok(Some(clients()?).filter(|all| all.as_array().unwrap().len() == count)))
    };
    let there = shown(1)?;
    assert_eq!((&there[0]["client"], &there[0]["node"]), (&"phone".into(), &"here".into()));
    server.publish(&["-t", "chat/1", "-m", "hello", "--repeat", "5"])?.success()?;
    phone.wait(5, PATIENCE)?;
    let mut lists = server.subscribe(&["-t", "$SYS/midge/hot/1m"])?;
    // The publisher's loop and the reader's pass on their counts each for itself.
    until("a list with all that was counted", PATIENCE, || {
        let payload = lists.messages()?.pop().map(|list| list.payload).unwrap_or_default();
        let list: serde_json::Value = serde_json::from_str(&payload).unwrap_or_default();
        let first = &list["topics"][0];
        let counted = (&first["topic"], &first["messages"], &first["deliveries"]);
        Ok((counted == (&"chat/1".into(), &5.into(), &5.into())).then_some(()))
    })?;
    phone.process().stop(Signal::TERM)?;
    lists.process().stop(Signal::TERM)?;
    shown(0)?;
    Ok(())
}

#[test]
fn who_is_online_and_what_is_hot_is_shown() -> Result<()> {
    shows_clients_and_topics(None)?;
    let redis = Place::redis();
    shows_clients_and_topics(Some(&redis.url()))?;
    assert!(redis.ok(&["hot", "--json"], "").contains("chat/1"));
    assert!(redis.cli(&["XRANGE", "midge:events", "-", "+"]).contains("phone"));
    Ok(())
}

#[test]
fn prometheus_is_shown_the_numbers() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("midge.toml");
    let lines = "node = \"here\"\nanonymous = \"allow\"\nmetrics = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n";
    std::fs::write(&file, lines)?;
    let name = path(&file).to_owned();
    let mut server = Serving::with(folder, &["--config", &name])?;
    let said = "metrics are shown at http://";
    server.process().wait_log(said, PATIENCE)?;
    let log = server.process().log();
    let address = log.split_once(said).and_then(|(_, rest)| rest.split_once("/metrics")).map(|(address, _)| address.to_owned());
    let address = address.context("no address")?;
    let shown = || -> Result<String> {
        let mut stream = TcpStream::connect(&address)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let _phone = server.subscribe(&["-i", "phone", "-t", "chat/#"])?;
    server.publish(&["-t", "chat/1", "-m", "hello"])?.success()?;
    for expected in [
        "midge_node_info{node=\"here\",body=\"midge\",version=\"",
        "midge_clients{node=\"here\"} 1\n",
        "midge_published_total{node=\"here\"} 1\n",
        "midge_delivered_total{node=\"here\"} 1\n",
        "midge_store_connected{node=\"here\"} 1\n",
        "midge_presence_written_total{node=\"here\"} ",
        "midge_hot_failed_total{node=\"here\"} 0\n",
        "# EOF\n",
    ] {
        until(expected, PATIENCE, || Ok(shown()?.contains(expected).then_some(())))?;
    }
    assert!(!shown()?.contains("See OPERATIONS.md"), "{}", shown()?);
    Ok(())
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash() -> Result<()> {
    let server = Serving::start()?;
    let session = ["-i", "phone", "-c", "-x", "3600", "-t", "news/#"];
    server.subscribe(&session)?.process().stop(Signal::TERM)?;
    server.publish(&["-t", "news/1", "-m", "waits", "-r"])?.success()?;
    let server = server.crash()?;
    assert_eq!(server.subscribe(&session)?.wait(1, PATIENCE)?[0].payload, "waits");
    let retained = server.subscribe(&["-t", "news/1"])?.wait(1, PATIENCE)?;
    assert!(retained[0].retain && retained[0].payload == "waits", "{retained:?}");
    Ok(())
}

#[test]
fn a_reload_acts_on_what_it_takes() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("midge.toml");
    let write =
        |anonymous: &str| std::fs::write(&file, format!("anonymous = \"{anonymous}\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n"));
    write("deny")?;
    let name = path(&file).to_owned();
    let mut server = Serving::with(folder, &["--config", &name])?;
    assert!(!server.publish(&["-t", "t", "-m", "x"])?.status.success());
    write("allow")?;
    server.process().signal(Signal::HUP)?;
    server.process().wait_log("these act now: anonymous", PATIENCE)?;
    server.publish(&["-t", "t", "-m", "x"])?.success()?;
    write("perhaps")?;
    server.process().signal(Signal::HUP)?;
    server.process().wait_log("nothing is changed", PATIENCE)?;
    server.publish(&["-t", "t", "-m", "x"])?.success()?;
    Ok(())
}

#[test]
fn without_a_word_it_serves() -> Result<()> {
    let folder = TempDir::new()?;
    let mut command = Command::new(MIDGE);
    let variables = [("STATE_DIRECTORY", path(folder.path())), ("MIDGE_LISTENER_1_ADDRESS", "127.0.0.1:0")];
    command.env_clear().envs(variables).arg("--json");
    let server = Serving::run(folder, command, Vec::new())?;
    server.publish(&["-t", "t", "-m", "x"])?.success()?;
    Ok(())
}

/// Returns a command that becomes a server with its standard input as the socket that systemd passes on: descriptor 3.
fn activated(folder: &Path, socket: TcpListener, listen: &str) -> Command {
    let mut command = Command::new("sh");
    let words = ["-c", "exec \"$0\" serve --data data --listen \"$1\" 3<&0", MIDGE, listen];
    command.env_clear().env("LISTEN_FDS", "1").current_dir(folder).args(words).stdin(OwnedFd::from(socket));
    command
}

#[test]
fn a_socket_of_systemd_is_served_by_its_listener() -> Result<()> {
    let folder = TempDir::new()?;
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    let ran = Ran::of(&activated(folder.path(), socket.try_clone()?, "127.0.0.1:1").output()?);
    assert!(ran.code == 4 && ran.err.contains(&format!("systemd passes a socket at {address}")), "{ran:?}");
    let mut server = activated(folder.path(), socket, &address.to_string()).stdout(Stdio::null()).spawn()?;
    // The socket takes connections already; only a server answers them.
    let answer = RawClient::connect(address.port(), &Connect::new(Protocol::V5, "phone"));
    server.kill()?;
    server.wait()?;
    answer.map(drop)
}

#[test]
fn without_a_store_named_it_is_that_of_the_server_here() {
    let place = Place::served();
    let url = place.url();
    let directory = url.strip_prefix("file:").unwrap();
    place.ok(&["user", "add", "alice", "--no-password"], "");
    let mut command = Command::new(MIDGE);
    command.env_clear().env("STATE_DIRECTORY", directory).args(["user", "list"]);
    let ran = Ran::of(&command.output().unwrap());
    assert!(ran.code == 0 && ran.out.contains("alice"), "{ran:?}");
}
