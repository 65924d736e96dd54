//! The rules that one key holds, compiled for many clients.
//!
//! A field is a filter template, its value says what it allows or denies: `site/%u/#` → `ps`, `site/+/secret` → `!prs`.
//! Every field is judged by itself; one that can't be read never grants anything and never hides another:
//!
//! * rights that can't be read under a filter that can: the filter is denied for all three kinds of access;
//! * a filter that can't be read: the field says nothing and is reported, whatever its value is.
//!   To deny everything for it would let one typo lock everybody out, and what it was meant for is not known.
//!
//! `$share/NAME/FILTER` is judged as `FILTER`. Placeholders are described at [`Template`].

use crate::access::{Rights, RightsError};
use crate::entry::Fields;
use crate::name::Shown;

mod compile;
pub(crate) mod level;
pub(crate) mod mask;
mod overlap;
mod search;
pub(crate) mod template;
mod trie;

pub(crate) use search::Found;
pub use template::{Template, TemplateError, Who};

use compile::{Draft, compile};
use level::Levels;
use mask::Mask;
use trie::{NONE, Trie};

/// The most levels that a topic name or filter may have to be allowed anything; a deeper one is denied.
///
/// So a rule that is deeper than this could match nothing. A trailing `#` doesn't count in rules.
pub const MAX_LEVELS: usize = 256;

/// The most rules that one key may hold; a key with more denies everything.
pub const MAX_RULES: usize = 1_000_000;

/// The most bytes that all filters of one key may have together; a key with more denies everything.
pub const MAX_TEXT_BYTES: usize = 64 << 20;

/// The most flaws that [`RuleSet::parse`] describes; [`RuleSet::flaws`] counts them all.
pub const MAX_FLAWS: usize = 20;

/// The compiled rules of one key, the same for every client they apply to.
#[derive(Debug, Default)]
pub struct RuleSet {
    trie: Trie,
    rules: Vec<Stored>,
    /// The filters as written, one behind the other.
    text: String,
    flaws: usize,
    closed: bool,
}

#[derive(Debug)]
struct Stored {
    start: u32,
    len: u32,
    /// The next rule for the same filter, written in another way; [`NONE`] ends the chain.
    next: u32,
    rights: Rights,
    readable: bool,
}

/// One rule of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// The filter as it was written.
    pub filter: &'a str,
    /// What the rule allows or denies.
    pub rights: Rights,
    /// Whether the rights were written so; otherwise they could not be read and everything is denied in their place.
    pub readable: bool,
}

/// A field that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field \"{field}\": {reason}")]
pub struct Flaw {
    /// The field, escaped and cut at 64 characters.
    pub field: String,
    /// What is wrong with it.
    pub reason: FlawReason,
}

