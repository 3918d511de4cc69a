//! What a look finds where nothing was made yet: the start of predictions.

use std::collections::BTreeMap;

use crate::observed::Binaries;
use crate::observed::Content;
use crate::observed::Controller;
use crate::observed::DataDir;
use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Outside;
use crate::observed::Place;
use crate::observed::Program;
use crate::observed::Readiness;
use crate::observed::Reading;
use crate::pg::version::Major;
use crate::topology::Node;
use crate::topology::Topology;

/// Returns what a look at nodes finds that have programs and nothing else.
#[must_use]
pub fn nothing(topology: &Topology) -> Observed {
    let node = |spec: &Node| (spec.name.clone(), nothing_at(topology, spec));
    Observed { nodes: topology.nodes.values().map(node).collect() }
}

/// The same of one node.
#[must_use]
pub fn nothing_at(topology: &Topology, node: &Node) -> NodeObserved {
    let version = topology.postgresql.version;
    NodeObserved {
        binaries: Reading::Known(Binaries {
            bin_dir: "/pg/bin".into(),
            version: version.to_string(),
            major: version,
            basebackup: Reading::Known(Program { path: "/pg/bin/pg_basebackup".into(), major: Major::NEWEST.number() }),
            rewind: true,
            socket_dir: None,
        }),
        place: Reading::Known(empty_place_of(node)),
        server: Reading::Absent,
        port_taken: Reading::Absent,
        controller: Reading::Known(Controller::PgCtl),
        rooms: Vec::new(),
        readiness: Readiness::default(),
        tls: Vec::new(),
        confirmed_dead: false,
    }
}

/// Returns a folder outside the data directory where nothing is.
#[must_use]
pub fn empty_outside() -> Outside {
    Outside { content: Content::Nothing, not_writable: None, unmounted: None, old: false }
}

/// Returns the place of a node with nothing in it, nor in its folders outside.
#[must_use]
pub fn empty_place_of(node: &Node) -> Place {
    let outside = node.outside().map(|folder| (folder.to_owned(), empty_outside())).collect();
    Place { outside, ..empty_place() }
}

/// Returns a place with nothing in it.
#[must_use]
pub fn empty_place() -> Place {
    Place {
        data_dir: DataDir::Absent,
        not_writable: None,
        new: false,
        work: false,
        old: false,
        made_way: None,
        unmounted: None,
        outside: BTreeMap::new(),
    }
}
