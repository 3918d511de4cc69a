//! Tables that become a list of cards where the page is narrow, and what was seen of the nodes as such a table.

use maud::Markup;
use maud::html;

use crate::report::NodeReport;
use crate::report::words;

/// A table whose rows go by their first cell. `numbers`: the columns that stand at the right.
pub(super) fn table(head: &[&str], numbers: &[usize], rows: &[Vec<Markup>]) -> Markup {
    let class = |column: usize| numbers.contains(&column).then_some("number");
    html! {
        table {
            thead {
                tr {
                    @for (column, name) in head.iter().enumerate() {
                        th scope="col" class=[class(column)] { (name) }
                    }
                }
            }
            tbody {
                @for row in rows {
                    tr {
                        @for (column, (name, cell)) in head.iter().zip(row).enumerate() {
                            @if column == 0 {
                                th scope="row" { (cell) }
                            } @else {
                                td data-label=(name) class=[class(column)] { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Each node with its place and what was seen of it.
pub(super) fn nodes(nodes: &[NodeReport]) -> Markup {
    let row = |node: &NodeReport| {
        vec![
            html! { code { (node.node.as_str()) } },
            html! { (node.role) },
            html! { (words::seen(node)) },
            html! { code { (node.host) ":" (node.port) } },
            html! { code { (node.data_dir) } },
        ]
    };
    let rows: Vec<Vec<Markup>> = nodes.iter().map(row).collect();
    table(&["node", "role", "seen", "at", "data directory"], &[], &rows)
}

/// What there may be none of.
pub(super) fn or_dash(value: Option<impl ToString>) -> Markup {
    html! {
        @match value {
            Some(value) => (value.to_string()),
            None => span.none { "–" },
        }
    }
}
