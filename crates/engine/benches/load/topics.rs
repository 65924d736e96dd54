//! Topic names and filters of a large fleet.
//!
//! Deterministic: number i always gives the same text, of 4 to 6 levels and about 40 bytes.

/// Returns the topic name of device `number`.
pub(crate) fn topic(number: u32) -> String {
    let (org, site, metric) = (number % 50, number / 50 % 400, ["temp", "humidity", "state", "alarm"][number as usize / 7 % 4]);
    match number % 3 {
        0 => format!("org-{org}/site-{site}/device-{number:07}/{metric}"),
        1 => format!("org-{org}/site-{site}/floor-{}/device-{number:07}/{metric}", number % 9),
        _ => format!("v1/org-{org}/site-{site}/floor-{}/device-{number:07}/{metric}", number % 9),
    }
}

/// Returns the filter of device `number`: its topic name, for odd numbers with one level replaced by `+`.
pub(crate) fn filter(number: u32) -> String {
    let topic = topic(number);
    if number.is_multiple_of(2) {
        return topic;
    }
    let mut levels: Vec<&str> = topic.split('/').collect();
    // The device stays, so that filters are as many as subscriptions.
    let device = levels.iter().position(|level| level.starts_with("device")).unwrap_or(0);
    let others: Vec<usize> = (0..levels.len()).filter(|&level| level != device).collect();
    levels[others[number as usize / 2 % others.len()]] = "+";
    levels.join("/")
}
