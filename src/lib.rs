//! pgpair: PostgreSQL primary/standby pairs, declared in YAML, planned and applied.
//!
//! ```text
//! topology.yaml ─► Topology ─┐
//!                            ├─► plan(&Topology, &Observed) ─► Plan ─► report
//! World::observe ─► Observed ┘                                  └───► apply ─► World::perform, then look again
//! ```
//!
//! The modules stand in floors; a floor uses only floors below it (`tests/floors.rs` checks that).
//! Floors 0 to 2 and the reports are pure: no async, no file system, clock, network or randomness.

/// Floor 0: what PostgreSQL is.
pub mod pg {
    pub mod block;
    pub mod conf;
    pub mod conninfo;
    pub mod control;
    pub mod crc32c;
    pub mod guc;
    pub mod hba;
    pub mod history;
    pub mod lsn;
    pub mod passfile;
    pub mod scram;
    pub mod secret;
    pub mod version;
    pub mod wal;
}

// Floor 1: desired and observed, plain data.
pub mod observed;
pub mod topology;

// Floor 2: the pure core.
pub mod plan;

// Floor 3: everything that has an effect.
pub mod world;

// Floor 4: the executor and the renderings.
pub mod apply;
pub mod event;
pub mod report;

// Floor 5: the command line.
pub mod cli;
pub mod error;
