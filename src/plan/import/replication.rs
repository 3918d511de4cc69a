//! How standbys are fed: who they log in as and how, slots, TLS, the synchronous ones.

use crate::observed::NodeObserved;
use crate::observed::Observed;
use crate::pg::block;
use crate::pg::conf;
use crate::pg::conninfo::Conninfo;
use crate::pg::guc;
use crate::pg::hba;
use crate::pg::hba::Rule;
use crate::pg::version::StandbyMode;
use crate::plan::desired::REWIND_DATABASE;
use crate::plan::drift;
use crate::plan::import::Import;
use crate::plan::import::PASSWORD_VARIABLE;
use crate::plan::import::Sighting;
use crate::plan::synchronous;
use crate::topology::HbaLine;
use crate::topology::Node;
use crate::topology::NodeName;
use crate::topology::ReplicationAuth;
use crate::topology::Role;
use crate::topology::SecretRef;
use crate::topology::SslMode;
use crate::topology::SyncMethod;
use crate::topology::Synchronous;
use crate::topology::Tls;
use crate::topology::Topology;

const SSLMODES: [SslMode; 3] = [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull];

impl Import {
    pub(super) fn replication(&mut self, sightings: &[Sighting], observed: &Observed, secret: &str) {
        let primary = observed.node(&self.topology.primary().name).cluster();
        let role = primary.and_then(|cluster| cluster.replication_role.known());
        self.topology.replication.connection_limit =
            role.map(|role| role.connection_limit).filter(|limit| *limit != -1);
        self.slots(observed);
        self.tls(sightings);
        self.rules_of_own_block(observed);
        self.auth(sightings, observed);
        self.password(sightings, secret);
        self.synchronous(observed);
    }

    /// One slot for each standby, or none for any.
    fn slots(&mut self, observed: &Observed) {
        let of_standbys: Vec<(NodeName, Option<String>)> = self
            .topology
            .standbys()
            .map(|standby| (standby.name.clone(), self.slot_of(observed.node(&standby.name))))
            .collect();
        let without: Vec<&str> =
            of_standbys.iter().filter(|(_, slot)| slot.is_none()).map(|(name, _)| name.as_str()).collect();
        self.topology.replication.slots = without.is_empty();
        if !without.is_empty() && without.len() < of_standbys.len() {
            let what = format!(
                "slots: {} has none and others have; `slots: false` is written, and the slots that are there stay",
                without.join(", ")
            );
            self.leave_out(what);
            return;
        }
        for (name, slot) in of_standbys {
            let node = self.topology.nodes.get_mut(&name);
            if let Some((node, slot)) = node.zip(slot).filter(|(node, slot)| node.slot_name() != *slot) {
                node.slot = Some(slot);
            }
        }
    }

    fn slot_of(&self, seen: &NodeObserved) -> Option<String> {
        let name = "primary_slot_name";
        let slot = match self.topology.postgresql.version.dialect().standby_mode {
            StandbyMode::SignalFile => seen.sql()?.settings.get(name).map(|setting| setting.value.clone()),
            StandbyMode::RecoveryConf => {
                match seen.cluster().and_then(|cluster| cluster.markers.recovery_conf.as_ref()) {
                    Some(text) => {
                        let entries = conf::parse(text).entries;
                        entries.into_iter().rev().find(|entry| entry.name == name).map(|entry| entry.value)
                    }
                    None => seen.sql()?.receiver.as_ref()?.slot.clone(),
                }
            }
        };
        slot.filter(|slot| !slot.is_empty())
    }

    /// TLS where a standby insists on it; one that only prefers it needs no word.
    fn tls(&mut self, sightings: &[Sighting]) {
        let conninfos = || sightings.iter().filter_map(|seen| Some(&seen.feed.as_ref()?.conninfo));
        let of = |conninfo: &Conninfo| {
            let sslmode = SSLMODES.into_iter().find(|mode| conninfo.get("sslmode") == Some(mode.as_str()))?;
            let file = |key: &str| conninfo.get(key).filter(|path| path.starts_with('/')).map(str::to_owned);
            let (sslrootcert, sslcert, sslkey) = (file("sslrootcert"), file("sslcert"), file("sslkey"));
            let (sslcert, sslkey) = sslcert.zip(sslkey).unzip();
            Some(Tls { sslmode, sslrootcert, sslcert, sslkey })
        };
        self.topology.replication.tls = conninfos().find_map(of);
        if conninfos().any(|conninfo| of(conninfo) != self.topology.replication.tls) {
            self.leave_out("TLS: not all standbys connect in the same way; `tls` is that of one of them");
        }
    }

    /// The user's rules in a block of pgpair's own: there they are all that the topology asks for.
    fn rules_of_own_block(&mut self, observed: &Observed) {
        let own = self.topology.nodes.keys().find_map(|name| {
            let found = block::find(&observed.node(name).cluster()?.hba).ok().flatten()?;
            (found.block.node == name.as_str()).then_some(found.block)
        });
        let Some(block) = own else { return };
        let rules = hba::parse(&block.lines.join("\n")).unwrap_or_default();
        let user = &self.topology.replication.user;
        let is_pgpairs = |rule: &&Rule| {
            let [database, role] = [&rule.databases, &rule.users]
                .map(|words| if let [word] = words.as_slice() { word.text.as_str() } else { "" });
            ["host", "hostssl"].contains(&rule.kind.as_str())
                && ["replication", REWIND_DATABASE].contains(&database)
                && role == user
        };
        let of_user = rules.iter().skip_while(is_pgpairs);
        self.topology.hba = of_user.map(hba_line).collect();
    }

