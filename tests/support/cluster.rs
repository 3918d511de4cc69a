//! A workspace of up to four nodes, with pg_wal and tablespaces elsewhere.

use std::fs;
use std::ops::Deref;

use super::Version;
use super::Workspace;
use super::free_port;
use super::wait_until;

/// A workspace of up to four nodes.
pub(crate) struct Cluster {
    pair: Workspace,
    pub(crate) ports: [u16; 4],
}

const NODES: [&str; 4] = ["a", "b", "c", "d"];

impl Deref for Cluster {
    type Target = Workspace;

    fn deref(&self) -> &Workspace {
        &self.pair
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in ["d", "c"] {
            if self.data_dir(node).join("postmaster.pid").exists() {
                self.pg_ctl(node, &["stop", "-m", "immediate"]);
            }
        }
    }
}

impl Cluster {
    pub(crate) fn new(version: Version) -> Self {
        let mut pair = Workspace::new(version);
        let ports = [(); 4].map(|()| free_port());
        pair.ports = [ports[0], ports[1]];
        Self { pair, ports }
    }

    /// Writes the topology: the first node is the primary, each with further keys.
    pub(crate) fn nodes(&self, nodes: &[(&str, &str)]) {
        let (version, bin_dir) = (self.version.0, self.bin_dir.display());
        let mut text = format!(
            "version: 1\ncluster: test\n\
             postgresql: {{ version: {version}, bin_dir: {bin_dir}, initdb: {{ locale: C, no-sync: on }} }}\n\
             replication: {{ user: repuser, auth: scram-sha-256, password: {{ file: repuser.secret }} }}\n\
             parameters: {{ fsync: off, max_wal_senders: 10 }}\nnodes:\n"
        );
        for (index, (node, keys)) in nodes.iter().enumerate() {
            let role = if index == 0 { "primary" } else { "standby" };
            let port = self.ports[NODES.iter().position(|name| name == node).expect("one of the four")];
            text += &format!("  {node}: {{ role: {role}, port: {port}, data_dir: {node}/data{keys} }}\n");
        }
        self.write("pgpair.yaml", &text, 0o644);
    }

    /// Asserts that every node works and streams, and that nothing is left over.
    #[track_caller]
    pub(crate) fn works(&self, standbys: &[&str]) {
        self.in_sync();
        self.pgpair(&["status"]).exits(0);
        self.sql("a", "create table if not exists rows (n bigint)");
        let row =
            self.sql("a", "insert into rows values (extract(epoch from clock_timestamp()) * 1000000) returning n");
        for node in standbys {
            assert_eq!(self.sql(node, "select pg_is_in_recovery()"), "t");
            wait_until("the row is on the standby", || {
                self.try_sql(node, &format!("select count(*) from rows where n = {row}")).stdout.trim() == "1"
            });
        }
        assert_eq!(self.left_over(), Vec::<String>::new());
    }

    /// What pgpair makes for a while and must not leave.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = vec![self.path("")];
        while let Some(folder) = rest.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.contains(".pgpair-") || name.contains(".pgpair.bak") || name.ends_with(".lock") {
                    found.push(entry.path().display().to_string());
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && name != "base" {
                    rest.push(entry.path());
                }
            }
        }
        found
    }

    pub(crate) fn link(&self, node: &str, name: &str) -> String {
        fs::read_link(self.data_dir(node).join(name))
            .map_or_else(|error| error.to_string(), |to| to.display().to_string())
    }

    /// Where the only tablespace of a node lies.
    pub(crate) fn tablespace(&self, node: &str) -> String {
        self.sql(node, "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'")
    }

    /// A path of the workspace as a text.
    pub(crate) fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A primary alone, with a table in a tablespace of its own.
    pub(crate) fn primary_with_tablespace(&self) {
        self.nodes(&[("a", "")]);
        self.apply().exits(0);
        self.make_folder("space");
        self.make_folder("space/a");
        self.sql("a", &format!("create tablespace space location '{}'", self.at("space/a")));
        self.sql("a", "create table there tablespace space as select generate_series(1, 100) as n");
    }

    /// The `tablespaces` key that lets what lies in one folder of the workspace lie in another.
    pub(crate) fn mapping(&self, from: &str, to: &str) -> String {
        format!(", tablespaces: {{ {}: {} }}", self.at(from), self.at(to))
    }

    #[track_caller]
    pub(crate) fn has_the_table(&self, node: &str) {
        wait_until("the table is there", || self.try_sql(node, "select count(*) from there").stdout.trim() == "100");
    }

    /// Puts a script in the place of pg_basebackup, from now on; `$real` is the program.
    pub(crate) fn wrap_basebackup(&mut self, script: &str) {
        let real = self.bin_dir.clone();
        let bin_dir = self.path("bin");
        fs::create_dir(&bin_dir).expect("our folder");
        for entry in
            fs::read_dir(&real).expect("the programs").flatten().filter(|entry| entry.file_name() != "pg_basebackup")
        {
            std::os::unix::fs::symlink(entry.path(), bin_dir.join(entry.file_name())).expect("our link");
        }
        let text =
            format!("#!/bin/sh\nreal={}/pg_basebackup\nhere={}\n{script}\n", real.display(), self.path("").display());
        self.write("bin/pg_basebackup", &text, 0o755);
        self.pair.bin_dir = bin_dir;
    }

    pub(crate) fn slots(&self, node: &str) -> String {
        self.sql(node, "select string_agg(slot_name || ':' || active, ' ' order by slot_name) from pg_replication_slots where restart_lsn is not null")
    }
}
