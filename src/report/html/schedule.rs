//! What ran when, drawn: a lane for each node, its steps as bars by their numbers, and the time without writes across.
//!
//! Places are percentages, so that the drawing is as wide as the page and its letters stay as large as the others.

use maud::Markup;
use maud::html;

use crate::report::html::positions::percent;
use crate::report::log::Applied;
use crate::report::log::Done;
use crate::report::log::End;
use crate::report::log::NoWrites;
use crate::report::words::seconds;
use crate::topology::NodeName;

const LANE: usize = 50;
const BAR: usize = 22;
const AXIS: usize = 24;
/// Room above the lanes to say what the time without writes is.
const TOP: usize = 20;
/// What is shorter is drawn as long as that, to be seen.
const LEAST: f64 = 0.4;
/// A bar that is narrower has no room for its number.
const NUMBERED: f64 = 4.5;

/// Draws the steps of an apply; nothing where none took any time.
pub(super) fn schedule(apply: &Applied) -> Markup {
    let mut lanes: Vec<&NodeName> = Vec::new();
    for node in apply.steps.iter().filter_map(|step| step.node.as_ref()) {
        if !lanes.contains(&node) {
            lanes.push(node);
        }
    }
    if lanes.is_empty() || apply.seconds <= 0.0 {
        return html! {};
    }
    let place = |at: f64| 100.0 * at / apply.seconds;
    let top = if apply.no_writes.is_empty() { 0 } else { TOP };
    let height = top + LANE * lanes.len() + AXIS;
    html! {
        figure.schedule {
            figcaption { "What ran when; the numbers are those of the steps below" }
            svg width="100%" height=(height) role="img" aria-label="what ran when, as in the list below" {
                @for tick in ticks(apply.seconds) {
                    line.tick x1=(percent(place(tick))) x2=(percent(place(tick))) y1=(top) y2=(height - AXIS) {}
                    text.axis x=(percent(place(tick))) y=(height - 7) text-anchor=(anchor(place(tick))) { (seconds(tick)) }
                }
                @for span in &apply.no_writes {
                    @let (from, to) = (place(span.from), place(span.to));
                    rect class=(if span.from_before { "outage open" } else { "outage" })
                        x=(percent(from)) y=(top) width=(percent((to - from).max(LEAST))) height=(height - top - AXIS) {}
                    text.lost x=(percent((from + to) / 2.0)) y="14" text-anchor=(anchor((from + to) / 2.0)) { "no writes" }
                }
                @for (lane, name) in lanes.iter().enumerate() {
                    @let y = top + lane * LANE;
                    text.name x="0" y=(y + 15) { (name.as_str()) }
                    line.lane x1="0" x2="100%" y1=(y + LANE) y2=(y + LANE) {}
                    @for (index, step) in apply.steps.iter().enumerate() {
                        @if step.node.as_ref() == Some(*name) && step.outcome != End::Skipped {
                            (bar(index + 1, step, y + LANE - BAR - 5, &place))
                        }
                    }
                }
            }
        }
    }
}

fn bar(number: usize, step: &Done, y: usize, place: &dyn Fn(f64) -> f64) -> Markup {
    let from = place(step.from).min(100.0 - LEAST);
    let width = (place(step.to) - place(step.from)).max(LEAST);
    let class = match step.outcome {
        End::Done | End::Skipped => "bar",
        End::Failed => "bar failed",
        End::Unfinished => "bar unfinished",
    };
    html! {
        g class=(class) {
            title {
                (number) ". " (step.title.as_ref().unwrap_or(&step.id)) ", " (seconds(step.to - step.from)) ", " (step.outcome.words())
            }
            rect x=(percent(from)) y=(y) width=(percent(width)) height=(BAR) rx="3" {}
            @if width >= NUMBERED {
                text x=(percent(from + width / 2.0)) y=(y + 16) text-anchor="middle" { (number) }
            }
        }
    }
}

/// Draws the parts of a time without writes, one after the other, each as long as it was.
pub(super) fn parts(span: &NoWrites) -> Markup {
    let whole: f64 = span.parts.iter().map(|part| part.elapsed.as_secs_f64()).sum();
    if whole <= 0.0 {
        return html! {};
    }
    let mut from = 0.0;
    let placed: Vec<(usize, f64, f64)> = span
        .parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let width = 100.0 * part.elapsed.as_secs_f64() / whole;
            from += width;
            (index, from - width, width)
        })
        .collect();
    html! {
        svg.parts width="100%" height=(BAR) role="img" aria-label="the parts of the time without writes" {
            @for (index, from, width) in &placed {
                rect.(format!("part{}", index % 3)) x=(percent(*from)) y="0" width=(percent(*width)) height=(BAR) {}
            }
        }
        ul.legend {
            @for (index, part) in span.parts.iter().enumerate() {
                li {
                    svg width="12" height="12" aria-hidden="true" { rect.(format!("part{}", index % 3)) width="12" height="12" {} }
                    " " (part.what) " in " (seconds(part.elapsed.as_secs_f64()))
                }
            }
        }
    }
}

/// Round times, four to eight of them.
fn ticks(whole: f64) -> Vec<f64> {
    let rough = whole / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [5.0, 2.0, 1.0].iter().map(|round| round * power).find(|step| *step <= rough).unwrap_or(power);
    (0..).map(|number| f64::from(number) * step).take_while(|tick| *tick <= whole).collect()
}

/// So that the first and the last do not stand over the edge.
fn anchor(percent: f64) -> &'static str {
    if percent < 8.0 {
        "start"
    } else if percent > 90.0 {
        "end"
    } else {
        "middle"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_has_a_few_round_times_whatever_its_length() {
        assert_eq!(ticks(3.3), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(ticks(100.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        for whole in [0.001, 0.07, 1.0, 9.9, 250.0, 86_400.0] {
            assert!((4..=11).contains(&ticks(whole).len()), "{whole}: {:?}", ticks(whole));
        }
    }
}
