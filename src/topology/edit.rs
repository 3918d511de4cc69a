//! A topology file with the roles of two nodes swapped, and everything else byte for byte as it was.
//!
//! What `pgpair switchover` writes. Each `role:` is changed where it stands; where a node has its role from
//! `node_defaults`, it gets a key of its own, in the style of the map that it comes into.

use std::ops::Range;

use crate::topology::NodeName;
use crate::topology::Role;
use crate::topology::Topology;
use crate::topology::diagnostic::Diagnostic;
use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::Span;
use crate::topology::parse;
use crate::topology::spans;
use crate::topology::spans::Entry;
use crate::topology::spans::Value;
use crate::topology::spans::Yaml;

/// The file with the roles swapped.
#[derive(Clone, Debug, PartialEq)]
pub struct Edited {
    pub text: String,
    /// What the text says.
    pub topology: Topology,
}

/// Why the roles could not be swapped in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditError {
    /// With these roles the file is not valid: what is wrong with the text.
    Invalid { text: String, diagnostics: Vec<Diagnostic> },
    /// A role stands in a place that is not known how to edit.
    ByHand,
}

/// Returns the file with `to` in the primary's role, and the primary that it names as a standby.
///
/// `topology` is what the file says. What the primary's `upstream` and `clone_from` say counts again once it is a
/// standby.
///
/// # Errors
///
/// [`EditError`], where the result would not be a topology that differs by the two roles alone.
pub fn with_primary(
    source: &[u8],
    file: &str,
    base_dir: &str,
    topology: &Topology,
    to: &NodeName,
) -> Result<Edited, EditError> {
    let from = &topology.primary().name;
    let text = std::str::from_utf8(source).map_err(|_| EditError::ByHand)?;
    let yaml = spans::read(source, &mut Report::on(file)).ok_or(EditError::ByHand)?;
    let nodes = yaml.get("nodes").ok_or(EditError::ByHand)?;
    let mut edits = Vec::new();
    for (node, role) in [(from, Role::Standby), (to, Role::Primary)] {
        let yaml = nodes.get(node.as_str()).ok_or(EditError::ByHand)?;
        edits.push(edit(text, yaml, role).ok_or(EditError::ByHand)?);
    }
    // From the end on, so that places before an edit stay right.
    edits.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
    let mut edited = text.to_owned();
    for (place, new) in edits {
        edited.replace_range(place, &new);
    }
    let read = match parse(edited.as_bytes(), file, base_dir) {
        Ok(topology) => topology,
        Err(diagnostics) => return Err(EditError::Invalid { text: edited, diagnostics }),
    };
    let mut wanted = topology.with_primary(to);
    wanted.nodes[from].upstream = topology.nodes[from].upstream.clone();
    if read == wanted { Ok(Edited { text: edited, topology: read }) } else { Err(EditError::ByHand) }
}

/// Returns what is replaced in the text, and by what, so that the node has this role.
fn edit(text: &str, node: &Yaml, role: Role) -> Option<(Range<usize>, String)> {
    match node.get("role") {
        Some(old) => Some((range(old.span), in_quotes_of(&text[range(old.span)], role.to_string()))),
        None => add(text, node, role),
    }
}

/// Gives a node that has none a role: before its first key, in that key's style.
fn add(text: &str, node: &Yaml, role: Role) -> Option<(Range<usize>, String)> {
    let Value::Map(entries) = &node.value else { return None };
    let in_braces = text[range(node.span)].starts_with('{');
    let Some(Entry { key_span, .. }) = entries.first() else {
        let inside = node.span.offset + 1;
        return in_braces.then(|| (inside..inside, format!("role: {role}")));
    };
    let like_first = |word: String| in_quotes_of(&text[range(*key_span)], word);
    let pair = format!("{}: {}", like_first("role".to_owned()), like_first(role.to_string()));
    let separator = if in_braces {
        ", ".to_owned()
    } else {
        let line_break = if has_crlf(text) { "\r\n" } else { "\n" };
        format!("{line_break}{}", " ".repeat(key_span.column - 1))
    };
    Some((key_span.offset..key_span.offset, pair + &separator))
}

fn has_crlf(text: &str) -> bool {
    text.find('\n').is_some_and(|at| text[..at].ends_with('\r'))
}

/// Writes a word as another scalar is written: plain, or in its quotes.
fn in_quotes_of(scalar: &str, word: String) -> String {
    match scalar.chars().next() {
        Some(quote @ ('\'' | '"')) => format!("{quote}{word}{quote}"),
        Some(_) | None => word,
    }
}

