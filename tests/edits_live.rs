//! The rows of `fixtures/edits/*.yaml` that say `live`, on real servers: applied, planned again, and taken back.
//!
//! The pair of a file stays up from its first row to its last. Each row is applied by the binary and must get the plan
//! of the table; then the base is applied again, which must get the plan that the pure planner predicts.

#![expect(clippy::print_stdout, reason = "the time that each row takes is of interest")]

mod edits_table;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use std::time::Instant;

use pgpair::topology::NodeName;
use pgpair::topology::Topology;
use serde_yaml::Value;

use edits_table::Edit;
use edits_table::Group;
use edits_table::Predicted;
use edits_table::Shown;
use support::Ran;
use support::Version;
use support::Workspace;
use support::is_full;

/// How long a standby may take to stream again; it tries every 100 ms.
const RECONNECTS_WITHIN: Duration = Duration::from_secs(10);

/// A group of the table with its servers.
struct Living {
    group: Group,
    pair: Workspace,
    /// Free ports in the place of the table's.
    ports: BTreeMap<u64, u16>,
}

impl Living {
    fn new(group: &str) -> Self {
        let group = edits_table::group(group);
        let version = group.base["postgresql"]["version"].as_u64().expect("a version");
        let pair = Workspace::new(Version(u32::try_from(version).expect("a major")));
        let ports = ["a", "b"].map(|node| group.base["nodes"][node]["port"].as_u64().expect("a port"));
        let ports = ports.into_iter().zip(pair.ports).collect();
        let mut living = Self { group, pair, ports };
        living.make();
        living
    }

    /// The base, from nothing.
    fn make(&mut self) {
        self.write(&self.group.base.clone());
        self.pair.apply().exits(0);
    }

    /// Writes a topology of the table with what is this machine's own.
    fn write(&mut self, topology: &Value) {
        let mut topology = topology.clone();
        topology["postgresql"]["bin_dir"] = self.pair.bin_dir.to_string_lossy().as_ref().into();
        for (_, node) in topology["nodes"].as_mapping_mut().expect("nodes") {
            let port = node["port"].as_u64().expect("a port");
            let free = *self.ports.entry(port).or_insert_with(support::free_port);
            node["port"] = free.into();
        }
        self.pair.write("pgpair.yaml", &edits_table::text(&topology), 0o644);
    }

    /// Applies what is written with every allowance that the expected plan needs, and plans again.
    fn applied(&self, topology: &Topology, expected: &Shown) -> Result<(), String> {
        let allowances = expected.allowances().into_iter().collect::<Vec<_>>().join(",");
        let mut arguments = vec!["apply", "--auto-approve", "--format", "json"];
        if !allowances.is_empty() {
            arguments.extend(["--allow", &allowances]);
        }
        let code = match (expected.steps.is_empty(), expected.blocked.is_empty()) {
            (_, true) => 0,
            (true, false) => 3,
            (false, false) => 5,
        };
        let ran = self.pair.pgpair(&arguments);
        let found = shown(&ran, "/plan")?;
        if found != *expected {
            return Err(format!("expected\n{expected}    found\n{found}"));
        }
        if ran.code != Some(code) {
            return Err(format!("exit {:?}, not {code}\n{}", ran.code, said(&ran)));
        }
        let second = shown(&self.pair.pgpair(&["plan", "--format", "json"]), "")?;
        if second != expected.second() {
            return Err(format!("the second plan still has\n{second}"));
        }
        // An edit that concerns nobody's connection can't have shut anybody out.
        if expected.steps.is_empty() { Ok(()) } else { self.reconnects(topology) }
    }

    /// Cuts every stream: an edit that shuts a standby out is not seen as long as its connection lasts.
    fn reconnects(&self, topology: &Topology) -> Result<(), String> {
        let names: Vec<&str> = topology.nodes.keys().map(NodeName::as_str).collect();
        let streams = format!("from pg_stat_replication where application_name in ('{}')", names.join("', '"));
        for node in names {
            let cut = self.pair.try_sql(node, &format!("select pid, pg_terminate_backend(pid) {streams}")).stdout;
            let pids: Vec<&str> = cut.lines().filter_map(|line| line.split('|').next()).collect();
            if pids.is_empty() {
                continue;
            }
            let (count, pids) = (pids.len().to_string(), pids.join(", "));
            let anew = format!("select count(*) {streams} and state = 'streaming' and pid not in ({pids})");
            if !support::comes_true(RECONNECTS_WITHIN, || self.pair.try_sql(node, &anew).stdout.trim() == count) {
                return Err(format!("not all of the {count} standbys of {node} come back when their stream is cut"));
            }
        }
        Ok(())
    }

