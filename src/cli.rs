//! The command line: arguments, and the way from them to an exit code.
//!
//! Standard output carries the result alone; questions, progress and errors go to standard error.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use clap::error::ErrorKind;

use crate::error::Error;
use crate::error::Exit;
use crate::plan::allow::Allowance;
use crate::report::json;

mod apply;
mod diff;
mod document;
mod drift;
mod event_log;
mod explain;
mod import;
mod interrupt;
mod observe;
mod pipeline;
mod plan;
mod progress;
mod question;
mod rebuild;
mod role_edit;
mod shell;
mod show;
mod source;
mod status;
mod switchover;
mod ui;
mod validate;

use ui::Ui;

/// PostgreSQL primary/standby pairs, declared in YAML: observe, plan, apply.
#[derive(Debug, Parser)]
#[command(name = "pgpair", version, arg_required_else_help = true, subcommand_required = true, max_term_width = 100)]
#[command(after_help = "\
Examples:
  pgpair validate topologies/orders.yaml    check the file alone, without a server
  pgpair plan topologies/orders.yaml        show what would be done; changes nothing
  pgpair apply topologies/orders.yaml       show it, ask, and do it
  pgpair diff --base main topologies/orders.yaml    what a change of the file would do, without a server
  pgpair status topologies/orders.yaml      roles, lag and health
  pgpair drift topologies/*.yaml            what was changed behind pgpair's back
  pgpair import --data-dir /pg/a/data       write the topology of running servers

Exit codes: 0 success, 1 failed or wrong usage, 2 changes, drift or unhealthy, 3 refused and nothing done,
            4 declined, 5 something left undone, 130 interrupted")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check topology files alone, without a server.
    #[command(after_help = "\
Examples:
  pgpair validate topologies/orders.yaml
  pgpair validate topologies/*.yaml --format json
  cat orders.yaml | pgpair validate -")]
    Validate(validate::Arguments),
    /// Show what would be done; changes nothing.
    #[command(after_help = "\
Examples:
  pgpair plan topologies/orders.yaml
  pgpair plan --detailed-exitcode           exit 2 if anything differs
  pgpair plan -f orders.yaml --format json | jq .summary
  pgpair plan orders.yaml -o plan.json      save it; `pgpair apply --plan plan.json` does exactly this
  pgpair plan --observed seen.json          of what `pgpair observe` has saved: reaches no server, reads no secret
  pgpair plan orders.yaml --format markdown            a comment for a pull request
  pgpair plan orders.yaml --report gitlab=plan.json    the counts of GitLab's merge-request widget

In GitHub Actions, the outputs of the step are cluster, status, changes (true or false), steps and allow, and the
step's summary is the plan.")]
    Plan(plan::Arguments),
    /// Plan, ask, do it, and verify.
    #[command(after_help = "\
Examples:
  pgpair apply topologies/orders.yaml
  pgpair apply orders.yaml --auto-approve                          only what nobody notices
  pgpair apply orders.yaml --auto-approve --allow restart,outage
  pgpair apply orders.yaml --allow destroy=b                       b may be cloned anew
  pgpair apply --plan plan.json --auto-approve                     what was reviewed, or nothing

Allowances: restart (a standby restarts), outage (a primary restarts, or one with data is started),
            switchover=NODE (it becomes the primary), destroy=NODE (a data directory with data is replaced),
            failover=NODE (it becomes the primary without the old one: commits may be lost)")]
    Apply(apply::Whole),
    /// Show a saved plan, or the event log of an apply, in any format.
    #[command(after_help = "\
Examples:
  pgpair show plan.json
  pgpair show plan.json --format html > plan.html
  pgpair show ~/.local/state/pgpair/orders/2026-01-01T00-00-00Z.jsonl       what was done, when, and the write outage
  pgpair show plan.json --format json | jq '.steps[].id'")]
    Show(show::Arguments),
    /// Save what is seen of the nodes, for plans that are made without reaching them; changes nothing.
    #[command(after_help = "\
Examples:
  pgpair observe topologies/orders.yaml -o seen.json
  pgpair plan --observed seen.json topologies/orders.yaml    where no server is in reach, and nobody trusted

What is secret is not in it: passwords in connection strings, commands that the topology does not have; of the
stored verifier, only whether it matches.")]
    Observe(observe::Arguments),
    /// Show the plan that takes a cluster in the state of one topology to another; no server is needed.
    #[command(after_help = "\
Examples:
  pgpair diff old.yaml new.yaml
  pgpair diff --base main topologies/orders.yaml     what this branch changes, from git
  pgpair diff --base origin/main --detailed-exitcode

Nothing is reached, no command of a topology is run, and no secret is read: for pull requests of anybody. A secret
that comes from another place is taken to be another secret.")]
    Diff(diff::Arguments),
    /// Move the primary to another node, without loss, and edit the topology file to say so.
    #[command(after_help = "\
Examples:
  pgpair switchover --to b topologies/orders.yaml
  pgpair switchover --to b -f orders.yaml --auto-approve
  pgpair switchover --to a orders.yaml                     and back again

The plan is shown with the roles swapped in the file: nothing of it is edited but the two roles. If the primary can't
be moved, it gets its role back, the edit is taken back as well, and the exit code is 5.")]
    Switchover(switchover::Arguments),
    /// Promote a standby without the old primary, which is gone, and edit the topology file to say so.
    #[command(after_help = "\
Examples:
  pgpair failover --to b topologies/orders.yaml
  pgpair failover --to b -f orders.yaml --auto-approve
  pgpair failover --to b orders.yaml --confirm-dead a      a's machine is off, and stays so

The old primary is fenced, so that whoever starts it gets a standby, and what is left of its server is ended. What may be
lost is said in bytes before anything is done. While the old primary takes writes, `pgpair switchover` loses nothing.")]
    Failover(switchover::Arguments),
    /// Clone a standby anew, whatever its state: an apply that replaces its data.
    #[command(after_help = "\
Examples:
  pgpair rebuild b topologies/orders.yaml
  pgpair rebuild b -f orders.yaml --auto-approve

The old data directory is kept as DATA_DIR.pgpair-old until the new standby streams, if there is room for both.
The node's own configuration is kept: postgresql.conf and what it includes, pg_hba.conf, pg_ident.conf, TLS files.")]
    Rebuild(rebuild::Arguments),
    /// Compare clusters with their topologies, for cron: read-only, and who wins where something differs.
    #[command(after_help = "\
Examples:
  pgpair drift                                            the cluster of pgpair.yaml
  out=$(pgpair drift topologies/*.yaml) || echo \"$out\"   for cron, which mails what is printed
  pgpair drift --fail-on pending,not_ready orders.yaml
  pgpair drift topologies/*.yaml --format json | jq '.clusters[].items[]'
  pgpair drift topologies/*.yaml --json-lines | jq -r 'select(.status != \"in_sync\").cluster'
  pgpair drift topologies/*.yaml --textfile /var/lib/prometheus/node-exporter/pgpair.prom

Classes: drift      changed behind pgpair's back
         pending    the topology is newer than its last apply
         not_ready  a switchover would be refused today
         unseen     it can't be seen from here; what would help is named

Exit codes: 0 in sync, 2 drift in any cluster (and what --fail-on adds), else 1 if one could not be observed")]
    Drift(drift::Arguments),
    /// Show roles, positions and lag of every node, and what is wrong.
    #[command(after_help = "\
Examples:
  pgpair status topologies/orders.yaml
  pgpair status orders.yaml --max-lag 16777216 && echo healthy
  pgpair status orders.yaml --watch=5s
  pgpair status orders.yaml --format json | jq '.findings[].message'")]
    Status(status::Arguments),
    /// Say what an id means: a state, action, check, refusal or warning of pgpair's, or a parameter of PostgreSQL.
    #[command(after_help = "\
Examples:
  pgpair explain armed               a joint state, and what a plan does then; `states` is the whole table
  pgpair explain promote             what a step is for, its impact, and what one would do by hand
  pgpair explain reverse_connection  what is asked before a switchover, and why
  pgpair explain two_primaries       why something is blocked
  pgpair explain max_wal_senders     what a parameter takes, and what its change takes")]
    Explain(explain::Arguments),
    /// Write the topology of running servers; changes nothing.
    #[command(after_help = "\
Examples:
  pgpair import --data-dir /pg/a/data --data-dir /pg/b/data -o orders.yaml
  pgpair import --data-dir /pg/a/data --data-dir /pg/b/data --cluster orders > orders.yaml
  PGPASSWORD=... pgpair import 'port=5432 user=monitor' 'port=5433 user=monitor'    with the grants of pg_monitor alone

The plan of what is written is empty; what could not be expressed is said, in the file and on standard error.
A replication password that is found goes to a file of mode 0600 beside FILE, and never into the topology.")]
    Import(import::Arguments),
    /// Write the JSON Schema of topology files, for editors.
    #[command(after_help = "\
Examples:
  pgpair schema > topology.schema.json
  pgpair schema --postgresql 15 > topology.schema.json    parameters of that major alone

With this as the first line of a topology, editors complete and check it (VS Code with the YAML extension, Neovim, Zed, Helix):
  # yaml-language-server: $schema=./topology.schema.json")]
    Schema(shell::Schema),
    /// Write the completions of a shell.
    #[command(after_help = "\
Examples:
  pgpair completions bash > /etc/bash_completion.d/pgpair
  pgpair completions zsh > \"${fpath[1]}/_pgpair\"
  pgpair completions fish > ~/.config/fish/completions/pgpair.fish")]
    Completions(shell::Completions),
    /// Write the manual pages.
    #[command(after_help = "\
Examples:
  pgpair man | man -l -
  pgpair man --out /usr/local/share/man/man1    a page for every command")]
    Man(shell::Man),
}

/// What every command takes.
#[derive(Debug, Args)]
struct Shared {
    /// How the result is written to standard output.
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    format: Format,
    /// Use no colours (also: NO_COLOR).
    #[arg(long, global = true)]
    no_color: bool,
    /// Say more on standard error; twice, still more.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// How progress is written to standard error; json: one event a line.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    log_format: LogFormat,
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    /// For a comment on a pull request.
    Markdown,
    /// A page of its own, which needs no network.
    Html,
}

/// How progress is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// The topology: one of the two, or PGPAIR_FILE, or pgpair.yaml.
#[derive(Debug, Args)]
struct TopologyFile {
    /// The topology file; `-` reads it from standard input [default: PGPAIR_FILE, or pgpair.yaml].
    #[arg(value_name = "FILE", conflicts_with = "named_file")]
    file: Option<String>,
    /// The same, as an option.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    named_file: Option<String>,
}

impl TopologyFile {
    /// As it stands in the arguments.
    fn given(&self) -> Option<String> {
        self.file.clone().or_else(|| self.named_file.clone())
    }

    fn name(&self) -> String {
        self.given().or_else(|| std::env::var("PGPAIR_FILE").ok()).unwrap_or_else(|| "pgpair.yaml".to_owned())
    }
}

/// The topologies of a command that takes many: a list, or as [`TopologyFile`].
#[derive(Debug, Args)]
struct TopologyFiles {
    /// The topology files; `-` is standard input [default: PGPAIR_FILE, or pgpair.yaml].
    #[arg(value_name = "FILE", conflicts_with = "named_file")]
    files: Vec<String>,
    /// The same, as an option.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    named_file: Option<String>,
}

impl TopologyFiles {
    fn names(&self) -> Vec<String> {
        if self.files.is_empty() {
            vec![TopologyFile { file: None, named_file: self.named_file.clone() }.name()]
        } else {
            self.files.clone()
        }
    }
}

/// How long things may take.
#[derive(Debug, Args)]
struct Timeouts {
    /// How long each condition is waited for: 60s, 2m, or seconds. The copying of a clone is not limited.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,
}

/// Reads `60s`, `1m 30s`, `1h`, or a plain number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no time: 60s, 2m, 1h 30m, or a number of seconds");
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let duration: jiff::SignedDuration = text.parse().map_err(|_| bad())?;
    duration.try_into().map_err(|_| bad())
}

fn allowance(text: &str) -> Result<Allowance, String> {
    text.parse().map_err(|error: crate::plan::allow::UnknownAllowance| error.to_string())
}

/// Runs the command that the arguments ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let Cli { command, shared } = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments).into(),
    };
    let ui = Ui::new(&shared);
    let exit = run(command, &ui).unwrap_or_else(|error| {
        ui.error(&error);
        error.exit()
    });
    exit.into()
}

fn run(command: Command, ui: &Ui) -> Result<Exit, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|source| Error::System { what: "threads", source })?;
    let exit = runtime.block_on(async {
        match command {
            Command::Validate(arguments) => validate::run(&arguments, ui),
            Command::Plan(arguments) => plan::run(&arguments, ui).await,
            Command::Apply(arguments) => apply::run(arguments, ui).await,
            Command::Show(arguments) => show::run(&arguments, ui),
            Command::Observe(arguments) => observe::run(&arguments, ui).await,
            Command::Diff(arguments) => diff::run(&arguments, ui),
            Command::Switchover(arguments) => switchover::run(arguments, false, ui).await,
            Command::Failover(arguments) => switchover::run(arguments, true, ui).await,
            Command::Rebuild(arguments) => rebuild::run(arguments, ui).await,
            Command::Drift(arguments) => drift::run(&arguments, ui).await,
            Command::Status(arguments) => status::run(&arguments, ui).await,
            Command::Explain(arguments) => explain::run(&arguments, ui),
            Command::Import(arguments) => import::run(&arguments, ui).await,
            Command::Schema(arguments) => shell::schema(&arguments, ui),
            Command::Completions(arguments) => shell::completions(&arguments, ui),
            Command::Man(arguments) => shell::man(&arguments, ui),
        }
    });
    // A thread that still waits for an answer at the terminal must not keep the process.
    runtime.shutdown_background();
    exit
}

/// Help and the version are results; wrong usage is 1 and never clap's 2, which means changes here.
fn usage(error: &clap::Error, arguments: &[OsString]) -> Exit {
    let is_result = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !is_result && wants_json(arguments) {
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        return match ui::write_result(&json::errors(&Error::Usage(first).reports()), anstream::ColorChoice::Never) {
            Ok(()) | Err(_) => Exit::Failed,
        };
    }
    match error.print() {
        Ok(()) if is_result => Exit::Success,
        Err(error) if is_result && error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Success,
        Ok(()) | Err(_) => Exit::Failed,
    }
}

/// The arguments could not be read as a whole, so the one that matters here is looked for by itself.
fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().any(|argument| argument == "--format=json")
        || arguments.windows(2).any(|pair| pair[0] == "--format" && pair[1] == "json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_put_together_rightly() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_time_is_read_with_its_unit_or_as_seconds() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["", "-1s", "soon", "1 fortnight"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn allowances_are_given_in_one_list_or_several() {
        let parse = |arguments: &[&str]| {
            let cli = Cli::try_parse_from([&["pgpair", "apply"], arguments].concat()).expect("good usage");
            match cli.command {
                Command::Apply(whole) => whole.apply.allow,
                other @ (Command::Validate(_)
                | Command::Plan(_)
                | Command::Show(_)
                | Command::Observe(_)
                | Command::Diff(_)
                | Command::Switchover(_)
                | Command::Failover(_)
                | Command::Rebuild(_)
                | Command::Drift(_)
                | Command::Status(_)
                | Command::Explain(_)
                | Command::Import(_)
                | Command::Schema(_)
                | Command::Completions(_)
                | Command::Man(_)) => {
                    panic!("{other:?}")
                }
            }
        };
        let all = vec![Allowance::Restart, Allowance::Destroy(crate::topology::NodeName::new("b"))];
        assert_eq!(parse(&["--allow", "restart,destroy=b"]), all);
        assert_eq!(parse(&["--allow", "restart", "--allow", "destroy=b"]), all);
    }

    #[test]
    fn a_file_is_given_once() {
        assert!(Cli::try_parse_from(["pgpair", "plan", "a.yaml", "-f", "b.yaml"]).is_err());
    }
}
