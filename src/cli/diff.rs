//! `pgpair diff`: the plan that takes a cluster in the state of one topology to another. Opens no connection, runs no
//! command of a topology, reads no secret.

use clap::Args;

use super::TopologyFile;
use super::plan;
use super::plan::Outcome;
use super::source;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::plan::review;
use crate::report::PlanReport;
use crate::topology::Topology;
use crate::world::git;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The topology as it was and as it is to be; with --base the second alone [default: PGPAIR_FILE, or pgpair.yaml].
    #[arg(value_name = "OLD NEW", num_args = 0..=2)]
    files: Vec<String>,
    /// Take the old topology from this commit, branch or tag of the git repository that the file is in.
    #[arg(long, value_name = "REF")]
    base: Option<String>,
    #[command(flatten)]
    outcome: Outcome,
}

pub(super) fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let (new, old) = match (&arguments.base, &arguments.files[..]) {
        (None, [old, new]) => {
            let new = source::load(new)?;
            // Read as if it stood in the place of the new one, which its paths are compared with.
            let old = source::load_in(old, Some(&new.base_dir))?.topology;
            (new, Some(old))
        }
        (Some(base), files @ ([] | [_])) => {
            let file = TopologyFile { file: files.first().cloned(), named_file: None }.name();
            let new = source::load(&file)?;
            let old = from_git(base, &file, &new.base_dir)?;
            (new, old)
        }
        (None, _) => return Err(Error::Usage("give the old and the new topology, or --base".into())),
        (Some(_), _) => return Err(Error::Usage("with --base, give one topology: the new one".into())),
    };
    let (observed, made) = review::diff(old.as_ref(), &new.topology);
    let report = PlanReport::of(&new.topology, &observed, &made);
    plan::show(&report, &new.name, ui)?;
    arguments.outcome.tell(&report, &new.name)?;
    Ok(arguments.outcome.exit(report.status))
}

/// Returns the topology of a commit; `None`: the commit has no such file.
fn from_git(base: &str, file: &str, base_dir: &str) -> Result<Option<Topology>, Error> {
    let failed = |why| Error::Git { reference: base.to_owned(), file: file.to_owned(), why };
    let path = std::path::Path::new(file);
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| failed("it is no file's name".into()))?;
    let Some(bytes) = git::file_of(base, base_dir, name).map_err(failed)? else { return Ok(None) };
    let shown = format!("{base}:{file}");
    Ok(Some(source::parse(&bytes, &shown, base_dir)?.topology))
}