/// What is wrong with a field of a set of rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlawReason {
    /// The filter can't be read: the field says nothing.
    #[error("{0}; the field is ignored")]
    Filter(#[from] TemplateError),
    /// The filter has more levels than any topic that is allowed.
    #[error("the filter has {0} levels, at most {MAX_LEVELS} are looked at; the field is ignored")]
    TooManyLevels(usize),
    /// The rights can't be read: the filter is denied.
    #[error("{0}; the filter is denied")]
    Rights(#[from] RightsError),
    /// The rights are not UTF-8: the filter is denied.
    #[error("the rights are not UTF-8; the filter is denied")]
    RightsNotUtf8,
    /// The key holds more than is looked at: everything is denied.
    #[error("the key holds more than {MAX_RULES} rules or {MAX_TEXT_BYTES} bytes of filters; everything is denied")]
    TooMuch,
}

impl RuleSet {
    /// Compiles the fields of one key; also returns the first [`MAX_FLAWS`] flaws.
    #[must_use]
    pub fn parse(fields: &Fields) -> (Self, Vec<Flaw>) {
        let bytes: usize = fields.iter().map(|(field, _)| field.len()).sum();
        if fields.len() > MAX_RULES || bytes > MAX_TEXT_BYTES {
            let flaw = Flaw { field: String::from("*"), reason: FlawReason::TooMuch };
            return (Self { flaws: 1, ..Self::closed() }, vec![flaw]);
        }
        let mut set = Self { text: String::with_capacity(bytes), ..Self::default() };
        let mut drafts = Vec::with_capacity(fields.len());
        let mut flaws = Vec::new();
        for (field, value) in fields {
            if let Err(reason) = set.add(field, value, &mut drafts) {
                set.flaws += 1;
                if flaws.len() < MAX_FLAWS {
                    flaws.push(Flaw { field: shown(field), reason });
                }
            }
        }
        set.trie = compile(drafts, &mut set.rules, &set.text);
        (set, flaws)
    }

    /// Returns the set that denies everything to everyone but superusers: what a key that can't be read stands for.
    #[must_use]
    pub fn closed() -> Self {
        Self { closed: true, ..Self::default() }
    }

    /// Returns whether the set denies everything.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns whether the set decides anything.
    #[must_use]
    pub fn decides(&self) -> bool {
        !self.is_empty() || self.closed
    }

    /// Returns how many fields had a flaw.
    #[must_use]
    pub fn flaws(&self) -> usize {
        self.flaws
    }

    /// Returns how many rules the set has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Returns whether the set has no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns all rules, in the order of their numbers.
    pub fn rules(&self) -> impl Iterator<Item = Rule<'_>> {
        self.rules.iter().map(|stored| self.view(stored))
    }

    /// Returns the rule with a number that a decision names.
    #[must_use]
    pub fn rule(&self, number: u32) -> Option<Rule<'_>> {
        self.rules.get(number as usize).map(|stored| self.view(stored))
    }

    /// Returns what kinds of access any rule allows or denies.
    pub(crate) fn speaks(&self) -> Mask {
        self.trie.root().map_or(Mask::NONE, |root| root.below)
    }

    /// Returns the number of levels of the deepest rule, a trailing `#` not counted.
    pub(crate) fn depth(&self) -> usize {
        self.trie.depth()
    }

    /// Looks for rules among `want` that match the topic name in `levels`.
    #[inline]
    pub(crate) fn matching<const N: usize>(&self, levels: &mut Levels<'_, N>, who: Option<&Who<'_>>, want: Mask) -> Found<'_> {
        search::search::<N, false>(&self.trie, &self.rules, levels, who, want)
    }

    /// Looks for rules among `want` that cover the topic filter in `levels`.
    pub(crate) fn covering<const N: usize>(&self, levels: &mut Levels<'_, N>, who: &Who<'_>, want: Mask) -> Found<'_> {
        search::search::<N, true>(&self.trie, &self.rules, levels, Some(who), want)
    }

    /// Returns a rule among `want` that matches some topic which the filter in `levels` matches too.
    pub(crate) fn overlapping<const N: usize>(&self, levels: &mut Levels<'_, N>, who: &Who<'_>, want: Mask) -> Option<u32> {
        overlap::overlap(&self.trie, &self.rules, levels, who, want)
    }

    fn add(&mut self, field: &[u8], value: &[u8], drafts: &mut Vec<Draft>) -> Result<(), FlawReason> {
        let text = std::str::from_utf8(field).map_err(|_| TemplateError::NotUtf8)?;
        let template = Template::new(text)?;
        let levels = template.judged().split('/').filter(|level| *level != "#").count();
        if levels > MAX_LEVELS {
            return Err(FlawReason::TooManyLevels(levels));
        }
        let (rights, flaw) = match std::str::from_utf8(value).map(str::parse::<Rights>) {
            Ok(Ok(rights)) => (rights, Ok(())),
            Ok(Err(error)) => (Rights::DENY_ALL, Err(FlawReason::Rights(error))),
            Err(_) => (Rights::DENY_ALL, Err(FlawReason::RightsNotUtf8)),
        };
        let number = |n: usize| u32::try_from(n).expect("MAX_RULES and MAX_TEXT_BYTES are below 2^32");
        drafts.push(Draft { key: template.judged().replace('/', "\0"), rule: number(self.rules.len()), mask: Mask::of(rights) });
        let (start, len) = (number(self.text.len()), number(text.len()));
        self.rules.push(Stored { start, len, next: NONE, rights, readable: flaw.is_ok() });
        self.text.push_str(text);
        flaw
    }

    fn view(&self, stored: &Stored) -> Rule<'_> {
        Rule { filter: stored.filter(&self.text), rights: stored.rights, readable: stored.readable }
    }
}