fn range(span: Span) -> Range<usize> {
    span.offset..span.offset + span.len
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str =
        "version: 1\ncluster: orders\npostgresql: { version: 15 }\nreplication: { user: r, auth: trust }\n";

    fn try_swap(rest: &str, to: &str) -> Result<String, EditError> {
        let source = format!("{HEAD}{rest}");
        let topology = parse(source.as_bytes(), "t.yaml", "/pg").unwrap_or_else(|wrong| panic!("{wrong:?}"));
        let edited = with_primary(source.as_bytes(), "t.yaml", "/pg", &topology, &NodeName::new(to))?;
        Ok(edited.text.strip_prefix(HEAD).expect("the head is as it was").to_owned())
    }

    fn swap(rest: &str) -> String {
        try_swap(rest, "b").unwrap_or_else(|wrong| panic!("{wrong:?}"))
    }

    #[test]
    fn roles_are_swapped_where_they_stand_and_comments_stay() {
        let block = "nodes: # two\n  a:\n    # was b's until May\n    role:   primary   # the writer\n    port: 1\n\
                     \x20   data_dir: a\n  b:\n    port: 2\n    data_dir: b\n    role: standby\n";
        let swapped = block.replace("role:   primary ", "role:   standby ").replace("role: standby", "role: primary");
        assert_eq!(swap(block), swapped);
        let flow = "nodes: {a: {role: primary, port: 1, data_dir: a},b: { port: 2,role: standby , data_dir: b }}\n";
        assert_eq!(
            swap(flow),
            "nodes: {a: {role: standby, port: 1, data_dir: a},b: { port: 2,role: primary , data_dir: b }}\n"
        );
    }

    #[test]
    fn quotes_stay_as_they_are() {
        let quoted = "nodes:\n  a: { role: 'primary', port: 1, data_dir: a }\n  b: { \"role\": \"stand\\x62y\", port: 2, data_dir: b }\n";
        assert_eq!(
            swap(quoted),
            "nodes:\n  a: { role: 'standby', port: 1, data_dir: a }\n  b: { \"role\": \"primary\", port: 2, data_dir: b }\n"
        );
    }

    #[test]
    fn a_role_from_node_defaults_becomes_a_key_of_the_node() {
        let defaults = "node_defaults: { role: standby, port: 1 }\nnodes:\n  a: { role: primary, data_dir: a }\n";
        let added = |b: &str| swap(&format!("{defaults}{b}")).split_once("data_dir: a }\n").expect("a").1.to_owned();
        assert_eq!(added("  b: { port: 2, data_dir: b }\n"), "  b: { role: primary, port: 2, data_dir: b }\n");
        assert_eq!(added("  b: {port: 2, data_dir: b}\n"), "  b: {role: primary, port: 2, data_dir: b}\n");
        assert_eq!(
            added("  b: {\"port\": 2, \"data_dir\": \"b\"}\n"),
            "  b: {\"role\": \"primary\", \"port\": 2, \"data_dir\": \"b\"}\n"
        );
        assert_eq!(
            added("  b:\n    # its own\n    port: 2\n    data_dir: b\n"),
            "  b:\n    # its own\n    role: primary\n    port: 2\n    data_dir: b\n"
        );
        assert_eq!(
            added("  b: {\n    port: 2, # its own\n    data_dir: b }\n"),
            "  b: {\n    role: primary, port: 2, # its own\n    data_dir: b }\n"
        );
    }

    #[test]
    fn a_primary_by_default_and_without_a_key_of_its_own_becomes_a_standby() {
        let text = "node_defaults: { role: primary, port: 1, data_dir: d }\nnodes:\n  a: {}\n  b: { role: standby, port: 2, data_dir: b }\n";
        let swapped = "node_defaults: { role: primary, port: 1, data_dir: d }\nnodes:\n  a: {role: standby}\n  b: { role: primary, port: 2, data_dir: b }\n";
        assert_eq!(swap(text), swapped);
    }

    #[test]
    fn line_breaks_of_another_system_are_kept() {
        let head = HEAD.replace('\n', "\r\n");
        let rest = "node_defaults: { role: standby }\r\nnodes:\r\n  a: { role: primary, port: 1, data_dir: a }\r\n  b:\r\n    port: 2\r\n    data_dir: b\r\n";
        let source = format!("\u{feff}{head}{rest}");
        let topology = parse(source.as_bytes(), "t.yaml", "/pg").expect("valid");
        let edited = with_primary(source.as_bytes(), "t.yaml", "/pg", &topology, &NodeName::new("b")).expect("edited");
        assert!(edited.text.ends_with("  b:\r\n    role: primary\r\n    port: 2\r\n    data_dir: b\r\n"));
        assert!(edited.text.starts_with("\u{feff}version: 1\r\n"));
    }

    #[test]
    fn what_would_not_be_valid_is_told_and_not_written() {
        let text = "nodes:\n  a: { role: primary, port: 1, data_dir: a, upstream: b }\n  b: { role: standby, port: 2, data_dir: b, upstream: a }\n  c: { role: standby, port: 3, data_dir: c }\n";
        let Err(EditError::Invalid { diagnostics, .. }) = try_swap(text, "c") else { panic!("a follows b follows a") };
        assert!(diagnostics[0].message.contains("upstream"), "{diagnostics:?}");
        assert!(try_swap(text, "b").is_ok());
    }

    /// A topology as somebody may have written it, which node is the primary, and whether each has a `role:` of its own.
    fn topologies() -> impl Strategy<Value = (String, usize, bool)> {
        let node = (0..6_usize, prop_oneof![Just(""), Just("  # note")]);
        (proptest::collection::vec(node, 2..5), any::<prop::sample::Index>(), any::<bool>()).prop_map(
            |(nodes, primary, by_default)| {
                let primary = primary.index(nodes.len());
                let mut text = "# é\nnode_defaults: { role: standby, os_user: postgres }\nnodes:\n".to_owned();
                for (index, (style, note)) in nodes.iter().enumerate() {
                    let (name, port) = (char::from(b'a' + u8::try_from(index).expect("few")), 5000 + index);
                    let is_primary = index == primary;
                    let role = if is_primary { "primary" } else { "standby" };
                    let given = is_primary || !by_default;
                    let role_is = |text: String| if given { text } else { String::new() };
                    text.push_str(&match style {
                        0 => format!(
                            "  {name}:{note}\n{}    port: {port}\n    data_dir: /pg/{name}\n",
                            role_is(format!("    role: {role}{note}\n"))
                        ),
                        1 => format!(
                            "  {name}: {{ {}port: {port}, data_dir: {name} }}{note}\n",
                            role_is(format!("role: {role}, "))
                        ),
                        2 => format!(
                            "  {name}: {{port: {port},data_dir: {name}{}}}\n",
                            role_is(format!(",role: '{role}'"))
                        ),
                        3 => format!(
                            "  \"{name}\":\n      \"port\": {port}\n      data_dir: '{name}'\n{}\n",
                            role_is(format!("      \"role\": \"{role}\"{note}\n"))
                        ),
                        4 => format!(
                            "  {name}: {{\n    port: {port},{note}\n    data_dir: \"{name}\"{}\n  }}\n",
                            role_is(format!(",\n    role: {role}{note}"))
                        ),
                        _ => format!(
                            "  {name}:\n   data_dir: {name}\n{}   port: {port}{note}\n",
                            role_is(format!("   role:\n     {role}{note}\n"))
                        ),
                    });
                }
                (text, primary, !by_default)
            },
        )
    }

    proptest! {
        #[test]
        fn only_the_roles_change_and_going_back_restores_them((rest, primary, all_given) in topologies()) {
            let source = format!("{HEAD}{rest}");
            let topology = parse(source.as_bytes(), "t.yaml", "/pg").expect("valid");
            prop_assert_eq!(topology.nodes.get_index_of(&topology.primary().name), Some(primary));
            let from = &topology.primary().name;
            for to in topology.standbys() {
                let there = with_primary(source.as_bytes(), "t.yaml", "/pg", &topology, &to.name).expect("edited");
                prop_assert_eq!(&there.topology, &topology.with_primary(&to.name));
                let back = with_primary(there.text.as_bytes(), "t.yaml", "/pg", &there.topology, from).expect("edited");
                prop_assert_eq!(&back.topology, &topology);
                if all_given {
                    let without_roles = |text: &str| text.replace("primary", "-").replace("standby", "-");
                    prop_assert_eq!(without_roles(&there.text), without_roles(&source));
                    prop_assert_eq!(&back.text, &source);
                } else {
                    let kept = source.lines().filter(|line| there.text.lines().any(|other| other == *line));
                    prop_assert!(kept.count() >= source.lines().count() - 2);
                }
            }
        }
    }
}
