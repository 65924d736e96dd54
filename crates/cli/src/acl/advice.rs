//! What a rule doesn't do, though it may seem to.
//!
//! Each piece of advice is about something that is so in any case; it never keeps a rule from being written.

use midge_core::access::{Access, AccessSet, Rights};
use midge_core::entry::Fields;
use midge_core::name::Username;
use midge_core::topic::TopicFilter;

use crate::target::Target;

/// How many other rules of the same key are named at most.
const MAX_RULES: usize = 3;

/// Returns what to say about the rule on `filter` with `rights`, which stands beside `others` for `target`.
pub(super) fn on(target: &Target, filter: &str, rights: Rights, others: &Fields) -> Vec<String> {
    let Ok(judged) = TopicFilter::new(filter) else { return Vec::new() };
    let mut advice = Vec::new();
    if judged.as_str() != filter {
        advice.push(format!("a rule is about topics, whoever shares the subscription: this one is judged as \"{judged}\""));
    }
    advice.extend(misspelt(filter).map(|text| {
        format!("\"{text}\" is no placeholder and stands for itself; placeholders are %u, ${{username}}, %c and ${{clientid}}")
    }));
    if judged.as_str() == "#" {
        let verb = if rights.deny { "deny" } else { "allow" };
        advice.push(format!("# doesn't reach topics that begin with $; to {verb} those as well, write a rule such as $SYS/#"));
    }
    if let Target::User(name) = target {
        advice.extend(unexpandable(name, filter));
    }
    let rules: Vec<Other<'_>> = others.iter().filter_map(Other::new).filter(|other| other.written != filter).collect();
    advice.extend(rules.iter().filter_map(|other| other.conflict(judged, rights)).take(MAX_RULES));
    advice.extend(undelivered(judged, rights, &rules, target));
    advice
}

/// Another rule of the same key.
struct Other<'a> {
    written: &'a str,
    filter: TopicFilter<'a>,
    rights: Rights,
}

impl<'a> Other<'a> {
    fn new((field, value): &'a (Vec<u8>, Vec<u8>)) -> Option<Self> {
        let written = std::str::from_utf8(field).ok()?;
        let rights = std::str::from_utf8(value).ok()?.parse().ok()?;
        Some(Self { written, filter: TopicFilter::new(written).ok()?, rights })
    }

    /// Returns what this rule and a new one on `filter` make of each other, where one denies what the other allows.
    fn conflict(&self, filter: TopicFilter<'_>, rights: Rights) -> Option<String> {
        let both = common(self.rights.access, rights.access);
        if self.rights.deny == rights.deny || both.is_empty() {
            return None;
        }
        let (allowed, denied) = if rights.deny { (self.filter, filter) } else { (filter, self.filter) };
        if denied.covers(allowed) {
            return Some(format!(
                "\"{allowed}\" is allowed {both} without effect: \"{denied}\" denies it, and a denial beats every allowance"
            ));
        }
        (both.contains(Access::Subscribe) && denied.overlaps(allowed)).then(|| {
            format!(
                "whoever subscribes to all of \"{allowed}\" is refused, since \"{denied}\" is a part that denies s; \
                 to let them subscribe and keep only those messages back, deny r there instead"
            )
        })
    }
}

fn common(one: AccessSet, other: AccessSet) -> AccessSet {
    let both = Access::ALL.into_iter().filter(|kind| one.contains(*kind) && other.contains(*kind));
    both.fold(AccessSet::NONE, AccessSet::with)
}

/// Returns the first `%` and letter that is no placeholder.
fn misspelt(filter: &str) -> Option<&str> {
    let at = |at: usize| filter.get(at..at + 2);
    let wrong = |text: &&str| text.as_bytes()[1].is_ascii_alphabetic() && !matches!(*text, "%u" | "%c");
    filter.match_indices('%').filter_map(|(position, _)| at(position)).find(wrong)
}

fn unexpandable(name: &Username, filter: &str) -> Option<String> {
    let named = filter.contains("%u") || filter.contains("${username}");
    (named && !name.expandable()).then(|| {
        format!("the rule says nothing: the name \"{name}\" can't stand for %u, since it holds +, #, / or a control character")
    })
}

/// Warns of a subscription that nothing is delivered for.
fn undelivered(filter: TopicFilter<'_>, rights: Rights, others: &[Other<'_>], target: &Target) -> Option<String> {
    let bare = !rights.deny && rights.access.contains(Access::Subscribe) && !rights.access.contains(Access::Receive);
    let received =
        |other: &Other<'_>| !other.rights.deny && other.rights.access.contains(Access::Receive) && other.filter.overlaps(filter);
    (bare && !others.iter().any(received)).then(|| {
        format!("s lets subscribe, r lets receive: no rule for {target} allows r on \"{filter}\", so nothing may be delivered")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::field;

    #[test]
    fn advice_is_given_where_it_is_due_and_nowhere_else() {
        let alice = Target::User("alice".parse().unwrap());
        let odd = Target::User("a/b".parse().unwrap());
        for (target, filter, rights, others, expected) in [
            (&alice, "chat/#", "prs", &[][..], ""),
            (&alice, "chat/%u/%c/${username}/50%", "p", &[], ""),
            (&alice, "chat/%x", "p", &[], "no placeholder"),
            (&alice, "chat/%é", "p", &[], ""),
            (&alice, "#", "p", &[], "doesn't reach"),
            (&alice, "a/#", "p", &[], ""),
            (&alice, "$share/g/a", "prs", &[], "judged as \"a\""),
            (&odd, "chat/%u", "p", &[], "says nothing"),
            (&odd, "chat/%c", "p", &[], ""),
            (&alice, "chat/#", "s", &[], "lets receive"),
            (&alice, "chat/#", "s", &[("chat/+/x", "r")], ""),
            (&alice, "chat/#", "!s", &[], ""),
            (&alice, "chat/a", "p", &[("chat/#", "!p")], "without effect"),
            (&alice, "chat/#", "!p", &[("chat/a", "p")], "without effect"),
            (&alice, "chat/a", "p", &[("chat/#", "!r")], ""),
            (&alice, "chat/#", "rs", &[("chat/secret", "!s")], "deny r there instead"),
            (&alice, "chat/#", "rs", &[("chat/secret", "!r")], ""),
            (&alice, "chat/#", "p", &[("chat/#", "!p")], ""),
        ] {
            let others: Fields = others.iter().map(|(filter, rights)| field(filter, rights)).collect();
            let advice = on(target, filter, rights.parse().unwrap(), &others);
            assert_eq!(advice.len(), usize::from(!expected.is_empty()), "{filter} {rights}: {advice:?}");
            assert!(advice.iter().all(|text| text.contains(expected)), "{filter} {rights}: {advice:?}");
        }
    }
}