    /// One row, and back.
    fn follow(&mut self, edit: &Edit) -> Result<(), String> {
        let (base, edited) = (self.group.base.clone(), self.group.edited(edit));
        let (base_topology, edited_topology) = (edits_table::parsed(&base)?, edits_table::parsed(&edited)?);
        let mut predicted = Predicted::living(base_topology.clone());

        for node in &edit.stopped {
            predicted.stop(node);
            self.pair.pg_ctl(node, &["stop", "-m", "fast"]).exits(0);
        }
        predicted.edited_to(edited_topology.clone());
        self.write(&edited);
        if edit.new_password {
            predicted.change_password();
            self.pair.write("repuser.secret", "battery staple\n", 0o600);
        }
        predicted.follow();
        self.applied(&edited_topology, &Shown::expected(edit))?;

        for node in edits_table::added(&base, &edited) {
            predicted.stop(&node);
            predicted.delete(&node);
            self.pair.pg_ctl(&node, &["stop", "-m", "fast"]).exits(0);
            fs::remove_dir_all(self.pair.path(&node)).expect("our folder");
        }
        predicted.edited_to(base_topology.clone());
        self.write(&base);
        if edit.new_password {
            predicted.change_password();
            self.pair.write("repuser.secret", "correct horse\n", 0o600);
        }
        self.applied(&base_topology, &predicted.follow()).map_err(|wrong| format!("on the way back, {wrong}"))
    }

    /// The base anew, whatever a row has left.
    fn make_again(&mut self) {
        self.pair.clear();
        self.pair.write("repuser.secret", "correct horse\n", 0o600);
        self.make();
    }
}

/// Returns the plan at this place of a result.
fn shown(ran: &Ran, place: &str) -> Result<Shown, String> {
    let result: serde_json::Value = serde_json::from_str(&ran.stdout).map_err(|_| said(ran))?;
    let plan = result.pointer(place).ok_or_else(|| said(ran))?;
    let list = |key: &str| plan[key].as_array().cloned().ok_or_else(|| said(ran));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("all").to_owned();
    let (steps, blocked) = (list("steps")?, list("blocked")?);
    Ok(Shown {
        steps: steps.iter().map(|step| format!("{} {}", text(&step["id"]), text(&step["impact"]))).collect(),
        blocked: blocked.iter().map(|item| format!("{} {}", text(&item["node"]), text(&item["code"]))).collect(),
    })
}

/// What a run said, without the plan.
fn said(ran: &Ran) -> String {
    let mut result: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    if let Some(result) = result.as_object_mut() {
        result.remove("plan");
    }
    format!("{result:#}\n{}", ran.stderr)
}

fn the_rows_of(group: &str) {
    let mut living = Living::new(group);
    let edits: Vec<Edit> = std::mem::take(&mut living.group.edits);
    let mut wrong = String::new();
    // All of them where time is no matter.
    let every = if is_full() { 1 } else { 4 };
    for edit in edits.iter().filter(|edit| edit.live).step_by(every) {
        let start = Instant::now();
        if let Err(what) = living.follow(edit) {
            wrong += &format!("{group}: {}\n    {what}\n", edit.name);
            living.make_again();
        }
        println!("{:5.1} s  {group}: {}", start.elapsed().as_secs_f64(), edit.name);
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    living.pair.replicates();
}

#[test]
fn a_pair_of_15_follows_the_edits_of_the_table_and_back() {
    the_rows_of("pair");
}

#[test]
fn a_pair_of_10_follows_the_edits_of_the_table_and_back() {
    the_rows_of("pair-of-10");
}

#[test]
fn a_pair_without_password_and_slots_follows_the_edits_of_the_table_and_back() {
    the_rows_of("trust");
}

#[test]
fn three_nodes_follow_the_edits_of_the_table_and_back() {
    the_rows_of("trio");
}
