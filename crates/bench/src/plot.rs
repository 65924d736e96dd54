//! Latencies by percentile, as SVG.
//!
//! The axis of percentiles gives each further nine the same width, that of latencies each factor of ten the same height.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::recorder::Recorder;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 350.0;
/// 50 %, then ever one nine more, to 99.999 %.
const TICKS: [(f64, &str); 6] =
    [(0.0, "0 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"), (0.9999, "99.99 %"), (0.99999, "99.999 %")];
/// Points of a line.
const POINTS: u32 = 200;

/// Returns a picture of both distributions of a recorder.
pub(crate) fn percentiles(title: &str, recorder: &Recorder) -> String {
    let (due, sent) = (recorder.corrected(), recorder.uncorrected());
    let (low, high) = decades(&[due, sent]);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"24\" font-size=\"14\">{}</text>\n",
        escaped(title)
    );
    for decade in low..=high {
        let at = y(f64::from(decade), low, high);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#ddd\"/>");
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", LEFT - 6.0, at + 4.0, unit(decade));
    }
    for (quantile, name) in TICKS {
        let at = x(quantile);
        let _ = writeln!(svg, "<path d=\"M{at:.1} {TOP}V{BOTTOM}\" stroke=\"#ddd\"/>");
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>", BOTTOM + 18.0);
    }
    let lines = [(sent, "#999", "from where it was sent"), (due, "#06c", "from where it was due")];
    for (row, (histogram, colour, name)) in lines.into_iter().enumerate() {
        let _ = writeln!(svg, "<path d=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", line(histogram, low, high));
        let at = f64::from(u32::try_from(row).unwrap_or(0)) * 200.0 + LEFT;
        let _ = writeln!(svg, "<text x=\"{at}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>", HEIGHT - 8.0);
    }
    svg.push_str("</svg>\n");
    svg
}

fn line(histogram: &Histogram<u64>, low: i32, high: i32) -> String {
    let mut path = String::new();
    if histogram.is_empty() {
        return path;
    }
    for point in 0..=POINTS {
        let nines = f64::from(point) / f64::from(POINTS) * 5.0;
        let quantile = 1.0 - 10_f64.powf(-nines);
        #[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
        let value = (histogram.value_at_quantile(quantile).max(1) as f64).log10();
        let _ = write!(path, "{}{:.1} {:.1}", if point == 0 { 'M' } else { 'L' }, x(quantile), y(value, low, high));
    }
    path
}

fn x(quantile: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * -(1.0 - quantile).log10() / 5.0
}

fn y(decade: f64, low: i32, high: i32) -> f64 {
    BOTTOM - (BOTTOM - TOP) * (decade - f64::from(low)) / f64::from(high - low)
}

/// Returns the powers of ten, in nanoseconds, between which all values are.
fn decades(histograms: &[&Histogram<u64>]) -> (i32, i32) {
    let power = |value: u64| i32::try_from(value.max(1).ilog10()).unwrap_or(0);
    let full = || histograms.iter().filter(|histogram| !histogram.is_empty());
    let low = full().map(|histogram| power(histogram.min())).min().unwrap_or(3);
    let high = full().map(|histogram| power(histogram.max()) + 1).max().unwrap_or(6);
    (low, high)
}

fn unit(decade: i32) -> String {
    let units = ["ns", "us", "ms", "s"];
    let place = usize::try_from(decade / 3).unwrap_or(0).min(units.len() - 1);
    let rest = u32::try_from(decade).unwrap_or(0) - 3 * u32::try_from(place).unwrap_or(0);
    format!("{} {}", 10_u64.pow(rest), units[place])
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_anything() {
        let mut recorder = Recorder::default();
        assert!(percentiles("nothing", &recorder).ends_with("</svg>\n"));
        for value in [1, 1_000, 1_000_000_000, 3_000_000_000_000] {
            recorder.record(0, 0, value);
        }
        let svg = percentiles("a < b", &recorder);
        assert!(svg.contains("a &lt; b") && svg.contains("100 ms") && svg.contains("1000 s") && !svg.contains("NaN"));
    }
}
