//! Who gets into a server by a text of pg_hba.conf: pgpair itself, and the standbys that stream from it.
//!
//! A change of rules must shut out neither. What would let a connection in is judged by the rules that may decide it
//! and by what its client has: a password, a certificate, an encrypted connection. Where the file alone does not tell
//! (groups, names, other programs' methods), the connection counts as let in: a step tries its own connection anyway,
//! and puts the old rules back where that fails.
//!
//! The order of a change follows from this judgement. The role's verifier comes first, and it is a SCRAM one also for
//! `md5`, because both methods take it. Then the side goes first that the other can live with: rules that ask for
//! less (`trust`, another address) before the standbys, rules that ask for more (a password, a certificate) after.

use std::net::IpAddr;

use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::observed::Passfile;
use crate::observed::TlsProblem;
use crate::observed::Verifier;
use crate::pg::block::Block;
use crate::pg::conninfo::Conninfo;
use crate::pg::hba;
use crate::pg::hba::Rule;
use crate::pg::hba::connection::Connection;
use crate::pg::hba::connection::Database;
use crate::pg::hba::connection::Way;
use crate::pg::hba::connection::deciders;
use crate::plan::Refusal;
use crate::plan::desired;
use crate::topology::Node;
use crate::topology::SslMode;
use crate::topology::Topology;
use crate::topology::validate::listens_at;

/// Why a connection is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shut {
    /// The rule that decides, as it is named in messages.
    rule: String,
    why: String,
    remedy: String,
}

impl Shut {
    fn by(rule: &Rule, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        let words = |words: &[hba::Word]| words.iter().map(|word| word.text.clone()).collect::<Vec<_>>().join(",");
        let mut columns = vec![rule.kind.clone(), words(&rule.databases), words(&rule.users)];
        columns.extend(rule.address.clone());
        columns.push(rule.method.clone());
        let rule = format!("line {} (`{}`)", rule.line, columns.join(" "));
        Self { rule, why: why.into(), remedy: remedy.into() }
    }

    fn refusal(self, node: &Node, who: String) -> Refusal {
        let Self { rule, why, remedy } = self;
        Refusal::LocksOut { node: node.name.clone(), who, rule, why, remedy }
    }

    fn by_none() -> Self {
        let remedy = "add a rule for it to `hba`".into();
        Self { rule: "no rule".into(), why: "lets it in".into(), remedy }
    }
}

/// Refuses rules that would keep out pgpair, or a standby that streams from the node, where the present ones don't.
///
/// # Errors
///
/// [`Refusal::LocksOut`] with the first that would be shut out.
pub fn keeps_everyone(topology: &Topology, observed: &Observed, node: &Node, text: &str) -> Result<(), Refusal> {
    let seen = observed.node(&node.name);
    let (new, now) = (rules_of(text), present_rules(seen));
    let (new, now) = (new.as_deref(), now.as_deref());
    if let (Some(shut), None) = (own(topology, node, seen, new), own(topology, node, seen, now)) {
        return Err(shut.refusal(node, "pgpair".into()));
    }
    for standby in topology.followers(node) {
        let judge = |rules: Option<&[Rule]>| follower(topology, observed, node, standby, rules, now);
        if let (Some(shut), None) = (judge(new), judge(now)) {
            return Err(shut.refusal(node, format!("the standby {}", standby.name)));
        }
    }
    Ok(())
}

/// Refuses to make a data directory whose block would keep pgpair out; the rules after it are those of initdb, or of the
/// source of a clone, which let pgpair in.
///
/// # Errors
///
/// [`Refusal::LocksOut`].
pub fn lets_pgpair_in(topology: &Topology, node: &Node, seen: &NodeObserved, block: &Block) -> Result<(), Refusal> {
    let rules = rules_of(&(block.text() + "local all all trust\nhost all all all trust\n"));
    own(topology, node, seen, rules.as_deref()).map_or(Ok(()), |shut| Err(shut.refusal(node, "pgpair".into())))
}

