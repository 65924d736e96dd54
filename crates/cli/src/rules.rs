//! Rules and automatic subscriptions as lists show them, flaws marked.
//!
//! What a field means, and what is wrong with it, is said by core's own types.

use anyhow::Result;
use midge_core::autosub::AutoSubscription;
use midge_core::entry::{Entry, Fields};
use midge_core::rules::RuleSet;
use serde::Serialize;

use crate::output::Output;
use crate::records::fields_of;
use crate::target::Target;

/// One field of a key with rules or with automatic subscriptions.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RuleView {
    /// Whose it is: `user:NAME`, `group:NAME`, `all`.
    pub(crate) target: String,
    /// The field; `*` where the whole key can't be read.
    pub(crate) filter: String,
    /// What the field says: rights of a rule, options of a subscription.
    #[serde(flatten)]
    pub(crate) says: Says,
    /// What is wrong with it.
    pub(crate) flaw: Option<String>,
}

/// What a field says, as it stands in the store.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Says {
    Rights(String),
    Options(String),
}

impl RuleView {
    /// Returns the rules that `entry` holds, in the order of their filters.
    pub(crate) fn rules(target: &Target, entry: Entry) -> Vec<Self> {
        Self::all(target, entry, Says::Rights, |field, value| {
            let (_, flaws) = RuleSet::parse(&vec![(field.to_vec(), value.to_vec())]);
            flaws.into_iter().next().map(|flaw| flaw.reason.to_string())
        })
    }

    /// Returns the automatic subscriptions that `entry` holds, in the order of their filters.
    pub(crate) fn subscriptions(target: &Target, entry: Entry) -> Vec<Self> {
        Self::all(target, entry, Says::Options, |field, value| {
            let (Ok(filter), Ok(options)) = (std::str::from_utf8(field), std::str::from_utf8(value)) else {
                return Some("it is not UTF-8".to_owned());
            };
            AutoSubscription::parse(filter, options).err().map(|error| error.to_string())
        })
    }

    /// Returns what the field says, as text.
    pub(crate) fn says(&self) -> &str {
        match &self.says {
            Says::Rights(text) | Says::Options(text) => text,
        }
    }

    /// Returns the cells of a table with the columns of [`COLUMNS`].
    pub(crate) fn cells(&self) -> [String; 4] {
        let flaw = self.flaw.as_ref().map(|flaw| format!("! {flaw}")).unwrap_or_default();
        [self.target.clone(), self.filter.clone(), self.says().to_owned(), flaw]
    }

    fn all(target: &Target, entry: Entry, says: fn(String) -> Says, flaw: impl Fn(&[u8], &[u8]) -> Option<String>) -> Vec<Self> {
        let target = target.to_string();
        let mut fields: Fields = match fields_of(entry) {
            Ok(fields) => fields,
            Err(flaw) => return vec![Self { target, filter: "*".to_owned(), says: says(String::new()), flaw: Some(flaw) }],
        };
        fields.sort_unstable();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let view = |(field, value): &(Vec<u8>, Vec<u8>)| Self {
            target: target.clone(),
            filter: text(field),
            says: says(text(value)),
            flaw: flaw(field, value),
        };
        fields.iter().map(view).collect()
    }
}

/// The columns of a table of rules.
pub(crate) const COLUMNS: [&str; 4] = ["FOR", "FILTER", "RIGHTS", "FLAW"];

/// Prints a table for people, with `says` over what the fields say.
pub(crate) fn print(views: &[RuleView], says: &str, nothing: &str, output: &mut Output) -> Result<()> {
    let mut listing = output.listing(["FOR", "FILTER", says, "FLAW"]);
    views.iter().try_for_each(|view| listing.row(view, view.cells()))?;
    listing.end(nothing)
}
