//! The groups in which parameters are written, each with its title.

use std::collections::BTreeMap;

use indexmap::IndexMap;

/// What the names of a group's parameters begin with. The first group that fits counts, and the last takes the rest.
const GROUPS: [(&str, &[&str]); 8] = [
    (
        "Connections and security",
        &[
            "listen_",
            "unix_socket_",
            "max_connections",
            "superuser_reserved",
            "reserved_conn",
            "ssl",
            "tcp_",
            "password_",
            "authentication_",
            "krb_",
            "gss_",
            "client_connection",
            "bonjour",
            "row_security",
            "scram_",
        ],
    ),
    (
        "Replication",
        &[
            "max_wal_senders",
            "max_replication_slots",
            "max_slot_wal",
            "max_logical_rep",
            "max_sync_workers",
            "max_standby_",
            "hot_standby",
            "wal_keep_",
            "wal_sender_",
            "wal_receiver_",
            "wal_retrieve_",
            "track_commit_timestamp",
            "recovery_",
            "restore_command",
            "sync_replication",
            "synchronized_standby",
            "idle_replication",
        ],
    ),
    (
        "WAL, checkpoints and archiving",
        &[
            "wal_",
            "max_wal_size",
            "min_wal_size",
            "checkpoint_",
            "archive_",
            "fsync",
            "full_page_writes",
            "synchronous_commit",
            "commit_",
            "summarize_wal",
        ],
    ),
    (
        "Memory, processes and disk",
        &[
            "shared_buffers",
            "shared_memory",
            "huge_page",
            "temp_",
            "work_mem",
            "maintenance_",
            "logical_decoding_work_mem",
            "hash_mem",
            "autovacuum_work_mem",
            "max_worker_processes",
            "max_parallel_",
            "max_prepared_",
            "max_stack_",
            "max_files_",
            "max_locks_",
            "dynamic_shared_",
            "effective_io_",
            "io_",
            "bgwriter_",
            "backend_flush_",
            "external_pid_file",
        ],
    ),
    ("Vacuum", &["autovacuum", "vacuum_"]),
    (
        "Planning of queries",
        &[
            "enable_",
            "cpu_",
            "seq_page_cost",
            "random_page_cost",
            "parallel_",
            "min_parallel_",
            "effective_cache_size",
            "default_statistics_target",
            "geqo",
            "jit",
            "plan_cache_mode",
            "constraint_exclusion",
            "from_collapse",
            "join_collapse",
        ],
    ),
    (
        "Logging and statistics",
        &["log_", "logging_", "syslog_", "event_source", "cluster_name", "update_process_title", "track_", "stats_"],
    ),
    ("The rest, and extensions", &[""]),
];

/// The place of a parameter's group among the groups.
pub(super) fn group(name: &str) -> usize {
    let begins = |(_, beginnings): &(&str, &[&str])| beginnings.iter().any(|beginning| name.starts_with(beginning));
    GROUPS.iter().position(begins).unwrap_or(GROUPS.len() - 1)
}

/// Returns the title that stands before the first parameter of each group.
pub(super) fn titles(parameters: &IndexMap<String, String>) -> BTreeMap<String, String> {
    let mut last = None;
    let begins_group = |name: &&String| last.replace(group(name)) != Some(group(name));
    parameters.keys().filter(begins_group).map(|name| (name.clone(), GROUPS[group(name)].0.to_owned())).collect()
}