    /// The method by which what the rules say of standbys is what the topology would ask for.
    fn auth(&mut self, sightings: &[Sighting], observed: &Observed) {
        if self.topology.standbys().next().is_none() {
            self.topology.replication.auth = ReplicationAuth::Trust;
            self.leave_out("how standbys are to log in: there is none yet; change `auth: trust` before you add one");
            return;
        }
        let mut topology = self.topology.clone();
        let has_certificate = topology.replication.tls.as_ref().is_some_and(|tls| tls.sslcert.is_some());
        let methods =
            [ReplicationAuth::ScramSha256, ReplicationAuth::Md5, ReplicationAuth::Cert, ReplicationAuth::Trust];
        let fitting =
            methods.into_iter().filter(|method| *method != ReplicationAuth::Cert || has_certificate).find(|method| {
                topology.replication.auth = *method;
                topology.nodes.values().all(|node| {
                    let cluster = observed.node(&node.name).cluster();
                    cluster.is_none_or(|cluster| drift::rules(&topology, node, cluster) == Ok(None))
                })
            });
        let has_password = sightings.iter().filter_map(|seen| seen.feed.as_ref()).any(|feed| feed.password.is_some());
        self.topology.replication.auth =
            fitting.unwrap_or(if has_password { ReplicationAuth::ScramSha256 } else { ReplicationAuth::Trust });
        if fitting.is_none() {
            self.leave_out(
                "pg_hba.conf: no one method lets all standbys in at the addresses that their upstreams know",
            );
        }
    }

    fn password(&mut self, sightings: &[Sighting], secret: &str) {
        let auth = self.topology.replication.auth;
        let found = sightings.iter().find_map(|seen| seen.feed.as_ref()?.password.clone());
        let is_needed = match auth {
            ReplicationAuth::ScramSha256 | ReplicationAuth::Md5 => true,
            ReplicationAuth::Trust | ReplicationAuth::Cert => false,
        };
        self.topology.replication.password = match found {
            Some(_) => Some(SecretRef::File(secret.to_owned())),
            None if is_needed => {
                self.leave_out(format!(
                    "the password of `{}`: it was not found where the standbys would have it; set {PASSWORD_VARIABLE} \
                     for pgpair, or name another place",
                    self.topology.replication.user
                ));
                Some(SecretRef::Env(PASSWORD_VARIABLE.to_owned()))
            }
            None => None,
        };
        self.password = found;
    }

    /// The synchronous standbys, where their names are those of nodes.
    fn synchronous(&mut self, observed: &Observed) {
        let Some(text) = synchronous::in_force(&self.topology, observed).filter(|text| !text.is_empty()) else {
            return;
        };
        if !self.express_synchronous(text) {
            self.topology.replication.synchronous = None;
            let what = format!(
                "`{} = {text}`: a topology says it by the names of nodes that stream from the primary; it stays as it is",
                synchronous::NAMES
            );
            self.leave_out(what);
        }
    }

    /// Brings the standbys into their order of priority where they are not. Returns whether it could be said.
    fn express_synchronous(&mut self, text: &str) -> bool {
        let elements = guc::elements(synchronous::NAMES, text).unwrap_or_default();
        let Some((method, names)) = elements.split_first() else { return false };
        let Some((method, num)) = method.split_once(' ') else { return false };
        let Ok(num) = num.parse::<u32>() else { return false };
        if usize::try_from(num).is_ok_and(|num| num > names.len()) {
            return false;
        }
        let method = if method == "ANY" { SyncMethod::Any } else { SyncMethod::First };
        let place = |node: &Node| names.iter().position(|name| name.eq_ignore_ascii_case(node.name.as_str()));
        let says_so = |topology: &mut Topology| {
            let named =
                topology.standbys().filter(|node| place(node).is_some()).map(|node| node.name.clone()).collect();
            // All of them need not be named.
            [Vec::new(), named].into_iter().any(|standbys| {
                topology.replication.synchronous = Some(Synchronous { method, num, standbys });
                let said = synchronous::names(topology).unwrap_or_default();
                guc::same(topology.postgresql.version, synchronous::NAMES, &said, text)
            })
        };
        says_so(&mut self.topology) || {
            let nodes = &mut self.topology.nodes;
            nodes.sort_by_key(|_, node| (node.role == Role::Standby, place(node).unwrap_or(names.len())));
            says_so(&mut self.topology)
        }
    }
}

fn hba_line(rule: &Rule) -> HbaLine {
    let options = rule.options.iter().filter_map(|option| option.split_once('='));
    HbaLine {
        kind: rule.kind.clone(),
        database: rule.databases.iter().map(|word| word.text.clone()).collect(),
        user: rule.users.iter().map(|word| word.text.clone()).collect(),
        address: rule.address.clone(),
        method: rule.method.clone(),
        options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}
