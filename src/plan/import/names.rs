//! Names for what had none: the nodes, by what their servers are called already, and the cluster.

use crate::plan::import::Given;
use crate::plan::import::Sighting;

/// PostgreSQL cuts longer names.
const LONGEST: usize = 63;

/// Names of folders that say nothing of the node in them.
const COMMON_FOLDERS: [&str; 4] = ["data", "pgdata", "pg_data", "db"];

/// Returns a name for each server, no two alike in whatever case: the one that pgpair once gave it, or that its
/// upstream knows it by; `cluster_name`, where each has its own; the name of its folder.
pub(super) fn of_nodes(sightings: &[Sighting]) -> Vec<String> {
    let mut taken: Vec<String> = Vec::new();
    for (index, seen) in sightings.iter().enumerate() {
        let own_block = seen.block.as_ref().map(|(_, node)| node.clone());
        let application_name = seen.feed.as_ref().and_then(|feed| feed.conninfo.get("application_name"));
        let is_own = sightings.iter().filter(|other| other.cluster_name == seen.cluster_name).count() == 1;
        let cluster_name = is_own.then_some(seen.cluster_name.as_str());
        let is_free = |name: &String| {
            is_plain(name)
                && !taken.iter().any(|taken| taken.eq_ignore_ascii_case(name))
                // Of others that come later, and are called so already.
                && sightings[index + 1..].iter().all(|later| !is_called(later, name))
        };
        let candidates = own_block
            .into_iter()
            .chain(application_name.filter(|name| *name != "walreceiver").map(str::to_owned))
            .chain(cluster_name.map(str::to_owned))
            .chain(of_folder(&seen.data_dir));
        let numbered = (index + 1..).map(|number| format!("node{number}"));
        // There are more numbers than servers.
        let name = candidates.chain(numbered).find(is_free).unwrap_or_default();
        taken.push(name);
    }
    taken
}

fn is_called(seen: &Sighting, name: &str) -> bool {
    let block = seen.block.as_ref().map(|(_, node)| node.as_str());
    let application_name = seen.feed.as_ref().and_then(|feed| feed.conninfo.get("application_name"));
    block.into_iter().chain(application_name).any(|other| other.eq_ignore_ascii_case(name))
}

/// The last part of the path that says something. A number alone, as of a port, gets a word before it.
fn of_folder(data_dir: &str) -> Option<String> {
    let mut parts = data_dir.rsplit('/').filter(|part| !part.is_empty());
    let telling = parts.find(|part| !COMMON_FOLDERS.contains(&part.to_ascii_lowercase().as_str()))?;
    let name = plain(telling);
    Some(if name.chars().all(|c| c.is_ascii_digit()) { format!("node{name}") } else { name })
}

/// Returns the cluster's name: as given, or as pgpair once called it, or what all servers have as `cluster_name`.
pub(super) fn of_cluster(sightings: &[Sighting], given: &Given) -> String {
    let by_block = || sightings.iter().find_map(|seen| seen.block.as_ref()).map(|(cluster, _)| cluster.clone());
    let by_name = || {
        let first = sightings.first().map(|seen| seen.cluster_name.clone())?;
        let is_common = sightings.len() > 1 && sightings.iter().all(|seen| seen.cluster_name == first);
        (is_common && is_plain(&first)).then_some(first)
    };
    given.cluster.clone().or_else(by_block).or_else(by_name).unwrap_or_else(|| plain(&given.fallback))
}

fn is_plain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST && name.chars().all(is_plain_char)
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if is_plain_char(c) { c } else { '_' }).take(LONGEST).collect()
}