impl Stored {
    fn filter<'a>(&self, text: &'a str) -> &'a str {
        &text[self.start as usize..(self.start + self.len) as usize]
    }
}

fn shown(field: &[u8]) -> String {
    // More than 64 characters of four bytes are never shown.
    Shown(&String::from_utf8_lossy(&field[..field.len().min(260)])).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<F: AsRef<[u8]>>(fields: &[(F, &[u8])]) -> Fields {
        fields.iter().map(|(field, value)| (field.as_ref().to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn each_field_is_judged_by_itself() {
        for (field, value, rule, flaw) in [
            (&b"a/+"[..], &b"rp"[..], Some("a/+ pr"), None),
            (b"$share/g/a/#", b"!s", Some("$share/g/a/# !s"), None),
            (b"${username}/x", b"p", Some("${username}/x p"), None),
            (b"a", b"rw", Some("a !prs"), Some("the filter is denied")),
            (b"a", b"", Some("a !prs"), Some("the filter is denied")),
            (b"a", b"\xff", Some("a !prs"), Some("the rights are not UTF-8; the filter is denied")),
            (b"a+", b"p", None, Some("a wildcard does not stand alone in its level; the field is ignored")),
            (b"a+", b"!p", None, Some("the field is ignored")),
            (b"", b"p", None, Some("field \"\": the topic is empty; the field is ignored")),
            (b"\xff\n", b"p", None, Some("field \"\u{fffd}\\n\": the filter is not UTF-8; the field is ignored")),
            (b"${user}", b"p", None, Some("allowed are %u, ${username}, %c and ${clientid}; the field is ignored")),
        ] {
            let (set, flaws) = RuleSet::parse(&fields(&[(field, value), (b"good", b"p")]));
            let shown: Vec<String> = set.rules().map(|rule| format!("{} {}", rule.filter, rule.rights)).collect();
            let expected: Vec<&str> = rule.into_iter().chain(["good p"]).collect();
            assert_eq!(shown, expected, "{field:?} {value:?}");
            assert_eq!(flaws.len(), usize::from(flaw.is_some()), "{flaws:?}");
            assert_eq!(set.flaws(), flaws.len());
            for (found, wanted) in flaws.iter().zip(flaw) {
                assert!(found.to_string().ends_with(wanted), "{found}");
            }
            let unreadable = flaw.is_some_and(|flaw| flaw.ends_with("denied"));
            assert_eq!(set.rules().filter(|rule| !rule.readable).count(), usize::from(unreadable), "{field:?} {value:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |levels: usize, end: &str| vec!["x"; levels].join("/") + end;
        for (filter, expected) in [
            (deep(256, ""), true),
            (deep(256, "/#"), true),
            (deep(257, ""), false),
            (deep(256, "/+"), false),
            (deep(1000, "/#"), false),
        ] {
            let (set, flaws) = RuleSet::parse(&fields(&[(&filter, b"p")]));
            assert_eq!((set.len(), flaws.is_empty()), (usize::from(expected), expected), "{} levels", filter.split('/').count());
        }
    }

    #[test]
    fn flaws_are_counted_and_a_few_described() {
        let many: Vec<(String, &[u8])> =
            (0..500).map(|n| (format!("a{n}+"), &b"p"[..])).chain([("x".repeat(999) + "+", &b"p"[..])]).collect();
        let (set, flaws) = RuleSet::parse(&fields(&many));
        assert_eq!((set.flaws(), flaws.len(), set.len()), (501, MAX_FLAWS, 0));
        assert!(RuleSet::parse(&fields(&many[500..])).1[0].field.chars().count() <= 65);
    }

    #[test]
    fn a_key_with_too_much_denies_everything() {
        let (set, flaws) = RuleSet::parse(&fields(&[(vec![b'x'; MAX_TEXT_BYTES + 1], b"p")]));
        assert!(set.is_closed());
        assert_eq!(flaws[0].reason, FlawReason::TooMuch);
    }
}
