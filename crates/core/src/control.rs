//! What operators ask over MQTT, and how they are answered.
//!
//! The shape is that of Mosquitto's own plugins: `{"commands": [{"command": NAME, "correlationData": TEXT, …}]}` is answered by
//! `{"responses": [{"command": NAME, "correlationData": TEXT, "data": {…}}]}`, in order, with `"error"` in place of `"data"` where a
//! command failed. Who may ask is decided by the rules for the topic, like anything else that is published.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::access::Access;
use crate::key::BanTarget;
use crate::name::{ClientId, Username};

/// The topic that is asked at.
pub const TOPIC: &str = "$CONTROL/midge/v1";
/// The topic of answers; only who asked gets them.
pub const RESPONSE_TOPIC: &str = "$CONTROL/midge/v1/response";

/// Commands of one request; further ones are answered by an error.
pub const MAX_COMMANDS: usize = 32;
/// The largest request, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;

/// One command, to be answered.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked, or what is wrong with the question.
    pub command: Result<Command, String>,
    /// What the answer begins with.
    head: Head,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// How the server is.
    Status,
    /// Whether a client may do something, and which rule decides.
    Explain(Explain),
    /// Clients are to be disconnected.
    Kick(BanTarget),
}

/// A question about rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explain {
    /// Whose account is asked about; without, clients that have no username.
    pub username: Option<Username>,
    /// The client identifier.
    pub client: ClientId,
    /// Where the client connects from.
    pub address: Option<IpAddr>,
    /// What it wants to do.
    pub access: Access,
    /// A topic filter for a subscription, else a topic name.
    pub topic: String,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    command: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<Value>,
}

#[derive(Serialize)]
struct Response {
    #[serde(flatten)]
    head: Head,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Data(Value),
    Error(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    commands: Vec<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainFields {
    username: Option<String>,
    clientid: String,
    address: Option<IpAddr>,
    access: String,
    topic: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KickFields {
    target: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

/// Answers that are being collected, in the order of their questions.
#[derive(Default)]
pub struct Responses(Vec<Response>);

impl Request {
    /// Parses a message; one that can't be read is one request with what is wrong with it.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Vec<Self> {
        let wrong = |problem: String| vec![Self { command: Err(problem), head: Head::default() }];
        if payload.len() > MAX_REQUEST {
            return wrong(format!("a request of {} bytes; allowed are {MAX_REQUEST}", payload.len()));
        }
        match serde_json::from_slice::<Envelope>(payload) {
            Err(error) => wrong(format!("no request, which is {{\"commands\": [{{\"command\": …}}]}}: {error}")),
            Ok(Envelope { commands }) if commands.len() > MAX_COMMANDS => {
                wrong(format!("{} commands; allowed are {MAX_COMMANDS} at a time", commands.len()))
            }
            Ok(Envelope { commands }) => commands.into_iter().map(Self::of).collect(),
        }
    }

    fn of(mut fields: Map<String, Value>) -> Self {
        let name = fields.remove("command");
        let correlation_data = fields.remove("correlationData");
        let command = name.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let parsed = Command::of(&command, fields);
        Self { command: parsed, head: Head { command, correlation_data } }
    }
}

impl Command {
    fn of(name: &str, fields: Map<String, Value>) -> Result<Self, String> {
        match name {
            "status" => read::<NoFields>(fields).map(|_| Self::Status),
            "explain" => Explain::of(read(fields)?).map(Self::Explain),
            "kick" => {
                let KickFields { target } = read(fields)?;
                let allowed = "allowed is user:NAME, client:ID, ip:ADDRESS or ip:ADDRESS/PREFIX";
                target.parse().map(Self::Kick).map_err(|error| format!("target = \"{target}\": {error}; {allowed}"))
            }
            "" => Err("the command has no name: allowed is status, explain or kick".to_owned()),
            _ => Err("an unknown command: allowed is status, explain or kick".to_owned()),
        }
    }
}

impl Explain {
    fn of(fields: ExplainFields) -> Result<Self, String> {
        let ExplainFields { username, clientid, address, access, topic } = fields;
        let username = username.map(|name| name.parse().map_err(|error| format!("username: {error}"))).transpose()?;
        let client = clientid.parse().map_err(|error| format!("clientid: {error}"))?;
        let access = match access.as_str() {
            "publish" => Access::Publish,
            "receive" => Access::Receive,
            "subscribe" => Access::Subscribe,
            other => return Err(format!("access = \"{other}\": allowed is publish, receive or subscribe")),
        };
        Ok(Self { username, client, address, access, topic })
    }
}

fn read<T: for<'de> Deserialize<'de>>(fields: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
}

impl Responses {
    /// Adds the answer to `request`.
    pub fn add(&mut self, request: Request, answer: Result<Value, String>) {
        let outcome = answer.map_or_else(Outcome::Error, Outcome::Data);
        self.0.push(Response { head: request.head, outcome });
    }

    /// Returns the message with all answers.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        serde_json::json!({ "responses": self.0 }).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(request: &str) -> String {
        let mut responses = Responses::default();
        for request in Request::parse(request.as_bytes()) {
            let answer = request.command.as_ref().map(|command| Value::String(format!("{command:?}"))).map_err(Clone::clone);
            responses.add(request, answer);
        }
        String::from_utf8(responses.to_payload()).unwrap()
    }

    #[test]
    fn each_command_is_answered_in_order_under_its_name() {
        let request =
            r#"{"commands": [{"command": "status", "correlationData": "1"}, {"command": "kick", "target": "user:alice"}]}"#;
        let expected =
            r#"{"responses":[{"command":"status","correlationData":"1","data":"Status"},{"command":"kick","data":"Kick(User("#;
        let answer = answered(request);
        assert!(answer.starts_with(expected), "{answer}");
    }

    #[test]
    fn a_question_about_rights_says_who_and_what() {
        let request =
            r#"{"commands": [{"command": "explain", "username": "alice", "clientid": "c", "access": "publish", "topic": "t"}]}"#;
        let requests = Request::parse(request.as_bytes());
        let Ok(Command::Explain(explain)) = &requests[0].command else { panic!("{requests:?}") };
        assert_eq!((explain.access, explain.topic.as_str(), explain.client.as_str()), (Access::Publish, "t", "c"));
        assert_eq!(explain.username.as_ref().map(Username::as_str), Some("alice"));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_is_allowed() {
        let many = format!(r#"{{"commands": [{}]}}"#, vec![r#"{"command": "status"}"#; MAX_COMMANDS + 1].join(","));
        for (request, said) in [
            ("", "no request, which is"),
            ("[]", "no request, which is"),
            (r#"{"commands": [1]}"#, "no request, which is"),
            (r#"{"commands": [{}]}"#, "the command has no name: allowed is status, explain or kick"),
            (r#"{"commands": [{"command": "stop"}]}"#, r#""command":"stop","error":"an unknown command"#),
            (r#"{"commands": [{"command": "status", "colour": 1}]}"#, "unknown field `colour`"),
            (r#"{"commands": [{"command": "kick", "target": "alice"}]}"#, "allowed is user:NAME"),
            (r#"{"commands": [{"command": "explain", "clientid": "c", "access": "read", "topic": "t"}]}"#, "allowed is publish,"),
            (r#"{"commands": [{"command": "explain", "access": "publish", "topic": "t"}]}"#, "missing field `clientid`"),
            (&many, "33 commands; allowed are 32"),
            (&" ".repeat(MAX_REQUEST + 1), "a request of 65537 bytes"),
        ] {
            assert!(answered(request).contains(said), "{request}: {}", answered(request));
        }
    }
}
