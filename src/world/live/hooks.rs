//! Commands of the topology, run as whoever runs pgpair: the hooks around a role change, with the comment of what is owed,
//! and how any of them is run.

use crate::pg::block::Malformed;
use crate::plan::Hook;
use crate::plan::hook::Owed;
use crate::plan::hook::with_owed;
use crate::topology::NodeName;
use crate::topology::SecretRef;
use crate::world::Failure;
use crate::world::Progress;
use crate::world::files;
use crate::world::live::Live;
use crate::world::live::Site;
use crate::world::live::config::CONF;
use crate::world::live::server::Life;
use crate::world::process::Command;
use crate::world::user::Seat;

impl Site<'_> {
    pub(super) async fn hook(&self, hook: &Hook, progress: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        self.note_owed(hook.begins().as_ref()).await?;
        for argv in &hook.commands {
            let what = format!("hook `{}`", hook.point.name());
            let remedy = "correct what it complains of, and apply again";
            self.live.run_own(&what, argv, self.variables(hook), remedy, progress).await?;
        }
        self.note_owed(hook.leaves().as_ref()).await
    }

    /// What a hook is told. No secret is among it.
    fn variables(&self, hook: &Hook) -> Vec<(&'static str, String)> {
        let at = |name: Option<&NodeName>| name.and_then(|name| self.topology().nodes.get(name));
        let host = |name| at(name).map(|node| node.host.clone()).unwrap_or_default();
        let port = |name| at(name).map(|node| node.port.to_string()).unwrap_or_default();
        let (old, new) = (hook.owed.from.as_ref(), Some(&self.node.name));
        let name = |name: Option<&NodeName>| name.map(ToString::to_string).unwrap_or_default();
        vec![
            ("PGPAIR_CLUSTER", self.topology().cluster.clone()),
            ("PGPAIR_HOOK", hook.point.name().to_owned()),
            ("PGPAIR_OLD_PRIMARY", name(old)),
            ("PGPAIR_OLD_PRIMARY_HOST", host(old)),
            ("PGPAIR_OLD_PRIMARY_PORT", port(old)),
            ("PGPAIR_NEW_PRIMARY", name(new)),
            ("PGPAIR_NEW_PRIMARY_HOST", host(new)),
            ("PGPAIR_NEW_PRIMARY_PORT", port(new)),
            ("PGPAIR_RESUMED", u8::from(hook.resumed).to_string()),
        ]
    }

    /// Writes what is owed into the node's block. A server that runs reads the file again: it is as loaded as it was.
    async fn note_owed(&self, owed: Option<&Owed>) -> Result<(), Failure> {
        let path = self.conf_file(CONF);
        let text = self.on_files(move || files::read_text(path)).await?.unwrap_or_default();
        let malformed = |error: Malformed| self.failure(format!("`{CONF}`, {error}"));
        let new = with_owed(&text, self.topology(), self.node, owed).map_err(malformed)?;
        if new == text {
            return Ok(());
        }
        self.write(CONF, new).await?;
        match self.life().await? {
            Life::Running(_) => self.reload(&self.session().await?).await.map(drop),
            Life::Stale | Life::None => Ok(()),
        }
    }
}

impl Live {
    /// Runs a command of the topology as whoever runs pgpair, in the topology's folder and without its secrets, and tells
    /// what it prints. `what`: what it is; `remedy`: for one that fails.
    pub(super) async fn run_own(
        &self,
        what: &str,
        argv: &[String],
        variables: Vec<(&'static str, String)>,
        remedy: &str,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(), Failure> {
        let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
        let failure = |why: String| Failure::new(format!("{what}: {why}"));
        let seat = Seat::of(None).map_err(|error| failure(error.to_string()))?;
        let mut command = Command::new(program).args(arguments).dir(&self.base_dir).timeout(self.timeout);
        command = command.with_callers_locale().without_env(self.names_of_secrets());
        for (name, value) in variables {
            command = command.env(name, value);
        }
        let output = command.output(&seat).await.map_err(|error| {
            failure(error.to_string())
                .with_remedy("see that it is there, may be run by whoever runs pgpair, and ends within --timeout")
        })?;
        if !output.status.success() {
            let failure = failure(format!("`{program}` failed with {}", output.ending()));
            return Err(failure.with_output(output.lines()).with_remedy(remedy));
        }
        for line in output.lines() {
            progress(Progress::Note(line));
        }
        Ok(())
    }

    /// The variables of pgpair's own environment in which the topology finds its secrets.
    fn names_of_secrets(&self) -> Vec<String> {
        let secrets = [&self.topology.admin.password, &self.topology.replication.password];
        let name = |secret: &SecretRef| match secret {
            SecretRef::Env(name) => Some(name.clone()),
            SecretRef::File(_) | SecretRef::Command(_) => None,
        };
        secrets.into_iter().flatten().filter_map(name).collect()
    }
}
