//! Hides what is secret in a whole observation, so that it can be stored, and a plan be made of it that has the same steps.
//!
//! What the topology itself says stays: it stands beside the observation. What is hidden stays a value, a rule, a block
//! of pgpair's that is intact or not.

use crate::observed::Cluster;
use crate::observed::DataDir;
use crate::observed::Observed;
use crate::pg::block;
use crate::pg::conf::ConfFile;
use crate::pg::conf::ConfFiles;
use crate::pg::conninfo;
use crate::pg::conninfo::Conninfo;
use crate::pg::hba;
use crate::pg::hba::Rule;
use crate::pg::hba::Word;
use crate::pg::secret::HIDDEN;
use crate::plan::Digest;
use crate::plan::desired;
use crate::plan::redact::conf_text_with;
use crate::plan::redact::hide_line;
use crate::plan::redact::is_ours;
use crate::plan::redact::names_secret;
use crate::plan::redact::setting;
use crate::topology::Topology;

/// Returns the observation with its secrets hidden.
#[must_use]
pub fn observed(observed: &Observed, topology: &Topology) -> Observed {
    let hide = Hide { topology, own_rules: desired::user_rules(topology) };
    let mut shown = observed.clone();
    for seen in shown.nodes.values_mut() {
        if let Some(place) = seen.place.known_mut() {
            if let DataDir::Cluster(cluster) = &mut place.data_dir {
                hide.cluster(cluster);
            }
            if let Some(kept) = &mut place.made_way {
                hide.files(&mut kept.conf);
                kept.hba = hide.rules(&kept.hba);
                kept.recovery_conf = kept.recovery_conf.take().map(|text| hide.conf(&text));
            }
        }
        if let Some(sql) = seen.sql_mut() {
            for (name, setting) in &mut sql.settings {
                setting.value = hide.value(name, &setting.value);
            }
        }
    }
    shown
}

/// Returns the SHA-256 of the facts that a plan rests on: measures and secrets left out.
#[must_use]
pub fn digest(seen: &Observed, topology: &Topology) -> String {
    let facts = observed(&seen.without_measures(), topology);
    // Plain data with string keys: there is nothing in it that JSON can't say.
    Digest::of(&serde_json::to_string(&facts).unwrap_or_default()).0
}

struct Hide<'a> {
    topology: &'a Topology,
    /// The rules that the topology itself has.
    own_rules: Vec<String>,
}

impl Hide<'_> {
    fn cluster(&self, cluster: &mut Cluster) {
        self.files(&mut cluster.conf);
        cluster.hba = self.rules(&cluster.hba);
        cluster.markers.recovery_conf = cluster.markers.recovery_conf.take().map(|text| self.conf(&text));
    }

    fn files(&self, files: &mut ConfFiles) {
        self.file(&mut files.main);
        if let Some(auto) = &mut files.auto {
            self.file(auto);
        }
        files.replaced = files.replaced.take().map(|text| self.conf(&text));
    }

    fn file(&self, file: &mut ConfFile) {
        file.text = self.conf(&file.text);
        file.includes.iter_mut().flatten().for_each(|included| self.file(included));
    }

    fn conf(&self, text: &str) -> String {
        as_intact_as(text, conf_text_with(text, &|name, value| self.value(name, value)))
    }

    fn value(&self, name: &str, value: &str) -> String {
        let is_conninfo = name == "primary_conninfo";
        let is_plain = is_conninfo && !conninfo::may_hold_secret(value) && Conninfo::parse(value).is_ok();
        if is_plain || is_ours(name, value, self.topology) {
            return value.to_owned();
        }
        setting(name, value, self.topology)
    }

    fn rules(&self, text: &str) -> String {
        let lines: Vec<String> = text.split('\n').map(|line| self.rule(line)).collect();
        as_intact_as(text, lines.join("\n"))
    }

    fn rule(&self, line: &str) -> String {
        let rule = hba::parse(line).ok().and_then(|mut rules| rules.pop());
        let has_secret = rule.iter().flat_map(|rule| &rule.options).any(|option| names_secret(option));
        if !(has_secret || names_secret(line)) || self.own_rules.iter().any(|own| own == line) {
            return line.to_owned();
        }
        rule.map_or_else(|| hide_line(line), |rule| without_secrets(&rule))
    }
}

/// Writes a rule anew: everything stays but the options that hold a secret, and what is said behind it.
fn without_secrets(rule: &Rule) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let word = |word: &Word| if word.quoted { quoted(&word.text) } else { word.text.clone() };
    let list = |words: &[Word]| words.iter().map(word).collect::<Vec<_>>().join(",");
    let mut columns = vec![rule.kind.clone(), list(&rule.databases), list(&rule.users)];
    columns.extend(rule.address.as_deref().map(quoted));
    columns.push(rule.method.clone());
    for option in &rule.options {
        let name = option.split('=').next().unwrap_or_default();
        columns.push(quoted(&if names_secret(option) { format!("{name}={HIDDEN}") } else { option.clone() }));
    }
    columns.join(" ")
}

