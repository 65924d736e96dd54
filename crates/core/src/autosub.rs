//! Automatic subscriptions: read, merged for one client, compared.
//!
//! A store has them in lists: the field is a filter template, its value the options: `1`, or `1,nl,rap,rh=2`.
//! [`crate::gate::ClientPolicy::subscriptions`] makes a [`Plan`] of all lists that concern a client: its own identifier's, its user's,
//! those of its groups, everyone's. [`steps`] says what to do where a session has other subscriptions than its plan.
//! Nothing is in a plan that the client's own SUBSCRIBE would not get.

use std::fmt;

use crate::rules::{Template, TemplateError, Who};

mod list;
mod plan;

pub use list::{MAX_ENTRIES, SubscriptionList};
pub use plan::{Plan, Step, Subscription, Terms, steps};

/// The quality of service that a subscription asks for at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Qos {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

/// When retained messages are sent for a subscription (MQTT 5.0 section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum RetainHandling {
    /// Whenever it is made.
    #[default]
    Always = 0,
    /// Only when it did not exist before.
    IfNew = 1,
    /// Never.
    Never = 2,
}

/// What is asked for with a subscription (MQTT 5.0 section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// The highest quality of service.
    pub qos: Qos,
    /// Whether the client's own messages stay away: `nl`.
    pub no_local: bool,
    /// Whether messages keep their retain flag: `rap`.
    pub retain_as_published: bool,
    /// When retained messages are sent: `rh=`.
    pub retain_handling: RetainHandling,
}

/// An entry of a list: a subscription that is made for each client that the list concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoSubscription {
    filter: Box<str>,
    /// What it asks for.
    pub options: SubscribeOptions,
}

/// Why a field is no automatic subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AutoSubscriptionError {
    /// The field is no filter template.
    #[error(transparent)]
    Filter(#[from] TemplateError),
    /// The value can't be read; it is held escaped and cut.
    #[error(
        "\"{0}\" are no options: allowed is a quality of service 0, 1 or 2, then each at most once nl, rap, rh=0, rh=1 or rh=2"
    )]
    Options(String),
    /// A shared subscription asks for no-local [MQTT-3.8.3-4].
    #[error("a shared subscription can't have the option nl")]
    SharedNoLocal,
}

impl AutoSubscription {
    /// Reads a field and its value.
    ///
    /// # Errors
    /// What the field or the value breaks.
    pub fn parse(filter: &str, options: &str) -> Result<Self, AutoSubscriptionError> {
        Template::new(filter)?;
        let parsed = Self { filter: filter.into(), options: options.parse()? };
        if parsed.options.no_local && parsed.share().is_some() { Err(AutoSubscriptionError::SharedNoLocal) } else { Ok(parsed) }
    }

    /// Returns the filter template as it was written.
    #[must_use]
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Returns the filter for the client, with `$share/NAME/` where that was written; `None` where its names can't stand in.
    #[must_use]
    pub fn expand(&self, who: &Who<'_>) -> Option<String> {
        let filter = Template::new(&self.filter).ok()?.expand(who)?;
        Some(self.share().map_or(filter.clone(), |share| format!("$share/{share}/{filter}")))
    }

    fn share(&self) -> Option<&str> {
        self.filter.strip_prefix("$share/")?.split('/').next()
    }
}

impl std::str::FromStr for SubscribeOptions {
    type Err = AutoSubscriptionError;

    fn from_str(text: &str) -> Result<Self, AutoSubscriptionError> {
        let error = || AutoSubscriptionError::Options(text.chars().take(40).collect::<String>().escape_debug().to_string());
        let mut words = text.split(',');
        let qos = match words.next() {
            Some("0") => Qos::AtMostOnce,
            Some("1") => Qos::AtLeastOnce,
            Some("2") => Qos::ExactlyOnce,
            _ => return Err(error()),
        };
        let mut parsed = Self { qos, ..Self::default() };
        let mut handling = None;
        for word in words {
            match word {
                "nl" if !parsed.no_local => parsed.no_local = true,
                "rap" if !parsed.retain_as_published => parsed.retain_as_published = true,
                "rh=0" if handling.is_none() => handling = Some(RetainHandling::Always),
                "rh=1" if handling.is_none() => handling = Some(RetainHandling::IfNew),
                "rh=2" if handling.is_none() => handling = Some(RetainHandling::Never),
                _ => return Err(error()),
            }
        }
        parsed.retain_handling = handling.unwrap_or_default();
        Ok(parsed)
    }
}

impl fmt::Display for SubscribeOptions {
    /// Writes the options, as a store has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.qos as u8)?;
        for (word, set) in [(",nl", self.no_local), (",rap", self.retain_as_published)] {
            f.write_str(if set { word } else { "" })?;
        }
        match self.retain_handling {
            RetainHandling::Always => Ok(()),
            handling => write!(f, ",rh={}", handling as u8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_written_alike() {
        for (options, shown) in [("0", "0"), ("1,nl,rap,rh=2", "1,nl,rap,rh=2"), ("2,rh=1,rap", "2,rap,rh=1"), ("1,rh=0", "1")] {
            assert_eq!(AutoSubscription::parse("news/%u", options).unwrap().options.to_string(), shown, "{options}");
        }
        for options in ["", "3", "1,", "1,xy", "1, nl", "nl", "1,nl,nl", "1,rh=3", "1,rh=1,rh=1", "-1"] {
            let error = AutoSubscription::parse("news", options).unwrap_err().to_string();
            assert!(error.contains("allowed is a quality of service 0, 1 or 2"), "{options}: {error}");
        }
    }

    #[test]
    fn filters_are_checked_and_expanded() {
        let who = Who { username: Some("zoë"), client_id: "c/1" };
        for (filter, expected) in
            [("news/%u", Some("news/zoë")), ("$share/%u/jobs/${username}", Some("$share/%u/jobs/zoë")), ("x/%c", None)]
        {
            assert_eq!(AutoSubscription::parse(filter, "1").unwrap().expand(&who).as_deref(), expected, "{filter}");
        }
        assert!(matches!(AutoSubscription::parse("a#", "1"), Err(AutoSubscriptionError::Filter(_))));
        assert_eq!(AutoSubscription::parse("$share/g/f", "1,nl"), Err(AutoSubscriptionError::SharedNoLocal));
    }
}
