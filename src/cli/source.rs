//! The topology file, read from disk or standard input.

use std::io;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::Timeouts;
use super::TopologyFile;
use super::interrupt;
use super::interrupt::Interrupt;
use crate::error::Error;
use crate::error::Findings;
use crate::observed::Observed;
use crate::plan::Action;
use crate::plan::Plan;
use crate::plan::Request;
use crate::plan::planner;
use crate::topology;
use crate::topology::Topology;
use crate::world::World;
use crate::world::live::Live;
use crate::world::live::LiveOptions;

/// A topology and where it came from.
pub(super) struct Source {
    /// As the user wrote it.
    pub(super) name: String,
    /// The absolute folder that relative paths start from.
    pub(super) base_dir: String,
    pub(super) topology: Topology,
    /// What is legal and unwise in it.
    pub(super) advice: Findings,
}

/// A topology, and the way to its nodes.
pub(super) struct Reached {
    /// The file, as the user wrote it.
    pub(super) name: String,
    /// The absolute folder that relative paths start from.
    pub(super) base_dir: String,
    pub(super) topology: Arc<Topology>,
    pub(super) world: Live,
    pub(super) interrupt: Interrupt,
}

/// Loads a topology for a command that looks at its nodes, and begins to listen for signals. Nothing is reached yet.
pub(super) async fn reach(file: &TopologyFile, timeouts: &Timeouts) -> Result<Reached, Error> {
    let source = load(&file.name())?;
    reach_from(source, timeouts, interrupt::listen()?).await
}

/// The same for one topology of several.
pub(super) async fn reach_from(source: Source, timeouts: &Timeouts, interrupt: Interrupt) -> Result<Reached, Error> {
    let topology = Arc::new(source.topology);
    let base_dir = source.base_dir;
    let options = LiveOptions { base_dir: base_dir.clone(), timeout: timeouts.timeout, interrupt: interrupt.clone() };
    let world = Live::new(topology.clone(), options).await?;
    Ok(Reached { name: source.name, base_dir, topology, world, interrupt })
}

/// Looks, and plans. Where something is to be copied, what room it finds is measured, and counts.
pub(super) async fn look_and_plan<W: World>(
    world: &W,
    topology: &Topology,
    request: &Request,
    interrupt: &Interrupt,
) -> Result<(Observed, Plan), Error> {
    let looking = async {
        let mut observed = world.observe().await;
        let plan = planner::plan_with(topology, &observed, request);
        if !plan.steps.iter().any(|step| matches!(step.action, Action::Clone(_))) {
            return (observed, plan);
        }
        world.measure(&plan.steps, &mut observed).await;
        let plan = planner::plan_with(topology, &observed, request);
        (observed, plan)
    };
    interrupt::unless_interrupted(interrupt, looking).await
}

/// Reads and validates a topology; `-` is standard input, whose relative paths start in the current folder.
pub(super) fn load(name: &str) -> Result<Source, Error> {
    load_in(name, None)
}

/// The same, read as if it stood in another folder.
pub(super) fn load_in(name: &str, base_dir: Option<&str>) -> Result<Source, Error> {
    let unreadable = |source| Error::Read { file: name.to_owned(), source };
    let (bytes, folder) = if name == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map_err(unreadable)?;
        (bytes, Path::new(".").to_owned())
    } else {
        let path = Path::new(name);
        (std::fs::read(path).map_err(unreadable)?, path.parent().unwrap_or(Path::new("")).to_owned())
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".").to_owned() } else { folder };
    let shown = if name == "-" { "standard input" } else { name };
    match base_dir {
        Some(base_dir) => parse(&bytes, shown, base_dir),
        None => parse(&bytes, shown, &std::fs::canonicalize(folder).map_err(unreadable)?.to_string_lossy()),
    }
}

/// Validates the text of a topology. `base_dir`: the absolute folder that relative paths start from.
pub(super) fn parse(bytes: &[u8], shown: &str, base_dir: &str) -> Result<Source, Error> {
    let findings = |diagnostics| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        Findings { name: shown.to_owned(), text, diagnostics }
    };
    match topology::parse_with_advice(bytes, shown, base_dir) {
        Ok((topology, advice)) => {
            let (name, base_dir) = (shown.to_owned(), base_dir.to_owned());
            Ok(Source { name, base_dir, topology, advice: findings(advice) })
        }
        Err(diagnostics) => Err(Error::Topology(vec![findings(diagnostics)])),
    }
}
