//! Points before and inside a step at which a test can end pgpair, as `kill -9` would.
//!
//! `PGPAIR_FAILPOINT` names one, or the step before which it ends. Only a build with debug assertions knows them.

/// Where pgpair can be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// The old primary is fenced; nothing else is done.
    Fenced,
    /// The stop of the old primary was issued.
    StopIssued,
    /// No process of the old primary lives any more.
    TakenDown,
    /// The old primary's pg_control says that it is shut down.
    ShutDown,
    /// All of its WAL is on the candidate.
    Proven,
    /// The promote file is written, and its server not told.
    PromoteFile,
    /// The candidate was told.
    Signalled,
    /// The candidate accepts writes.
    Promoted,
    /// The fence of an old primary was taken away again.
    Unfenced,
    /// The start of a server was issued.
    StartIssued,
    /// The configuration of a node that is rewound is kept aside.
    ConfigurationKept,
    /// What it holds alone is kept aside.
    DivergedKept,
    /// Its data directory is where it is rewound.
    MovedAside,
    /// What it wrote last is recovered.
    Recovered,
    /// The primary has made a checkpoint for it.
    SourceCheckpointed,
    /// pg_rewind has done its work.
    Rewound,
    /// It has its own files again.
    PutBack,
    /// Its data directory is in its place.
    MovedBack,
}

impl Failpoint {
    /// Its name in `PGPAIR_FAILPOINT`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::StopIssued => "stop_issued",
            Self::TakenDown => "taken_down",
            Self::ShutDown => "shut_down",
            Self::Proven => "proven",
            Self::PromoteFile => "promote_file",
            Self::Signalled => "signalled",
            Self::Promoted => "promoted",
            Self::Unfenced => "unfenced",
            Self::StartIssued => "start_issued",
            Self::ConfigurationKept => "configuration_kept",
            Self::DivergedKept => "diverged_kept",
            Self::MovedAside => "moved_aside",
            Self::Recovered => "recovered",
            Self::SourceCheckpointed => "source_checkpointed",
            Self::Rewound => "rewound",
            Self::PutBack => "put_back",
            Self::MovedBack => "moved_back",
        }
    }

    /// Ends pgpair here, if that was asked for.
    pub fn pass(self) {
        end_at(self.name());
    }
}

/// Ends pgpair before the step of this ID, if that was asked for.
pub fn before(step: &str) {
    end_at(step);
}

fn end_at(point: &str) {
    if cfg!(debug_assertions) && std::env::var("PGPAIR_FAILPOINT").is_ok_and(|name| name == point) {
        // Nothing of ours runs after it: no destructor, no handler.
        let _ends_here = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
