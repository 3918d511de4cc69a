//! A postmaster's process, held so that a signal can't reach another one that has its number by now.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;

use crate::world::observe::server::PidFile;
use crate::world::probe::process::is_server_of;

/// The process of a running server.
pub(super) struct Postmaster(OwnedFd);

impl Postmaster {
    /// Takes hold of the postmaster of a data directory; none where it has ended.
    pub(super) fn of(file: &PidFile, data_dir: &str) -> io::Result<Option<Self>> {
        Self::hold(file.pid, data_dir)
    }

    /// The same of any process of a server on a data directory: a dead postmaster's children too.
    pub(super) fn hold(number: u32, data_dir: &str) -> io::Result<Option<Self>> {
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
        let process = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            opened => opened?,
        };
        // Checked while the descriptor holds it: from here on the signal can't reach another process.
        Ok(is_server_of(number, data_dir).then_some(Self(process)))
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.0, signal)?)
    }

    /// Waits for its end, and returns whether it came in this time.
    pub(super) fn ends_within(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // Readable when it has ended, also where it stays a zombie.
        Ok(rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout))? > 0)
    }
}
