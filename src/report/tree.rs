//! Who follows whom, drawn as a tree: the primary, below it its standbys, below each of them its own.

use crate::report::NodeReport;
use crate::topology::NodeName;

/// Returns the nodes in the order of the tree, each with its name behind its branch.
///
/// A plain pair needs no drawing: where no standby feeds another, the nodes stay in the order of the topology.
#[must_use]
pub fn drawn(nodes: &[NodeReport]) -> Vec<(&NodeReport, String)> {
    let is_root = |node: &&NodeReport| node.upstream.is_none();
    let roots: Vec<&NodeReport> = nodes.iter().filter(is_root).collect();
    let feeds_on_a_standby = |node: &NodeReport| {
        node.upstream.as_ref().is_some_and(|upstream| !roots.iter().any(|root| root.node == *upstream))
    };
    if !nodes.iter().any(feeds_on_a_standby) {
        return nodes.iter().map(|node| (node, node.node.to_string())).collect();
    }
    let mut lines = Vec::new();
    for root in roots {
        lines.push((root, root.node.to_string()));
        branches(nodes, &root.node, "", &mut lines);
    }
    lines
}

fn branches<'a>(nodes: &'a [NodeReport], upstream: &NodeName, indent: &str, lines: &mut Vec<(&'a NodeReport, String)>) {
    let below: Vec<&NodeReport> = nodes.iter().filter(|node| node.upstream.as_ref() == Some(upstream)).collect();
    for (index, node) in below.iter().enumerate() {
        let (branch, further) = if index + 1 == below.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push((node, format!("{indent}{branch}{}", node.node)));
        branches(nodes, &node.node, &format!("{indent}{further}"), lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::nodes;
    use crate::report::samples::nothing;
    use crate::topology;

    fn tree(nodes_yaml: &str) -> String {
        let yaml = format!(
            "version: 1\ncluster: orders\npostgresql: {{ version: 15 }}\nreplication: {{ user: rep, auth: trust }}\nnodes:\n{nodes_yaml}"
        );
        let topology = topology::parse(yaml.as_bytes(), "t.yaml", "/").expect("a good topology");
        let reports = nodes(&topology, &nothing(&topology));
        drawn(&reports).into_iter().map(|(_, name)| name).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_cascade_is_drawn_below_its_upstream() {
        let nodes = "  a: { role: primary, port: 1, data_dir: /a }\n  b: { role: standby, port: 2, data_dir: /b }\n  \
                     c: { role: standby, port: 3, data_dir: /c, upstream: b }\n  d: { role: standby, port: 4, data_dir: /d }\n  \
                     e: { role: standby, port: 5, data_dir: /e, upstream: c }\n";
        assert_eq!(tree(nodes), "a\n├─ b\n│  └─ c\n│     └─ e\n└─ d");
    }

    #[test]
    fn a_pair_needs_no_drawing() {
        let nodes = "  b: { role: standby, port: 2, data_dir: /b }\n  a: { role: primary, port: 1, data_dir: /a }\n";
        assert_eq!(tree(nodes), "b\na");
    }
}
