//! `pgpair import`: writes the topology of running servers. Changes nothing about them.
//!
//! What is to be written is planned before it is: the plan must be empty, and what keeps it from being so is told.
//! A replication password goes to a file of its own first, so that the topology never names one that is not there.

use std::sync::Arc;

use clap::Args;
use futures_util::future::join_all;

use super::Format;
use super::Timeouts;
use super::interrupt;
use super::interrupt::Interrupt;
use super::interrupt::unless_interrupted;
use super::ui::Ui;
use crate::error::Error;
use crate::error::Exit;
use crate::observed::Observed;
use crate::pg::conninfo::Conninfo;
use crate::pg::secret::Secret;
use crate::plan::Action;
use crate::plan::Plan;
use crate::plan::Status;
use crate::plan::Step;
use crate::plan::import;
use crate::plan::import::Given;
use crate::plan::import::Import;
use crate::plan::planner::plan;
use crate::report::html;
use crate::report::json;
use crate::report::markdown;
use crate::report::text;
use crate::report::words;
use crate::topology::Admin;
use crate::topology::SecretRef;
use crate::topology::SslMode;
use crate::topology::Topology;
use crate::world::Failure;
use crate::world::World as _;
use crate::world::live::Live;
use crate::world::live::LiveOptions;
use crate::world::observe::adopt;
use crate::world::observe::adopt::Login;
use crate::world::observe::adopt::Way;

mod output;

use output::Output;

/// Where the password of `--user` is, as everywhere in PostgreSQL.
const PASSWORD_VARIABLE: &str = "PGPASSWORD";

/// How often the topology is observed and planned anew, what does not hold taken out each time.
const LOOKS: usize = 4;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The data directory of a running server; once for each.
    #[arg(long, value_name = "DIR")]
    data_dir: Vec<String>,
    /// The connection string of a running server on this machine, for whoever may not read its data directory.
    #[arg(value_name = "DSN")]
    dsn: Vec<String>,
    /// The file to write [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    out: Option<String>,
    /// Write over FILE if it exists.
    #[arg(long)]
    force: bool,
    /// The folder for a replication password that is found [default: that of FILE, or the current one].
    #[arg(long, value_name = "DIR")]
    secrets_dir: Option<String>,
    /// The cluster's name [default: what `cluster_name` says on all servers, or the name of FILE].
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The role to ask the servers as, now and by the topology; its password is taken from PGPASSWORD
    /// [default: that of the connection string, or the owner of the data directory, by peer authentication].
    #[arg(short = 'U', long, value_name = "ROLE")]
    user: Option<String>,
    /// The database to ask in.
    #[arg(short, long, value_name = "NAME")]
    database: Option<String>,
    #[command(flatten)]
    timeouts: Timeouts,
}

pub(super) async fn run(arguments: &Arguments, ui: &Ui) -> Result<Exit, Error> {
    let dsns = arguments.dsn.iter().map(|text| dsn(text)).collect::<Result<Vec<_>, _>>()?;
    if arguments.data_dir.is_empty() && dsns.is_empty() {
        let what = "no server is given: `--data-dir DIR` names one, as does a connection string";
        return Err(Error::Usage(what.to_owned()));
    }
    let output = Output::of(arguments)?;
    let admin = admin(arguments, &dsns)?;
    let interrupt = interrupt::listen()?;
    let work = async {
        let (import, status) = imported(arguments, dsns, admin, &output, &interrupt).await?;
        output.write(import, status)
    };
    let imported = unless_interrupted(&interrupt, work).await??;
    for what in &imported.not_expressed {
        ui.warn(&format!("could not be expressed: {what}"));
    }
    match (&ui.format, &imported.file) {
        (Format::Json, _) => ui.result(&json::imported(&imported))?,
        (Format::Text, Some(_)) => ui.result(&text::imported(&imported))?,
        (Format::Markdown, Some(_)) => ui.result(&markdown::plain(&text::imported(&imported)))?,
        (Format::Html, Some(_)) => ui.result(&html::plain("import", &text::imported(&imported)))?,
        (Format::Text, None) => {
            ui.note(&text::imported(&imported));
            ui.result(&imported.topology)?;
        }
        (Format::Markdown, None) => {
            ui.note(&text::imported(&imported));
            ui.result(&markdown::plain(&imported.topology))?;
        }
        (Format::Html, None) => {
            ui.note(&text::imported(&imported));
            ui.result(&html::plain("import", &imported.topology))?;
        }
    }
    Ok(Exit::Success)
}

/// Reads a connection string, of which only the place and the role are of use.
fn dsn(text: &str) -> Result<Conninfo, Error> {
    const KEYS: [&str; 6] = ["host", "hostaddr", "port", "user", "dbname", "sslmode"];
    let example = "as in 'port=5432 user=monitor' or postgresql://monitor@localhost:5432";
    // It is not repeated: it may hold a password.
    let dsn = Conninfo::parse(text).map_err(|bad| Error::Usage(format!("{bad}, {example}")))?;
    if dsn.get("password").is_some() {
        let what = "a password in a connection string is there for everybody who lists processes";
        return Err(Error::Usage(format!("{what}: set {PASSWORD_VARIABLE} instead")));
    }
    if let Some(key) = dsn.keys().find(|key| !KEYS.contains(key)) {
        return Err(Error::Usage(format!("`{key}` of a connection string is of no use here: {} are", KEYS.join(", "))));
    }
    Ok(dsn)
}

