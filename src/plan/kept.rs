//! Which files in a data directory are the node's own configuration, which a rebuild keeps.
//!
//! They are those that PostgreSQL is told to read there: the configuration files with all that they include, the
//! certificates and keys that they name, and what the connection string of a standby names. Files elsewhere are no
//! part of a clone, and stay as they are.

use std::collections::BTreeSet;

use crate::pg::conf;
use crate::pg::conf::ConfFile;
use crate::pg::conf::ConfFiles;
use crate::pg::conninfo::Conninfo;
use crate::plan::desired::PASSFILE;

/// Files that every data directory may have. With them go the values of ALTER SYSTEM.
const ALWAYS: [&str; 5] = ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf", PASSFILE];

/// Parameters whose value is the path of a file or folder.
const PATHS: [&str; 7] = [
    "krb_server_keyfile",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_dir",
    "ssl_crl_file",
    "ssl_dh_params_file",
    "ssl_key_file",
];

/// What `ssl_cert_file` and `ssl_key_file` are by default.
const DEFAULTS: [&str; 2] = ["server.crt", "server.key"];

/// Parts of a connection string that are paths.
const CONNINFO_PATHS: [&str; 5] = ["passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl"];

/// Returns the paths of the node's own files and folders in its data directory, relative to it.
#[must_use]
pub fn own_files(conf: &ConfFiles, recovery_conf: Option<&str>, data_dir: &str) -> Vec<String> {
    let mut found = Found { data_dir, paths: ALWAYS.into_iter().chain(DEFAULTS).map(str::to_owned).collect() };
    for file in [Some(&conf.main), conf.auto.as_ref()].into_iter().flatten() {
        found.includes(file);
    }
    let mut values = conf.read().unwrap_or_default().values;
    for path in PATHS.into_iter().filter_map(|name| values.remove(name)) {
        found.add("", &path.value);
    }
    let recovery_conf = conf::parse(recovery_conf.unwrap_or_default()).entries;
    let there = recovery_conf.into_iter().filter(|entry| entry.name == "primary_conninfo").map(|entry| entry.value);
    let conninfos = values.remove("primary_conninfo").map(|placed| placed.value).into_iter().chain(there);
    for conninfo in conninfos.filter_map(|text| Conninfo::parse(&text).ok()) {
        for path in CONNINFO_PATHS.into_iter().filter_map(|key| conninfo.get(key)) {
            found.add("", path);
        }
    }
    found.paths.into_iter().collect()
}

struct Found<'a> {
    data_dir: &'a str,
    paths: BTreeSet<String>,
}

impl Found<'_> {
    /// What a configuration file includes is relative to the file.
    fn includes(&mut self, file: &ConfFile) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for entry in conf::parse(&file.text).entries.iter().filter(|entry| entry.is_include()) {
            self.add(folder, &entry.value);
        }
        for included in file.includes.iter().flatten() {
            self.add("", &included.path);
            self.includes(included);
        }
    }

    /// Adds a path, unless it leads out of the data directory or to the data themselves.
    fn add(&mut self, folder: &str, path: &str) {
        let inside = match path.strip_prefix('/') {
            Some(_) => path.strip_prefix(self.data_dir).and_then(|path| path.strip_prefix('/')).map(str::to_owned),
            None if folder.starts_with('/') => None,
            None => Some(format!("{folder}/{path}")),
        };
        let parts: Vec<&str> = inside.iter().flat_map(|path| path.split('/')).collect();
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty() && *part != ".").collect();
        let is_data = |first: &str| first == "base" || first == "global" || first.starts_with("pg_");
        let is_plain = !parts.contains(&"..");
        match parts.as_slice() {
            [] => {}
            [first, _, ..] if is_data(first) => {}
            [_, ..] if is_plain => drop(self.paths.insert(parts.join("/"))),
            [_, ..] => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::healthy;
    use crate::report::samples::name;
    use crate::report::samples::pair;

    fn kept(text: &str, includes: Vec<Vec<ConfFile>>) -> Vec<String> {
        let mut cluster = healthy(&pair()).node(&name("b")).cluster().expect("cloned").clone();
        cluster.conf.main = ConfFile { path: "postgresql.conf".into(), text: text.into(), includes };
        let usual: Vec<&str> = ALWAYS.into_iter().chain(DEFAULTS).collect();
        let kept = own_files(&cluster.conf, cluster.markers.recovery_conf.as_deref(), "/srv/b");
        assert!(usual.iter().all(|file| kept.contains(&(*file).to_owned())));
        kept.into_iter().filter(|file| !usual.contains(&file.as_str())).collect()
    }

    #[test]
    fn what_the_configuration_names_inside_the_data_directory_is_the_nodes_own() {
        assert_eq!(kept("work_mem = 4MB\n", Vec::new()), Vec::<String>::new());
        let tls = "ssl_cert_file = 'tls/b.crt'\nssl_key_file = '/srv/b/tls/b.key'\nssl_ca_file = '/etc/ssl/ca.pem'\n";
        assert_eq!(kept(tls, Vec::new()), ["tls/b.crt", "tls/b.key"]);
        let conninfo = "primary_conninfo = 'host=a passfile=/srv/b/own.pass sslkey=/home/x'\n";
        assert_eq!(kept(conninfo, Vec::new()), ["own.pass"]);
    }

    #[test]
    fn includes_are_the_nodes_own_with_what_they_include() {
        let inner = ConfFile { path: "conf.d/10.conf".into(), text: "include 'more.conf'\n".into(), includes: vec![] };
        let text = "include_dir 'conf.d'\ninclude_if_exists 'not-there.conf'\ninclude '/etc/shared.conf'\n";
        let kept = kept(text, vec![vec![inner], vec![], vec![]]);
        assert_eq!(kept, ["conf.d", "conf.d/10.conf", "conf.d/more.conf", "not-there.conf"]);
    }

    #[test]
    fn nothing_leads_out_of_the_data_directory_or_to_the_data() {
        let text = "include_dir '.'\ninclude '../x.conf'\nssl_cert_file = 'base/1/2'\nssl_key_file = 'pg_wal/k'\n";
        assert_eq!(kept(text, Vec::new()), Vec::<String>::new());
    }
}
