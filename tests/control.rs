//! Operators ask over MQTT, and are answered.
//!
//! On every Mosquitto: who may ask is decided by the rules alone.

use midge_testkit::{MosquittoVersion, RawClient};
use serde_json::{Value, json};

use crate::support::{NO_SUBSCRIBERS, Policy, SOON, Stack, on_every_broker, subscribes};

on_every_broker!(
    who_may_ask_is_answered,
    who_may_not_ask_gets_no_answer,
    what_is_asked_of_an_account_nobody_knows_yet_waits_for_the_store,
    a_kick_disconnects_whom_it_names,
    who_switches_it_off_is_not_answered,
);

const TOPIC: &str = "$CONTROL/midge/v1";

fn start(version: MosquittoVersion, options: &str) -> Stack {
    let stack = Stack::start(version, &format!("auth_opt_node one\n{options}"));
    stack.redis.user("ann", &[(TOPIC, "p"), ("end", "prs")]);
    stack.redis.user("bob", &[("chat/#", "prs")]);
    stack
}

/// Returns the answers to a message.
fn ask(client: &mut RawClient, message: &str) -> Vec<Value> {
    client.publish(TOPIC, message.as_bytes(), 1, false).unwrap();
    let answer = client.message(SOON).unwrap().expect("an answer");
    let (topic, payload) = answer.text();
    assert_eq!(topic, "$CONTROL/midge/v1/response");
    let mut answer: Value = serde_json::from_str(&payload).unwrap();
    answer["responses"].as_array_mut().map(std::mem::take).expect("responses")
}

fn ask_one(client: &mut RawClient, command: &Value) -> Value {
    let mut answers = ask(client, &json!({ "commands": [command] }).to_string());
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0)
}

fn who_may_ask_is_answered(version: MosquittoVersion) {
    let stack = start(version, "");
    let mut ann = stack.client("ann", "operator");
    let bob = stack.client("bob", "phone");
    let answers = ask(
        &mut ann,
        &json!({ "commands": [
            { "command": "status", "correlationData": "1" },
            { "command": "explain", "username": "bob", "clientid": "phone", "access": "publish", "topic": "chat/1" },
            { "command": "explain", "username": "bob", "clientid": "phone", "access": "subscribe", "topic": "chat/#/x" },
            { "command": "stop" },
        ] })
        .to_string(),
    );
    let status = &answers[0];
    assert_eq!((&status["command"], &status["correlationData"]), (&json!("status"), &json!("1")), "{status}");
    assert_eq!((&status["data"]["node"], &status["data"]["body"]), (&json!("one"), &json!("mosquitto")), "{status}");
    let explained = &answers[1]["data"];
    assert_eq!((&explained["allowed"], &explained["filter"]), (&json!(true), &json!("chat/#")), "{explained}");
    assert_eq!(explained["key"], "midge:user:{bob}:acl");
    assert!(answers[2]["error"].as_str().unwrap().contains("chat/#/x"), "{:?}", answers[2]);
    assert!(answers[3]["error"].as_str().unwrap().contains("allowed is status, explain or kick"), "{:?}", answers[3]);
    for nonsense in ["", "nonsense", "{\"commands\": 1}", "\u{0}"] {
        assert!(ask(&mut ann, nonsense)[0]["error"].is_string(), "{nonsense:?}");
    }
    drop(bob);
}

fn who_may_not_ask_gets_no_answer(version: MosquittoVersion) {
    let stack = start(version, "");
    let mut bob = stack.client("bob", "phone");
    stack.redis.user("bob", &[("#", "prs")]);
    assert!(subscribes(&mut bob, "chat/#"));
    let code = bob.publish(TOPIC, br#"{"commands": [{"command": "status"}]}"#, 1, false).unwrap();
    assert_eq!(code, 135, "# names no topic that begins with $");
    bob.publish("chat/end", b"x", 1, false).unwrap();
    assert_eq!(bob.message(SOON).unwrap().unwrap().text().0, "chat/end");
}

fn what_is_asked_of_an_account_nobody_knows_yet_waits_for_the_store(version: MosquittoVersion) {
    let stack = start(version, "");
    let mut ann = stack.client("ann", "operator");
    let explain =
        |user: &str| json!({ "command": "explain", "username": user, "clientid": "x", "access": "receive", "topic": "chat/1" });
    let answer = ask_one(&mut ann, &explain("bob"));
    assert_eq!((&answer["data"]["allowed"], &answer["data"]["stage"]), (&json!(true), &json!("rule")), "{answer}");
    let answer = ask_one(&mut ann, &explain("nobody"));
    assert_eq!((&answer["data"]["allowed"], &answer["data"]["text"]), (&json!(false), &json!("no such user")), "{answer}");
}

fn a_kick_disconnects_whom_it_names(version: MosquittoVersion) {
    let stack = start(version, "");
    let mut ann = stack.client("ann", "operator");
    let kick = |target: &str| json!({ "command": "kick", "target": target });
    for target in ["user:bob", "client:phone", "ip:127.0.0.1/32"] {
        let mut bob = stack.client("bob", "phone");
        let answer = ask_one(&mut ann, &kick(target));
        let expected = if target.starts_with("ip:") { 2 } else { 1 };
        assert_eq!(answer["data"]["disconnected"], expected, "{target}: {answer}");
        bob.closed(SOON).unwrap();
    }
    ann.closed(SOON).unwrap();
    let mut ann = stack.client("ann", "operator");
    assert_eq!(ask_one(&mut ann, &kick("user:bob"))["data"]["disconnected"], 0);
    assert!(ask_one(&mut ann, &kick("bob"))["error"].as_str().unwrap().contains("allowed is user:NAME"));
}

fn who_switches_it_off_is_not_answered(version: MosquittoVersion) {
    let stack = start(version, "auth_opt_control false\n");
    let mut ann = stack.client("ann", "operator");
    assert!(subscribes(&mut ann, "end"));
    let code = ann.publish(TOPIC, br#"{"commands": [{"command": "status"}]}"#, 1, false).unwrap();
    assert!(code == 0 || code == NO_SUBSCRIBERS || code >= 128, "{code}");
    ann.publish("end", b"x", 1, false).unwrap();
    let mut next = || ann.message(SOON).unwrap().unwrap().text();
    if version == MosquittoVersion::V2_1_2 {
        // This release itself says that nobody is there to answer.
        let (topic, answer) = next();
        assert!(topic == "$CONTROL/midge/v1/response" && answer.contains("error") && !answer.contains("data\":"), "{answer}");
    }
    assert_eq!(next().0, "end");
}