/// Whether the rules may come before the standbys are told: they decide some standby's connection otherwise than the
/// present ones, and all that get in now, or should, get in by them as they are.
#[must_use]
pub fn rules_come_first(topology: &Topology, observed: &Observed, node: &Node, text: &str) -> bool {
    let (new, now) = (rules_of(text), present_rules(observed.node(&node.name)));
    let (new, now) = (new.as_deref(), now.as_deref());
    let mut decided_otherwise = false;
    for standby in topology.followers(node).filter(|standby| observed.node(&standby.name).cluster().is_some()) {
        if follower(topology, observed, node, standby, new, now).is_some() {
            return false;
        }
        decided_otherwise |= methods(topology, standby, new) != methods(topology, standby, now);
    }
    decided_otherwise
}

/// The rules of a text. None where it can't be read: the server refuses it then, and nobody is shut out by it.
fn rules_of(text: &str) -> Option<Vec<Rule>> {
    hba::parse(text).ok()
}

fn present_rules(seen: &NodeObserved) -> Option<Vec<Rule>> {
    rules_of(seen.cluster().map_or("", |cluster| cluster.hba.as_str()))
}

/// Says why pgpair's own connection to a node would not be let in.
fn own(topology: &Topology, node: &Node, seen: &NodeObserved, rules: Option<&[Rule]>) -> Option<Shut> {
    let by_socket = seen.server.known().is_none_or(|server| server.socket_dir.is_some());
    let admin = &topology.admin;
    let os_user = topology.os_user(node);
    let way = if by_socket { Way::Socket } else { Way::Tcp { encrypted: false, from: Some("localhost") } };
    // Whose the servers are when nothing says so; a rule of the replication role's is none of its.
    let user = admin.user.as_deref().or(os_user).unwrap_or("postgres");
    let connection = Connection { way, database: Database::Named(&admin.database), user: Some(user) };
    let remedy = "give pgpair a rule of its own in `hba`, before this one";
    judge(rules, &connection, |rule| match rule.method.as_str() {
        "trust" => None,
        "reject" => Some(Shut::by(rule, "rejects it", remedy)),
        "peer" | "ident" => {
            let is_mapped = rule.options.iter().any(|option| option.starts_with("map="));
            let is_same = admin.user.as_deref().zip(os_user).is_none_or(|(role, os_user)| role == os_user);
            let why = "lets in only the operating-system user of the same name";
            (!is_mapped && !is_same && by_socket).then(|| Shut::by(rule, why, remedy))
        }
        "cert" | "gss" | "sspi" | "oauth" => Some(Shut::by(rule, "asks for a proof that pgpair can't give", remedy)),
        _ => {
            let why = "asks for a password, and the topology has no `admin.password`";
            let remedy = "set `admin.password`, or give pgpair a rule of its own in `hba`, before this one";
            admin.password.is_none().then(|| Shut::by(rule, why, remedy))
        }
    })
}

/// The remedy where an earlier step was left out that gives it what it lacks.
const AGAIN: &str = "plan again, so that it gets one first";

/// What a standby has to connect with.
struct Client<'a> {
    conninfo: Conninfo,
    passfile: Passfile,
    /// What it can't use of the files of `replication.tls`.
    tls: &'a [TlsProblem],
}

/// Says why a standby would not be let in by its upstream. One without data, or without a conninfo, is not there yet.
fn follower(
    topology: &Topology,
    observed: &Observed,
    upstream: &Node,
    standby: &Node,
    rules: Option<&[Rule]>,
    now: Option<&[Rule]>,
) -> Option<Shut> {
    let seen = observed.node(&standby.name);
    let Some(cluster) = seen.cluster() else {
        return unseen(topology, observed, upstream, standby, rules, now);
    };
    let conninfo = desired::present_conninfo(cluster).and_then(|text| Conninfo::parse(&text).ok())?;
    let client = Client { conninfo, passfile: cluster.passfile, tls: &seen.tls };
    let server = observed.node(&upstream.name);
    let shuts = attempts(&client, server).into_iter().map(|encrypted| {
        let froms = origins(topology, server, standby);
        let by_origin = froms.iter().map(|from| {
            let connection = replication(topology, encrypted, from.as_deref());
            judge(rules, &connection, |rule| refused(topology, observed, upstream, standby, &client, rule))
        });
        by_origin.reduce(Option::and).flatten()
    });
    // Of several ways to connect, one is enough; what shuts the first one tells most.
    shuts.reduce(|first, next| next.and(first)).unwrap_or_else(|| {
        let why = "its `sslmode` asks for an encrypted connection, and the server has `ssl` off".to_owned();
        Some(Shut {
            rule: "no rule".into(),
            why: format!("helps: {why}"),
            remedy: "set `ssl: on` in `parameters`".into(),
        })
    })
}

