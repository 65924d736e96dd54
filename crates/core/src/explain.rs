//! Says why a client may or may not do something.
//!
//! [`Gate::explain`] answers as the gate would decide now, from what is in memory: nothing is read, counted or changed.
//! Whoever asks on behalf of an operator has the account read first, by [`crate::directory::Directory::wants`].

use std::net::IpAddr;

use serde::Serialize;

use crate::access::Access;
use crate::directory::{Account, Identity, Standing};
use crate::gate::{Anonymous, Gate, Refusal};
use crate::key::{Key, KeySpace};
use crate::name::{ClientId, Username};
use crate::policy::{Decision, Reason, Who};
use crate::time::Now;
use crate::topic::{TopicError, TopicFilter, TopicName};

/// What a client wants to do with which topic.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// To send a message to the topic.
    Publish(TopicName<'a>),
    /// To be delivered a message of the topic.
    Receive(TopicName<'a>),
    /// To hold a subscription to the filter.
    Subscribe(TopicFilter<'a>),
}

impl<'a> Question<'a> {
    /// Reads `text` as what `access` is about: a topic filter for a subscription, a topic name otherwise.
    ///
    /// # Errors
    /// The text is no topic filter, or no topic name.
    pub fn new(access: Access, text: &'a str) -> Result<Self, TopicError> {
        Ok(match access {
            Access::Publish => Self::Publish(TopicName::new(text)?),
            Access::Receive => Self::Receive(TopicName::new(text)?),
            Access::Subscribe => Self::Subscribe(TopicFilter::new(text)?),
        })
    }
}

/// Who asks for what.
#[derive(Clone, Debug)]
pub struct Inquiry<'a> {
    /// Whose account is asked about.
    pub identity: &'a Identity,
    /// The client identifier.
    pub client: &'a ClientId,
    /// Where the client connects from; without it, bans of addresses are not looked at.
    pub address: Option<IpAddr>,
    /// What the client wants.
    pub question: Question<'a>,
}

/// Which step of the decision gave the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Stage {
    /// A ban keeps the client out.
    Ban,
    /// The account lets nobody in, is not known, or may do everything.
    Account,
    /// The user may not have the client identifier.
    ClientId,
    /// A rule allows or denies it.
    Rule,
    /// No rule allows it.
    NoRule,
    /// The user's key, or a key with rules, can't be read.
    Unreadable,
}

/// An answer and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether the client may.
    pub allowed: bool,
    /// Which step of the decision gave the answer.
    pub stage: Stage,
    /// The reason as a sentence without a full stop.
    pub text: String,
    /// The key that decided, as it stands in the store.
    pub key: Option<String>,
    /// The rule that decided, as written: the field of that key.
    pub filter: Option<String>,
    /// What that rule says, as `[!]` and letters; what can't be read counts as `!prs`.
    pub rights: Option<String>,
}

impl Gate {
    /// Returns what the gate would decide about `inquiry` now, with keys as they stand in `space`.
    #[must_use]
    pub fn explain(&self, inquiry: &Inquiry<'_>, space: &KeySpace, now: Now) -> Explanation {
        let Inquiry { identity, client, address, question } = inquiry;
        let user = identity.user.as_ref();
        if let Some(Refusal::Banned { target, reason }) = self.banned(user, client, *address, now) {
            let text = format!("banned by {target}: {reason}");
            return Explanation::without_rule(false, Stage::Ban, text, Some(space.render(&Key::Ban(target))));
        }
        if user.is_none() && self.anonymous() == Anonymous::Deny {
            return Explanation::without_rule(false, Stage::Account, Refusal::Anonymous.to_string(), None);
        }
        let slot = self.directory().slot(identity, now);
        let account = slot.account();
        let record = user.map(|user| space.render(&Key::User(user.clone())));
        if let Some((stage, text)) = shut(&account, user, client) {
            return Explanation::without_rule(false, stage, text, record);
        }
        let who = Who { username: user.map(Username::as_str), client_id: client.as_str() };
        let policy = account.policy();
        let decision = match question {
            Question::Publish(topic) => policy.may(Access::Publish, *topic, &who),
            Question::Receive(topic) => policy.may(Access::Receive, *topic, &who),
            Question::Subscribe(filter) => policy.may_subscribe(*filter, &who),
        };
        Explanation::of_decision(&account, decision, record, space)
    }
}

/// Returns why the account lets this client do nothing at all, whatever its rules say.
fn shut(account: &Account, user: Option<&Username>, client: &ClientId) -> Option<(Stage, String)> {
    let shut = |stage, text: &str| Some((stage, text.to_owned()));
    match account.standing() {
        Standing::Active => {}
        Standing::Disabled => return shut(Stage::Account, "the user is disabled"),
        Standing::Missing => return shut(Stage::Account, "no such user"),
        Standing::Unreadable => return shut(Stage::Unreadable, "the user's key can't be read"),
        Standing::Unknown => return shut(Stage::Account, "the store has not been asked about this user"),
    }
    if !account.is_decided() {
        return shut(Stage::Account, "the store has not been asked about all rules that apply");
    }
    let pattern = account.record().and_then(|record| record.client_id.as_ref()).zip(user);
    match pattern {
        Some((pattern, user)) if !pattern.matches(user, client) => shut(Stage::ClientId, "the client identifier is not the user's"),
        _ => None,
    }
}

impl Explanation {
    fn without_rule(allowed: bool, stage: Stage, text: String, key: Option<String>) -> Self {
        Self { allowed, stage, text, key, filter: None, rights: None }
    }

    fn of_decision(account: &Account, decision: Decision, record: Option<String>, space: &KeySpace) -> Self {
        let allowed = decision.allowed;
        let origin = account.policy().describe(decision);
        let key = origin.map(|origin| space.render(origin.key));
        let rule = origin.and_then(|origin| origin.rule);
        let (stage, text) = match decision.reason {
            Reason::Superuser => return Self::without_rule(allowed, Stage::Account, "superuser".to_owned(), record),
            Reason::Rule { .. } if allowed => (Stage::Rule, "a rule allows it".to_owned()),
            Reason::Rule { .. } if rule.is_some_and(|rule| !rule.readable) => {
                (Stage::Rule, "a rule's rights can't be read, so it denies".to_owned())
            }
            Reason::Rule { .. } => (Stage::Rule, "a rule denies it".to_owned()),
            Reason::Closed { .. } => (Stage::Unreadable, "a key with rules can't be read, so everything is denied".to_owned()),
            reason @ (Reason::NoRule | Reason::TooManyLevels) => (Stage::NoRule, reason.to_string()),
        };
        let filter = rule.map(|rule| rule.filter.to_owned());
        Self { allowed, stage, text, key, filter, rights: rule.map(|rule| rule.rights.to_string()) }
    }
}
