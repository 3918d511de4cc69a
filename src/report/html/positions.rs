//! How far each node is in the WAL, against the one that is furthest.
//!
//! The scale is at least one segment: a standby that is some hundred bytes behind is not to look as one that is lost.

use maud::Markup;
use maud::html;

use crate::pg::lsn::Lsn;
use crate::report::NodeReport;

/// The usual size of a segment of WAL.
const SEGMENT: u64 = 16 << 20;

/// How much longer than the greatest distance the scale is.
const MARGIN: f64 = 1.1;

const ROW: usize = 44;

/// Draws a bar for every node that has a position; what a standby has received and not replayed is the paler end of it.
pub(super) fn positions(nodes: &[NodeReport]) -> Markup {
    let placed: Vec<(&NodeReport, Lsn)> = nodes.iter().filter_map(|node| node.lsn.map(|lsn| (node, lsn))).collect();
    let furthest = placed.iter().map(|(_, lsn)| *lsn).max().unwrap_or_default();
    let least = placed.iter().map(|(node, lsn)| node.replayed.map_or(*lsn, |replayed| replayed.min(*lsn))).min();
    let distance = furthest.0 - least.unwrap_or(furthest).0;
    let scale = (distance as f64 * MARGIN).max(SEGMENT as f64);
    let length = |lsn: Lsn| 100.0 * (1.0 - (furthest.0.saturating_sub(lsn.0)) as f64 / scale);
    if placed.is_empty() {
        return html! {};
    }
    html! {
        figure.positions {
            figcaption { "positions in the WAL; the scale is " (bytes(scale as u64)) }
            svg width="100%" height=(ROW * placed.len()) role="img" aria-label="positions in the WAL, as in the table below" {
                @for (row, (node, lsn)) in placed.iter().enumerate() {
                    @let y = row * ROW;
                    @let replayed = node.replayed.unwrap_or(*lsn);
                    text.name x="0" y=(y + 14) {
                        (node.node.as_str()) " "
                        tspan.says dx="8" { (says(node, *lsn)) }
                    }
                    rect.track x="0" y=(y + 21) width="100%" height="12" rx="3" {}
                    rect.received x="0" y=(y + 21) width=(percent(length(*lsn))) height="12" rx="3" {}
                    rect.replayed x="0" y=(y + 21) width=(percent(length(replayed))) height="12" rx="3" {}
                }
            }
        }
    }
}

fn says(node: &NodeReport, lsn: Lsn) -> String {
    let timeline = node.timeline.map_or_else(String::new, |timeline| format!(" on timeline {timeline}"));
    let lag = node.lag_bytes.map_or_else(String::new, |lag| format!(", {} behind", bytes(lag)));
    format!("{lsn}{timeline}{lag}")
}

/// A percentage as an attribute has it: too fine a fraction is noise.
pub(super) fn percent(percent: f64) -> String {
    format!("{:.2}%", percent.clamp(0.0, 100.0))
}

/// A number of bytes in the unit that people would take.
fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::nodes;
    use crate::report::samples::healthy;
    use crate::report::samples::name;
    use crate::report::samples::pair;

    fn drawn(behind: u64) -> String {
        let mut world = healthy(&pair());
        let primary = world.node_mut(&name("a")).sql_mut().expect("it runs");
        primary.lsn = Lsn(0x300_0148 + behind);
        positions(&nodes(&pair(), &world)).into_string()
    }

    #[test]
    fn a_standby_a_few_bytes_behind_is_drawn_as_one_that_is_there() {
        let picture = drawn(0);
        assert!(picture.contains("the scale is 16.0 MB"), "{picture}");
        assert_eq!(picture.matches("width=\"100.00%\"").count(), 4, "received and replayed, of both: {picture}");
    }

    #[test]
    fn a_standby_far_behind_is_drawn_on_a_scale_that_has_room_for_it() {
        let picture = drawn(100 << 20);
        assert!(picture.contains("the scale is 110.0 MB") && picture.contains("100.0 MB behind"), "{picture}");
        assert_eq!(picture.matches("width=\"9.09%\"").count(), 2, "{picture}");
    }
}