/// An intact block is one still, and one that was edited by hand is none.
fn as_intact_as(text: &str, shown: String) -> String {
    let is_intact = |text: &str| block::find(text).is_ok_and(|found| found.is_some_and(|found| found.intact));
    if shown != text && is_intact(text) { block::resealed(&shown) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::MadeWay;
    use crate::observed::Reading;
    use crate::plan::planner::plan;
    use crate::report::samples::healthy;
    use crate::report::samples::nothing;
    use crate::report::samples::pair;

    const CONF: &str = "restore_command = 'scp hunter2@h' # from hunter2\nport = 5433 # password = hunter2\n\
        primary_conninfo = 'host=h password=hunter2'\n#ssl_passphrase_command = 'echo hunter2'\n";
    const HBA: &str = "host \"all\" all 10.0.0.0 255.0.0.0 ldap ldapserver=s ldapbindpasswd=hunter2\n\
        #host all all all ldap ldapbindpasswd=hunter2\nhost all all all md5 # ldapbindpasswd=hunter2\n";

    /// A cluster with a secret in every place that may have one.
    fn with_secrets(mut seen: Observed) -> Observed {
        for node in seen.nodes.values_mut() {
            if let Some(cluster) = node.cluster_mut() {
                cluster.conf.main.text.insert_str(0, CONF);
                let auto = ConfFile { path: "postgresql.auto.conf".into(), text: CONF.into(), includes: Vec::new() };
                cluster.conf.auto = Some(auto);
                cluster.conf.replaced = Some(CONF.into());
                cluster.hba.push_str(HBA);
                cluster.markers.recovery_conf = Some(CONF.into());
                // Somebody has edited nothing by hand: what pgpair wrote for an older topology is in its block.
                let text =
                    cluster.hba.replacen("# END pgpair", "host x y all ldap ldapbindpasswd=hunter2\n# END pgpair", 1);
                cluster.hba = block::resealed(&text);
                let kept = MadeWay {
                    identity: cluster.identity.clone(),
                    conf: cluster.conf.clone(),
                    hba: HBA.into(),
                    passfile: cluster.passfile,
                    recovery_conf: Some(CONF.into()),
                };
                if let Reading::Known(place) = &mut node.place {
                    place.made_way = Some(Box::new(kept));
                }
            }
            if let Some(setting) = node.sql_mut().and_then(|sql| sql.settings.get("port").cloned()) {
                let secret = |value: &str| crate::observed::Setting { value: value.into(), ..setting.clone() };
                let settings = &mut node.sql_mut().expect("it runs").settings;
                settings.insert("archive_command".into(), secret("scp hunter2@h"));
                settings.insert("my.dsn".into(), secret("postgresql://u:hunter2@h/"));
            }
        }
        seen
    }

    #[test]
    fn no_secret_is_left_and_the_plan_has_the_same_steps() {
        for seen in [nothing(&pair()), healthy(&pair())] {
            let seen = with_secrets(seen);
            let hidden = observed(&seen, &pair());
            let text = serde_json::to_string(&hidden).expect("plain data");
            assert!(!text.contains("hunter2"), "{text}");
            let told = |seen: &Observed| {
                let plan = plan(&pair(), seen);
                let steps = plan.steps.into_iter().map(|step| (step.id, step.impact, step.reason));
                (steps.collect::<Vec<_>>(), plan.blocked)
            };
            assert_eq!(told(&hidden), told(&seen));
            assert_eq!(observed(&hidden, &pair()), hidden, "once is enough");
            assert_eq!(digest(&hidden, &pair()), digest(&seen, &pair()));
        }
    }

    #[test]
    fn a_rule_keeps_everything_but_its_secret_and_a_block_stays_intact() {
        let seen = with_secrets(healthy(&pair()));
        let of = |seen: &Observed| seen.nodes.values().next().and_then(|node| node.cluster().cloned()).expect("made");
        let (before, after) = (of(&seen), of(&observed(&seen, &pair())));
        let rules = |text: &str| hba::parse(text).expect("good rules");
        let head = |rule: &Rule| (rule.kind.clone(), rule.databases.clone(), rule.users.clone(), rule.address.clone());
        let heads = |text: &str| rules(text).iter().map(head).collect::<Vec<_>>();
        assert_eq!(heads(&after.hba), heads(&before.hba));
        assert!(after.hba.contains("ldapserver=s\" \"ldapbindpasswd=(secret)\""), "{}", after.hba);
        assert!(block::find(&after.hba).is_ok_and(|found| found.is_some_and(|found| found.intact)));
        assert!(after.conf.main.text.contains("port = '5433' # (secret)"), "{}", after.conf.main.text);
    }
}
