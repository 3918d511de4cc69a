//! Values of parameters, and other spellings of each that PostgreSQL reads as the same.

/// A value, and what it may be written as.
pub(crate) struct Spellings {
    pub(crate) name: &'static str,
    /// The first major version that has the parameter.
    pub(crate) since: u32,
    pub(crate) wanted: &'static str,
    /// The first two are read so by version 10 too.
    pub(crate) spellings: [&'static str; 5],
}

const fn row(name: &'static str, since: u32, wanted: &'static str, spellings: [&'static str; 5]) -> Spellings {
    Spellings { name, since, wanted, spellings }
}

/// One row for each parameter. None needs a restart.
pub(crate) const SPELLINGS: &[Spellings] = &[
    row("work_mem", 10, "8MB", ["8192kB", "8192", "8 MB", "0x2000", "0.0078125GB"]),
    row("maintenance_work_mem", 10, "64MB", ["65536kB", "65536", "64 MB", "0200000", "0.0625GB"]),
    row("temp_file_limit", 10, "1GB", ["1048576kB", "1048576", "1 GB", "0x100000", "1024MB"]),
    row("statement_timeout", 10, "1min", ["60s", "60000", "60 s", "0xEA60", "60000ms"]),
    row("lock_timeout", 10, "2s", ["2000ms", "2000", "2 s", "0x7d0", "2000"]),
    row("idle_in_transaction_session_timeout", 10, "1h", ["60min", "3600000", "60 min", "3600s", "3600000ms"]),
    row("deadlock_timeout", 10, "1500ms", ["1500", "0x5dc", "1500 ms", "1.5s", "1500000us"]),
    row("log_min_duration_statement", 10, "250ms", ["250", "0xfa", "250 ms", "0.25s", "250000us"]),
    row("checkpoint_timeout", 10, "10min", ["600s", "600", "10 min", "0x258", "600000ms"]),
    row("log_rotation_age", 10, "1d", ["24h", "1440", "24 h", "1440min", "86400s"]),
    row("log_rotation_size", 10, "10MB", ["10240kB", "10240", "10 MB", "0x2800", "10485760B"]),
    row("max_wal_size", 10, "2GB", ["2048MB", "2048", "2 GB", "0x800", "2097152kB"]),
    row("min_wal_size", 10, "160MB", ["163840kB", "160", "160 MB", "0xa0", "0.15625GB"]),
    row("wal_keep_size", 13, "128MB", ["131072kB", "128", "128 MB", "0x80", "0.125GB"]),
    row("checkpoint_completion_target", 10, "0.5", ["0.50", "5e-1", ".5", "0.500", "50e-2"]),
    row("random_page_cost", 10, "1.1", ["1.10", "11e-1", "1.100", "1.1e0", "110e-2"]),
    row("seq_page_cost", 10, "1", ["1.0", "1e0", "1.00", "10e-1", "1."]),
    row("cpu_tuple_cost", 10, "0.02", ["0.020", "2e-2", ".02", "0.2e-1", "20e-3"]),
    row("autovacuum_vacuum_scale_factor", 10, "0.05", ["0.050", "5e-2", ".05", "0.5e-1", "50e-3"]),
    row("autovacuum_naptime", 10, "30s", ["30", "0x1e", "30 s", "0.5min", "30000ms"]),
    row("autovacuum_vacuum_threshold", 10, "100", ["0x64", "0144", "100", "1e2", "100.0"]),
    row("autovacuum", 10, "on", ["true", "yes", "1", "ON", "tru"]),
    row("log_connections", 10, "on", ["t", "YES", "1", "True", "y"]),
    row("log_disconnections", 10, "on", ["TRUE", "ye", "1", "oN", "t"]),
    row("log_lock_waits", 10, "on", ["true", "Yes", "1", "ON", "tr"]),
    row("enable_mergejoin", 10, "off", ["false", "no", "0", "OFF", "f"]),
    row("enable_hashjoin", 10, "off", ["FALSE", "n", "0", "of", "fals"]),
    row("hot_standby_feedback", 10, "on", ["true", "yes", "1", "ON", "t"]),
    row("log_checkpoints", 10, "off", ["false", "no", "0", "OFF", "Of"]),
    row("log_error_verbosity", 10, "verbose", ["VERBOSE", "Verbose", "vErbose", "verbosE", "verbose"]),
    row("log_statement", 10, "ddl", ["DDL", "Ddl", "dDl", "ddL", "ddl"]),
    row("log_min_messages", 10, "error", ["ERROR", "Error", "eRror", "errOr", "error"]),
    row("log_min_error_statement", 10, "log", ["LOG", "Log", "lOg", "loG", "log"]),
    row("client_min_messages", 10, "warning", ["WARNING", "Warning", "wArning", "warninG", "warning"]),
    row("synchronous_commit", 10, "local", ["LOCAL", "Local", "lOcal", "locaL", "local"]),
    row(
        "default_transaction_isolation",
        10,
        "repeatable read",
        ["REPEATABLE READ", "Repeatable Read", "repeatable READ", "REPEATABLE read", "repeatable read"],
    ),
    row("bytea_output", 10, "escape", ["ESCAPE", "Escape", "eScape", "escapE", "escape"]),
    row("intervalstyle", 10, "iso_8601", ["ISO_8601", "Iso_8601", "iSo_8601", "isO_8601", "iso_8601"]),
    row("effective_cache_size", 10, "4GB", ["4096MB", "524288", "4 GB", "0x80000", "4194304kB"]),
    row("temp_buffers", 10, "16MB", ["16384kB", "2048", "16 MB", "0x800", "0.015625GB"]),
    row("wal_writer_delay", 10, "100ms", ["100", "0x64", "100 ms", "0.1s", "100000us"]),
    row("bgwriter_delay", 10, "50ms", ["50", "0x32", "50 ms", "0.05s", "50000us"]),
    row("wal_receiver_timeout", 10, "30s", ["30000ms", "30000", "30 s", "0.5min", "0x7530"]),
    row("wal_sender_timeout", 10, "45s", ["45000ms", "45000", "45 s", "0.75min", "0xAFC8"]),
    row("max_standby_streaming_delay", 10, "5min", ["300s", "300000", "5 min", "0x493E0", "300000ms"]),
    row("vacuum_cost_limit", 10, "500", ["0x1f4", "0764", "500", "5e2", "500.0"]),
];
