//! Draws the CPU time of each row as bars.
//!
//! The longest bar of each row is as long as any: rows are not to be compared with one another.

use std::fmt::Write as _;

use super::peers::Peer;
use super::rows;
use super::samples::Results;

const COLOURS: [&str; 10] = ["#bbb", "#06c", "#69d", "#a43", "#c75", "#ea8", "#484", "#7a7", "#a8a", "#caa"];
/// Where bars begin, and how long the longest is.
const BARS: (f64, f64) = (300.0, 340.0);
const LINE: f64 = 16.0;

/// Returns an SVG document.
pub(super) fn draw(results: &Results, peers: &[Peer]) -> String {
    let (mut body, mut y) = (String::new(), 36.0);
    for row in rows::TIMED {
        let cpu = |peer: &Peer| results.get(row.key)?.get(peer.name)?.get("cpu").map(|spread| spread.median);
        let longest = peers.iter().filter_map(cpu).fold(f64::MIN_POSITIVE, f64::max);
        let _ = writeln!(body, "<text x=\"8\" y=\"{y}\" font-weight=\"bold\">{}</text>", row.title);
        for (peer, colour) in peers.iter().zip(COLOURS.iter().cycle()) {
            let Some(value) = cpu(peer) else { continue };
            y += LINE;
            let width = BARS.1 * value / longest;
            let _ = writeln!(body, "<text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{}</text>", BARS.0 - 8.0, peer.name);
            let _ =
                writeln!(body, "<rect x=\"{}\" y=\"{}\" width=\"{width:.1}\" height=\"12\" fill=\"{colour}\"/>", BARS.0, y - 10.0);
            let _ = writeln!(body, "<text x=\"{:.1}\" y=\"{y}\">{value:.2}</text>", BARS.0 + width + 6.0);
        }
        y += 2.0 * LINE;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"720\" height=\"{y}\" fill=\"white\"/>\n<text x=\"8\" y=\"12\">CPU seconds per million</text>\n{body}</svg>\n"
    )
}