/// A standby that streams and can't be looked at can't be given what other rules ask for.
fn unseen(
    topology: &Topology,
    observed: &Observed,
    upstream: &Node,
    standby: &Node,
    rules: Option<&[Rule]>,
    now: Option<&[Rule]>,
) -> Option<Shut> {
    let server = observed.node(&upstream.name);
    observed.node(&standby.name).place.unknown()?;
    if !server.sql().is_some_and(|sql| sql.senders.iter().any(|sender| sender.is_of(&standby.name))) {
        return None;
    }
    let before = methods(topology, standby, now);
    let connection = replication(topology, false, None);
    judge(rules, &connection, |rule| {
        let is_known = rule.method == "trust" || before.contains(&(rule.kind.clone(), rule.method.clone()));
        let why = "asks for what it may not have, and it can't be looked at";
        (!is_known).then(|| Shut::by(rule, why, format!("make {} reachable, or stop it, and plan again", standby.name)))
    })
}

fn replication<'a>(topology: &'a Topology, encrypted: bool, from: Option<&'a str>) -> Connection<'a> {
    let way = Way::Tcp { encrypted, from };
    Connection { way, database: Database::Replication, user: Some(&topology.replication.user) }
}

/// Kinds and methods of the rules that may decide a standby's connection.
fn methods(topology: &Topology, standby: &Node, rules: Option<&[Rule]>) -> Vec<(String, String)> {
    let rules = rules.unwrap_or_default();
    let from = topology.replication.addresses.is_empty().then(|| desired::origin(&standby.host));
    let decide =
        [false, true].into_iter().flat_map(|encrypted| deciders(rules, &replication(topology, encrypted, from)));
    decide.map(|rule| (rule.kind.clone(), rule.method.clone())).collect()
}

/// The addresses that a standby may come from; absent: not known (NAT).
fn origins(topology: &Topology, server: &NodeObserved, standby: &Node) -> Vec<Option<String>> {
    if !topology.replication.addresses.is_empty() {
        return vec![None];
    }
    let senders = server.sql().map(|sql| sql.senders.as_slice()).unwrap_or_default();
    let seen = senders.iter().filter(|sender| sender.is_of(&standby.name));
    let seen = seen.filter_map(|sender| sender.client_addr.clone()).filter(|address| address.parse::<IpAddr>().is_ok());
    std::iter::once(desired::origin(&standby.host).to_owned()).chain(seen).map(Some).collect()
}

/// Whether the attempts that libpq makes are encrypted, in their order.
fn attempts(client: &Client<'_>, server: &NodeObserved) -> Vec<bool> {
    let offered = has_ssl(server);
    let mode = client.conninfo.get("sslmode").unwrap_or("prefer");
    match mode {
        "disable" => vec![false],
        "require" | "verify-ca" | "verify-full" => offered.then_some(true).into_iter().collect(),
        _ if offered => vec![true, false],
        _ => vec![false],
    }
}

/// Whether a server takes encrypted connections, as far as one can tell.
fn has_ssl(server: &NodeObserved) -> bool {
    let running = server.sql().map(|sql| sql.settings.get("ssl").is_none_or(|ssl| ssl.value == "on"));
    running.unwrap_or(true)
}

fn judge(rules: Option<&[Rule]>, connection: &Connection<'_>, refused: impl Fn(&Rule) -> Option<Shut>) -> Option<Shut> {
    let verdicts: Vec<Option<Shut>> = deciders(rules?, connection).into_iter().map(refused).collect();
    if verdicts.is_empty() {
        return Some(Shut::by_none());
    }
    verdicts.into_iter().reduce(Option::and).flatten()
}

