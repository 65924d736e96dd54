//! Compares a run with its goals, and with the kept one.
//!
//! Both compare quotients with a reference of the same run where a figure depends on the machine.

use super::host;
use super::peers::{EVERYTHING, MIDGE};
use super::rows::{self, Goal, MOSQUITTO, Row};
use super::samples::{Results, Samples, Spread};

/// How much more CPU each message may take with everything switched on.
const EVERYTHING_ON: f64 = 1.08;
/// Figures that depend on the machine, and are judged as quotients.
const RELATIVE: [&str; 4] = ["cpu", "rate", "p50", "p99"];
/// Changes that count for nothing even where all rounds agree.
const LEAST_NOISE: f64 = 0.02;

/// What became of one goal.
pub(super) struct Verdict {
    /// The figure and what is asked of it.
    pub(super) goal: String,
    /// How the goal on this machine is found.
    pub(super) formula: String,
    /// What was measured; none where something it takes wasn't.
    pub(super) found: Option<Spread>,
    pub(super) reached: bool,
}

/// Names a quotient among the figures of a broker.
pub(super) fn quotient(figure: &str, reference: &str) -> String {
    format!("{figure} / {reference}")
}

/// Returns the results of all rounds, with Midge's quotients among its figures.
pub(super) fn results(samples: &Samples) -> Results {
    let mut results = samples.results();
    for row in rows::all() {
        let reference = row.reference();
        let mut add = |peer: &str, figure: &str, reference: &str| {
            if let Some(spread) = samples.quotient(row.key, figure, peer, reference) {
                let figures = results.entry(row.key.to_owned()).or_default().entry(peer.to_owned()).or_default();
                figures.insert(quotient(figure, reference), spread);
            }
        };
        RELATIVE.iter().for_each(|figure| add(MIDGE, figure, reference));
        add(EVERYTHING, "cpu", MIDGE);
    }
    results
}

/// Returns what became of the goals of a row.
pub(super) fn verdicts(row: &Row, results: &Results) -> Vec<Verdict> {
    let find = |peer: &str, figure: &str| results.get(row.key)?.get(peer)?.get(figure).copied();
    let mut verdicts: Vec<Verdict> = row.goals.iter().map(|goal| goal.judge(&find)).collect();
    if row.everything {
        let found = find(EVERYTHING, &quotient("cpu", MIDGE));
        verdicts.push(Verdict {
            goal: format!("cpu with everything on at most {EVERYTHING_ON} of Midge's without"),
            formula: "everything on / Midge, in the same round".to_owned(),
            reached: found.is_some_and(|found| found.median <= EVERYTHING_ON),
            found,
        });
    }
    verdicts
}

impl Goal {
    fn judge(&self, find: &dyn Fn(&str, &str) -> Option<Spread>) -> Verdict {
        let Self { figure, value, reference } = self;
        let word = if *figure == "rate" { "at least" } else { "at most" };
        let (goal, formula, found, bound) = match reference {
            None => (format!("{figure} {word} {value}"), "as it stands".to_owned(), find(MIDGE, figure), *value),
            Some((name, there)) => {
                let bound = value / there;
                let here = find(name, figure).map_or(String::new(), |here| format!(" = {:.2} here", here.median * bound));
                (
                    format!("{figure} {word} {value} where {name} has {there}"),
                    format!("{value} / {there} = {bound:.3} of {name}{here}"),
                    find(MIDGE, &quotient(figure, name)),
                    bound,
                )
            }
        };
        let reached = found.is_some_and(|found| if *figure == "rate" { found.median >= bound } else { found.median <= bound });
        Verdict { goal, formula, found, reached }
    }
}

impl Row {
    /// Returns the broker beside which Midge's figures of this row are judged.
    fn reference(&self) -> &'static str {
        self.goals.iter().find_map(|goal| goal.reference).map_or(MOSQUITTO, |(name, _)| name)
    }
}

/// Names the figures of Midge that are worse than before by more than the rounds of either run differ.
pub(super) fn worsened(before: &Results, after: &Results) -> Vec<String> {
    let mut worse = Vec::new();
    for (row, peers) in after {
        for (figure, now) in peers.get(MIDGE).into_iter().flatten() {
            let relative = RELATIVE.iter().any(|name| figure.strip_prefix(name).is_some_and(|rest| rest.starts_with(" / ")));
            if relative || ["bytes", "calls"].contains(&figure.as_str()) {
                let then = before.get(row).and_then(|peers| peers.get(MIDGE)?.get(figure));
                worse.extend(then.and_then(|then| judge(&format!("{row}: {figure}"), then, now, then.median.abs() * LEAST_NOISE)));
            }
        }
    }
    for (load, guards) in after.get(host::KEY).into_iter().flatten() {
        let then = before.get(host::KEY).and_then(|loads| loads.get(load)?.get(host::PLUGIN));
        if let (Some(then), Some(now)) = (then, guards.get(host::PLUGIN)) {
            worse.extend(judge(&format!("plugin in {load}"), then, now, host::LEAST_NOISE));
        }
    }
    worse
}

/// Tells of a figure that became worse by more than noise, which is at least `least`.
fn judge(name: &str, then: &Spread, now: &Spread, least: f64) -> Option<String> {
    let change = if name.contains(": rate") { then.median - now.median } else { now.median - then.median };
    let noise = then.width().max(now.width()).max(least);
    (change > noise).then(|| format!("{name} was {:.3}, is {:.3}, the noise is {noise:.3}", then.median, now.median))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn one(row: &str, peer: &str, figure: &str, values: &[f64]) -> Results {
        let figures = Spread::of(values.to_vec()).map(|spread| BTreeMap::from([(figure.to_owned(), spread)]));
        Results::from([(row.to_owned(), BTreeMap::from([(peer.to_owned(), figures.unwrap_or_default())]))])
    }

    #[test]
    fn only_more_than_the_noise_is_worse() {
        for (figure, before, after, worse) in [
            ("cpu / floor", [9.0, 10.0, 11.0], [11.0, 11.9, 12.0], 0),
            ("cpu / floor", [9.0, 10.0, 11.0], [12.0, 12.5, 13.0], 1),
            ("calls", [10.0, 10.0, 10.0], [10.1, 10.1, 10.1], 0),
            ("bytes", [9.0, 10.0, 11.0], [1.0, 2.0, 3.0], 0),
            ("rate / floor", [9.0, 10.0, 11.0], [12.0, 12.5, 13.0], 0),
            ("rate / floor", [9.0, 10.0, 11.0], [5.0, 6.0, 7.0], 1),
            ("cpu", [1.0, 1.0, 1.0], [9.0, 9.0, 9.0], 0),
        ] {
            let found = worsened(&one("s", MIDGE, figure, &before), &one("s", MIDGE, figure, &after));
            assert_eq!(found.len(), worse, "{figure} {before:?} {after:?}");
        }
        assert_eq!(worsened(&Results::new(), &one("s", MIDGE, "calls", &[1.0])), Vec::<String>::new());
    }

    #[test]
    fn a_goal_grows_with_its_reference() {
        let row = &rows::TIMED[0];
        for (quotients, reached) in [(vec![1.1], Some(true)), (vec![1.2], Some(false)), (vec![], None)] {
            let results = one(row.key, MIDGE, "cpu / floor", &quotients);
            let verdict = &verdicts(row, &results)[0];
            assert_eq!(verdict.found.map(|_| verdict.reached), reached, "{quotients:?}");
        }
    }
}
