//! Disks that are full for real. Only root can mount one.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;

use super::Workspace;

/// A small file system of its own on a folder of the workspace, unmounted when dropped.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(pair: &Workspace, name: &str, megabytes: u64) -> Self {
        pair.make_folder(name);
        let owner = fs::metadata(pair.path(name)).expect("our folder").uid();
        let options = format!("size={megabytes}m,uid={owner},mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(pair.path(name));
        assert!(mount.status().expect("mount runs").success());
        Self(pair.path(name))
    }

    /// Makes a folder a mount point, as if it were on a disk of its own: it can't be renamed then.
    pub(crate) fn pin(folder: PathBuf) -> Self {
        let mount = Command::new("mount").arg("--bind").args([&folder, &folder]).status().expect("mount runs");
        assert!(mount.success());
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