/// Says why a rule does not let a standby in that it decides.
fn refused(
    topology: &Topology,
    observed: &Observed,
    upstream: &Node,
    standby: &Node,
    client: &Client<'_>,
    rule: &Rule,
) -> Option<Shut> {
    let lacks_password = || {
        let names = client.conninfo.get("passfile");
        let is_ours = names == Some(desired::passfile_path(standby).as_str());
        let has = match (names, client.passfile) {
            (Some(_), Passfile::Right | Passfile::NotCompared) => true,
            // Without a password in the topology there is none to compare it with.
            (Some(_), Passfile::Wrong) => !is_ours || topology.replication.password.is_none(),
            (Some(_), Passfile::Absent) => !is_ours,
            (None, _) => client.conninfo.get("password").is_some(),
        };
        let remedy = "let its `primary_conninfo` name a passfile, or take that line out so that pgpair writes one";
        (!has).then(|| Shut::by(rule, "asks for a password, and it has none", remedy))
    };
    // A standby has the roles of the primary, late.
    let primary = observed.node(&topology.primary().name).cluster();
    let verifier = primary.and_then(|cluster| cluster.replication_role.known()).map(|role| role.verifier);
    let role = &topology.replication.user;
    match rule.method.as_str() {
        "trust" => None,
        "reject" => Some(Shut::by(rule, "rejects it", "let the rules of `hba` spare the standbys")),
        "password" | "md5" | "scram-sha-256" if verifier == Some(Verifier::None) => {
            Some(Shut::by(rule, format!("asks for a password, and `{role}` has none"), "set `replication.password`"))
        }
        "scram-sha-256" if verifier == Some(Verifier::Differs) => {
            Some(Shut::by(rule, format!("asks for a password that `{role}` does not have as SCRAM verifier"), AGAIN))
        }
        "cert" => by_certificate(observed.node(&upstream.name), client, rule),
        "peer" | "ident" | "gss" | "sspi" | "oauth" => {
            Some(Shut::by(rule, "asks for a proof that it can't give", "let the rules of `hba` spare the standbys"))
        }
        _ => lacks_password(),
    }
}

/// Says why a rule that asks for a certificate does not let a standby in.
fn by_certificate(server: &NodeObserved, client: &Client<'_>, rule: &Rule) -> Option<Shut> {
    if client.conninfo.get("sslcert").is_none() {
        let remedy = client.tls.first().map_or_else(|| AGAIN.to_owned(), TlsProblem::remedy);
        return Some(Shut::by(rule, "asks for a certificate, and it has none", remedy));
    }
    if let Some(problem) = client.tls.iter().find(|problem| problem.is_of(&client.conninfo)) {
        return Some(Shut::by(rule, format!("asks for a certificate, and it can't use {problem}"), problem.remedy()));
    }
    if trusts_certificates(server) {
        return None;
    }
    let why = "asks for a certificate, and the server has no `ssl_ca_file` to judge it by";
    Some(Shut::by(rule, why, "set `ssl_ca_file` in `parameters`"))
}

fn trusts_certificates(server: &NodeObserved) -> bool {
    server.sql().and_then(|sql| sql.settings.get("ssl_ca_file")).is_none_or(|file| !file.value.is_empty())
}