/// How the servers are asked, now and by the topology.
fn admin(arguments: &Arguments, dsns: &[Conninfo]) -> Result<Admin, Error> {
    let one_of = |option: &str, given: &Option<String>, key: &str| {
        let mut said = given.iter().cloned().chain(dsns.iter().filter_map(|dsn| dsn.get(key)).map(str::to_owned));
        let first = said.next();
        match said.find(|other| Some(other) != first.as_ref()) {
            None => Ok(first),
            Some(other) => {
                let first = first.unwrap_or_default();
                Err(Error::Usage(format!("one {option} serves all servers, and `{first}` and `{other}` are given")))
            }
        }
    };
    let user = one_of("role", &arguments.user, "user")?;
    let database = one_of("database", &arguments.database, "dbname")?;
    let has_password = user.is_some() && std::env::var_os(PASSWORD_VARIABLE).is_some();
    let sslmodes = [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull];
    let is_asked_for = |mode: &SslMode| dsns.iter().any(|dsn| dsn.get("sslmode") == Some(mode.as_str()));
    Ok(Admin {
        user,
        database: database.unwrap_or_else(|| "postgres".to_owned()),
        password: has_password.then(|| SecretRef::Env(PASSWORD_VARIABLE.to_owned())),
        sslmode: sslmodes.into_iter().rfind(is_asked_for).unwrap_or(SslMode::Prefer),
    })
}

/// Looks at the servers until a topology is found whose plan is empty, or as nearly as can be.
async fn imported(
    arguments: &Arguments,
    dsns: Vec<Conninfo>,
    admin: Admin,
    output: &Output,
    interrupt: &Interrupt,
) -> Result<(Import, Status), Error> {
    let password = admin.password.as_ref().and_then(|_| std::env::var(PASSWORD_VARIABLE).ok()).map(Secret::new);
    let login = Login { user: admin.user.clone(), database: admin.database.clone(), password };
    let ways: Vec<Way> =
        arguments.data_dir.iter().cloned().map(Way::DataDir).chain(dsns.into_iter().map(Way::Dsn)).collect();
    let sightings = join_all(ways.iter().map(|way| adopt::sight(way, &login))).await;
    let sightings = sightings.into_iter().collect::<Result<Vec<_>, Failure>>()?;
    let given = Given { cluster: arguments.cluster.clone(), fallback: output.cluster_name(), admin };
    let provisional = import::provisional(&sightings, &given)?;
    let world = Reach { output, interrupt, arguments };
    let observed = world.observe(&provisional, None).await?;
    let secret = output.secret_reference(&provisional);
    let mut import = Import::new(provisional, &sightings, &observed, &secret);
    let mut looks = 0;
    loop {
        looks += 1;
        let topology = output.parse(&import)?;
        let observed = world.observe(&topology, import.password.as_ref()).await?;
        let plan = plan(&topology, &observed);
        if looks == LOOKS || !import.settle(&plan, &observed) {
            import.left_out.extend(differences(&plan, &observed));
            return Ok((import, plan.status()));
        }
    }
}

/// What a plan of the topology would do after all.
fn differences(plan: &Plan, observed: &Observed) -> Vec<String> {
    // A server is stopped, and started again, for another step.
    let is_change = |step: &&Step| !matches!(step.action, Action::Stop(_) | Action::Start { .. });
    let steps = plan.steps.iter().filter(is_change).map(|step| {
        let (node, title, why) = (&step.node, words::title(step), words::reason(&step.reason));
        let why = if why.is_empty() { String::new() } else { format!(", as {why}") };
        format!("a plan would change {node}: {title}{why}")
    });
    // Of nodes whose files are unseen it is said already.
    let is_seen = |node| observed.node(node).place.unknown().is_none();
    let all_are_seen = observed.nodes.keys().all(is_seen);
    let blocked = plan.blocked.iter().filter(|blocked| blocked.node.as_ref().map_or(all_are_seen, is_seen));
    steps.chain(blocked.map(|blocked| format!("a plan is blocked: {}", blocked.refusal.reason()))).collect()
}

/// The way to the servers of a topology that is not written yet.
struct Reach<'a> {
    output: &'a Output,
    interrupt: &'a Interrupt,
    arguments: &'a Arguments,
}

impl Reach<'_> {
    async fn observe(&self, topology: &Topology, password: Option<&Secret>) -> Result<Observed, Error> {
        let options = LiveOptions {
            base_dir: self.output.base_dir.clone(),
            timeout: self.arguments.timeouts.timeout,
            interrupt: self.interrupt.clone(),
        };
        let world = Live::new(Arc::new(topology.clone()), options).await?;
        if let Some((reference, password)) = topology.replication.password.clone().zip(password) {
            world.learn(reference, password.clone()).await;
        }
        Ok(world.observe().await)
    }
}
