//! Who feeds whom, drawn as a tree: the primary, below it its standbys, below each of them its own.

use maud::Markup;
use maud::html;

use crate::report::NodeReport;
use crate::report::roles;
use crate::report::roles::Place;
use crate::report::words::count;
use crate::topology::Role;

/// The picture is as wide as a phone, and does not shrink: its letters stay as large as the others.
const WIDTH: usize = 320;
const BOX: usize = 46;
const ROW: usize = 60;
/// How far a standby stands in from its upstream, and all of them together.
const INDENT: usize = 28;
const MOST_INDENT: usize = 140;
/// The width of a letter of a name, roughly.
const LETTER: usize = 9;

/// A node at its place in the tree.
struct Leaf {
    index: usize,
    depth: usize,
    /// The row of whom it streams from.
    parent: Option<usize>,
}

/// Draws the nodes as they were seen, with their lag.
pub(super) fn now(nodes: &[NodeReport], caption: &str) -> Markup {
    drawn(&roles::now(nodes), caption, &|name| {
        let node = nodes.iter().find(|node| node.node.as_str() == name)?;
        let timeline = node.timeline.map(|timeline| format!("timeline {timeline}"));
        let lag =
            node.lag_bytes.map(|lag| format!("{} behind", count(usize::try_from(lag).unwrap_or(usize::MAX), "byte")));
        let parts: Vec<String> = timeline.into_iter().chain(lag).collect();
        Some(parts.join(", "))
    })
}

/// Draws places; `says` is the second line of a node.
pub(super) fn drawn(places: &[Place<'_>], caption: &str, says: &dyn Fn(&str) -> Option<String>) -> Markup {
    let tree = tree(places);
    let deepest = tree.iter().map(|leaf| leaf.depth).max().unwrap_or(0);
    let indent = INDENT.min(MOST_INDENT / deepest.max(1));
    let height = ROW * tree.len() - (ROW - BOX) + 2;
    html! {
        figure.picture {
            figcaption { (caption) }
            svg width=(WIDTH) height=(height) viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(told(places, caption)) {
                @for (row, leaf) in tree.iter().enumerate() {
                    @if let Some(parent) = leaf.parent { (arrow(&tree[parent], parent, leaf, row, indent)) }
                }
                @for (row, leaf) in tree.iter().enumerate() {
                    (node(&places[leaf.index], leaf.depth * indent, row * ROW + 1, says))
                }
            }
        }
    }
}

fn node(place: &Place<'_>, x: usize, y: usize, says: &dyn Fn(&str) -> Option<String>) -> Markup {
    let class = if place.says == Role::Primary.to_string() {
        "node primary"
    } else if place.says == Role::Standby.to_string() {
        "node standby"
    } else {
        "node off"
    };
    let width = WIDTH - x - 1;
    let room = (width - 20).saturating_sub(LETTER * (place.says.chars().count() + 1)) / LETTER;
    let says = says(place.name).filter(|says| !says.is_empty());
    let first_line = if says.is_some() { y + 20 } else { y + 28 };
    html! {
        g class=(class) {
            title { (place.name) ": " (place.says) }
            rect x=(x + 1) y=(y) width=(width - 1) height=(BOX) rx="6" {}
            text.name x=(x + 11) y=(first_line) { (shortened(place.name, room)) }
            text.role x=(WIDTH - 11) y=(first_line) text-anchor="end" { (place.says) }
            @if let Some(says) = says { text.says x=(x + 11) y=(y + 38) { (says) } }
        }
    }
}

/// From the box of an upstream down, and to the right into the standby's.
fn arrow(from: &Leaf, from_row: usize, to: &Leaf, to_row: usize, indent: usize) -> Markup {
    let (x, y) = (from.depth * indent + 1 + indent / 2, from_row * ROW + 1 + BOX);
    let (end, middle) = (to.depth * indent + 1, to_row * ROW + 1 + BOX / 2);
    html! {
        path.arrow d=(format!("M{x} {y}V{middle}H{}", end - 4)) {}
        path.head d=(format!("M{end} {middle}l-7 -4v8z")) {}
    }
}

/// The nodes in the order of the tree. One that is fed in a circle, or by nobody that is drawn, begins one.
fn tree(places: &[Place<'_>]) -> Vec<Leaf> {
    let is_known = |from: &str| places.iter().any(|place| place.name == from);
    let is_root = |place: &Place<'_>| !place.from.is_some_and(is_known);
    let mut leaves: Vec<Leaf> = Vec::new();
    let roots = places.iter().enumerate().filter(|(_, place)| is_root(place)).map(|(index, _)| index);
    for root in roots.chain(0..places.len()) {
        branch(places, root, 0, None, &mut leaves);
    }
    leaves
}

fn branch(places: &[Place<'_>], index: usize, depth: usize, parent: Option<usize>, leaves: &mut Vec<Leaf>) {
    if leaves.iter().any(|leaf| leaf.index == index) {
        return;
    }
    let row = leaves.len();
    leaves.push(Leaf { index, depth, parent });
    let below = places.iter().enumerate().filter(|(_, place)| place.from == Some(places[index].name));
    for (standby, _) in below {
        branch(places, standby, depth + 1, Some(row), leaves);
    }
}

/// The picture in words, for who does not see it.
fn told(places: &[Place<'_>], caption: &str) -> String {
    let told = places.iter().map(|place| match place.from {
        Some(from) => format!("{} is {}, from {from}", place.name, place.says),
        None => format!("{} is {}", place.name, place.says),
    });
    format!("{caption}: {}", told.collect::<Vec<_>>().join("; "))
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(edges: &[(&'static str, Option<&'static str>)]) -> String {
        let place =
            |(name, from): &(&'static str, Option<&'static str>)| Place { name, says: String::new(), from: *from };
        let places: Vec<Place<'_>> = edges.iter().map(place).collect();
        let row = |leaf: &Leaf| format!("{}{}", ".".repeat(leaf.depth), places[leaf.index].name);
        tree(&places).iter().map(row).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_node_stands_below_its_upstream_and_once() {
        assert_eq!(rows(&[("c", Some("b")), ("a", None), ("b", Some("a")), ("d", Some("a"))]), "a .b ..c .d");
        assert_eq!(
            rows(&[("a", Some("b")), ("b", Some("a")), ("c", Some("gone"))]),
            "c a .b",
            "a circle, and a stranger"
        );
    }
}