/// Says why a running server can't be reached yet as its followers are to reach it: at its address, and encrypted where
/// they ask for that. A follower that is told before would lose its connection until then.
#[must_use]
pub fn not_there_yet(topology: &Topology, upstream: &Node, server: &NodeObserved) -> Option<String> {
    let running = server.server.known()?;
    let sql = running.sql.known()?;
    if running.port.is_some_and(|port| port != upstream.port) {
        return Some(format!("{} does not listen on port {} yet", upstream.name, upstream.port));
    }
    let wanted = desired::listens_on(topology, upstream, server);
    let now = sql.settings.get("listen_addresses").map(|now| now.value.as_str());
    if let (Some(wanted), Some(now)) = (wanted, now)
        && wanted != now
        && !listens_at(now, &upstream.host)
    {
        return Some(format!("{} does not listen at {} yet", upstream.name, upstream.host));
    }
    let encrypted = topology.replication.tls.as_ref().is_some_and(|tls| tls.sslmode >= SslMode::Require);
    (encrypted && !has_ssl(server)).then(|| format!("{} has `ssl` off", upstream.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Identity;
    use crate::observed::Reading;
    use crate::report::samples::made;
    use crate::report::samples::name;
    use crate::topology;
    use crate::world::sim::nothing;

    const SCRAM: &str = "auth: scram-sha-256, password: { env: SECRET }";
    const CERT: &str = "auth: cert, tls: { sslmode: verify-full, sslrootcert: ca.pem, sslcert: r.crt, sslkey: r.key }";

    fn pair(admin: &str, replication: &str, parameters: &str) -> Topology {
        let yaml = format!(
            "version: 1\ncluster: sim\npostgresql: {{ version: 15, os_user: postgres }}\nadmin: {{ {admin} }}\n\
             replication: {{ user: repuser, {replication} }}\nparameters: {{ {parameters} }}\n\
             nodes:\n  a: {{ role: primary, port: 6001, data_dir: /pg/a }}\n  b: {{ role: standby, port: 6002, data_dir: /pg/b }}\n"
        );
        topology::parse(yaml.as_bytes(), "sim.yaml", "/").expect("a good topology")
    }

    /// The pair of a topology, made and streaming.
    fn living(topology: &Topology) -> Observed {
        let mut world = made(topology, nothing(topology));
        for seen in world.nodes.values_mut() {
            seen.cluster_mut().expect("made").identity = Identity::Known(7);
            seen.server.known_mut().expect("runs").socket_dir = Some("/tmp".into());
        }
        world
    }

    /// What is said of these rules on the primary; empty where everyone stays in.
    fn verdict(topology: &Topology, world: &Observed, rules: &str) -> String {
        let kept = keeps_everyone(topology, world, topology.primary(), rules);
        kept.err().map(|refusal| refusal.reason()).unwrap_or_default()
    }

    const OWN: &str = "local all all peer\n";

    #[test]
    fn pgpair_is_locked_out_by_what_it_can_not_answer() {
        let rest = "host replication repuser all scram-sha-256\n";
        let cases = [
            ("", "local all all peer", ""),
            ("", "local all all trust", ""),
            ("", "local all app reject\nlocal all all peer", ""),
            ("", "local all all reject", "rejects it"),
            ("", "local all postgres cert", "asks for a proof that pgpair can't give"),
            ("", "local all all scram-sha-256", "the topology has no `admin.password`"),
            ("password: { env: ADMIN }", "local all all scram-sha-256", ""),
            ("user: dba, password: { env: ADMIN }", "local all all peer", "operating-system user of the same name"),
            ("user: dba, password: { env: ADMIN }", "local all all peer map=dbas", ""),
            ("", "local all app peer", "no rule lets it in"),
            // Who is in a group, the file does not tell.
            ("", "local all +staff reject\nlocal all all peer", ""),
        ];
        for (admin, rule, expected) in cases {
            let topology = pair(admin, SCRAM, "");
            let mut world = living(&topology);
            world.node_mut(&name("a")).cluster_mut().expect("made").hba = "local all all trust\n".to_owned() + rest;
            let said = verdict(&topology, &world, &format!("{rule}\n{rest}"));
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{admin}, {rule}: {said}");
        }
    }

    #[test]
    fn who_is_shut_out_already_does_not_hold_up_other_rules() {
        let topology = pair("", SCRAM, "");
        let mut world = living(&topology);
        world.node_mut(&name("a")).cluster_mut().expect("made").hba = "local all all reject\n".into();
        assert_eq!(verdict(&topology, &world, "local all all scram-sha-256\n"), "");
    }

    /// Rules, what happens to the pair before, and what is said.
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Observed), &'a str);

    #[test]
    fn a_standby_is_locked_out_by_what_it_does_not_have() {
        let with_role = |world: &mut Observed, verifier: Verifier| {
            let role = &mut world.node_mut(&name("a")).cluster_mut().expect("made").replication_role;
            role.known_mut().expect("made").verifier = verifier;
        };
        let with_passfile = |world: &mut Observed, passfile: Passfile| {
            world.node_mut(&name("b")).cluster_mut().expect("made").passfile = passfile;
        };
        let scram = "host replication repuser 127.0.0.1/32 scram-sha-256\n";
        let cases: [Case; 12] = [
            (scram, &|_| {}, ""),
            ("host replication repuser 127.0.0.1/32 trust\n", &|_| {}, ""),
            ("host replication repuser 127.0.0.1/32 reject\n", &|_| {}, "rejects it"),
            ("host replication repuser 10.0.0.1/32 scram-sha-256\n", &|_| {}, "no rule lets it in"),
            ("host all all all trust\n", &|_| {}, "no rule lets it in"),
            (scram, &|world| with_passfile(world, Passfile::Absent), "asks for a password, and it has none"),
            (scram, &|world| with_passfile(world, Passfile::Wrong), "asks for a password, and it has none"),
            (scram, &|world| with_role(world, Verifier::None), "asks for a password, and `repuser` has none"),
            (scram, &|world| with_role(world, Verifier::Differs), "does not have as SCRAM verifier"),
            // What the verifier is made by matters for SCRAM alone: a server of 10 and later takes either for `md5`.
            ("host replication repuser 127.0.0.1/32 md5\n", &|world| with_role(world, Verifier::Differs), ""),
            ("host replication repuser 127.0.0.1/32 cert\n", &|_| {}, "asks for a certificate, and it has none"),
            ("host replication repuser 127.0.0.1/32 ident\n", &|_| {}, "asks for a proof that it can't give"),
        ];
        for (rules, damage, expected) in cases {
            let topology = pair("", SCRAM, "");
            let mut world = living(&topology);
            world.node_mut(&name("a")).cluster_mut().expect("made").hba =
                format!("{OWN}host replication repuser all trust\n");
            damage(&mut world);
            let said = verdict(&topology, &world, &format!("{OWN}{rules}"));
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{rules}: {said}");
        }
    }

    #[test]
    fn a_standby_with_a_certificate_needs_a_server_that_encrypts() {
        let topology = pair("", CERT, "ssl: on, ssl_ca_file: /tls/ca.pem");
        let rules = format!("{OWN}hostssl replication repuser 127.0.0.1/32 cert\n");
        let mut world = living(&topology);
        world.node_mut(&name("a")).cluster_mut().expect("made").hba = format!("{OWN}host all all all trust\n");
        assert_eq!(verdict(&topology, &world, &rules), "");
        assert_eq!(not_there_yet(&topology, topology.primary(), world.node(&name("a"))), None);

        let sql = world.node_mut(&name("a")).sql_mut().expect("runs");
        sql.settings.get_mut("ssl").expect("set").value = "off".into();
        let why = not_there_yet(&topology, topology.primary(), world.node(&name("a")));
        assert_eq!(why.as_deref(), Some("a has `ssl` off"));
    }

    #[test]
    fn a_standby_that_can_not_be_looked_at_keeps_the_method_it_has() {
        let topology = pair("", SCRAM, "");
        let mut world = living(&topology);
        let sql = world.node_mut(&name("a")).sql_mut().expect("runs");
        assert!(sql.senders.iter().any(|sender| sender.application_name == "b"));
        world.node_mut(&name("b")).place = Reading::Unknown("no route to host".into());
        let rule = |method: &str| format!("{OWN}host replication repuser 127.0.0.1/32 {method}\n");
        world.node_mut(&name("a")).cluster_mut().expect("made").hba = rule("md5");
        assert_eq!(verdict(&topology, &world, &rule("md5")), "");
        assert_eq!(verdict(&topology, &world, &rule("trust")), "");
        let said = verdict(&topology, &world, &rule("scram-sha-256"));
        assert!(said.contains("it can't be looked at"), "{said}");
    }

    #[test]
    fn rules_that_ask_for_less_come_before_the_standbys_and_those_that_ask_for_more_after() {
        let rule = |method: &str| format!("{OWN}host replication repuser 127.0.0.1/32 {method}\n");
        let first = |topology: &Topology, now: &str, then: &str| {
            let mut world = living(topology);
            world.node_mut(&name("a")).cluster_mut().expect("made").hba = rule(now);
            rules_come_first(topology, &world, topology.primary(), &rule(then))
        };
        let with_password = pair("", SCRAM, "");
        let without = pair("", "auth: trust", "");
        assert!(first(&with_password, "scram-sha-256", "trust"));
        assert!(!first(&without, "trust", "scram-sha-256"), "they have no password yet");
        assert!(!first(&with_password, "trust", "trust"), "nothing changes for them");
    }

    #[test]
    fn a_primary_that_still_listens_elsewhere_is_not_there_yet() {
        let topology = pair("", SCRAM, "");
        let mut world = living(&topology);
        let seen = world.node_mut(&name("a"));
        seen.server.known_mut().expect("runs").port = Some(7001);
        let why = not_there_yet(&topology, topology.primary(), seen);
        assert_eq!(why.as_deref(), Some("a does not listen on port 6001 yet"));
        seen.server = Reading::Absent;
        assert_eq!(not_there_yet(&topology, topology.primary(), seen), None, "one that is stopped starts there");
    }
}
