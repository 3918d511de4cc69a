//! File systems that should be mounted and are not: what looks like an empty folder may be a disk that is missing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Where systemd has its units, the strongest first.
const UNIT_DIRS: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];

/// The mount points of this machine.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    mounted: BTreeSet<String>,
    /// Where something is to be mounted, by fstab or a mount unit.
    planned: Vec<String>,
}

impl Mounts {
    /// Reads them.
    #[must_use]
    pub fn read() -> Self {
        let mut planned = fs::read_to_string("/etc/fstab").map(|text| parse_fstab(&text)).unwrap_or_default();
        planned.extend(mount_units(&UNIT_DIRS.map(Path::new)));
        let mounted = fs::read_to_string("/proc/self/mountinfo").map(|text| parse_mountinfo(&text));
        Self { mounted: mounted.unwrap_or_default(), planned }
    }

    /// Returns the mount point at or above `path` where something is to be mounted and nothing is.
    #[must_use]
    pub fn unmounted(&self, path: &str) -> Option<String> {
        let missing = |path: &str| missing(&self.planned, &self.mounted, path);
        missing(path).or_else(|| missing(&resolved(path)?))
    }

    /// Whether a file system is mounted at this very path, which then can't be renamed.
    #[must_use]
    pub fn is_mount_point(&self, path: &str) -> bool {
        self.mounted.contains(path) || resolved(path).is_some_and(|path| self.mounted.contains(&path))
    }
}

/// Returns the path with the symbolic links of its existing part followed.
fn resolved(path: &str) -> Option<String> {
    let path = Path::new(path);
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let rest = path.strip_prefix(existing).ok()?;
    let resolved = fs::canonicalize(existing).ok()?;
    // Joining nothing would leave a slash at the end.
    let whole = if rest.as_os_str().is_empty() { resolved } else { resolved.join(rest) };
    whole.into_os_string().into_string().ok()
}

fn missing(planned: &[String], mounted: &BTreeSet<String>, path: &str) -> Option<String> {
    let above = |point: &&String| *point != "/" && Path::new(path).starts_with(point.as_str());
    planned.iter().filter(above).find(|point| !mounted.contains(*point)).cloned()
}

/// Returns the mount points of fstab. `noauto` ones count: an empty folder is no proof that there is no data.
fn parse_fstab(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().nth(1)).filter_map(mount_point).collect()
}

fn parse_mountinfo(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.split_whitespace().nth(4)).filter_map(mount_point).collect()
}

/// Returns a mount point as a plain path: escapes resolved, no slash at the end; none for `none` and `swap`.
fn mount_point(field: &str) -> Option<String> {
    let path = unescape(field);
    if !path.starts_with('/') {
        return None;
    }
    let trimmed = path.trim_end_matches('/');
    Some(if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() })
}

/// Resolves the octal escapes of fstab and mountinfo: `\040` is a blank.
fn unescape(field: &str) -> String {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = bytes.get(at + 1..at + 4).filter(|_| byte == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                out.push(escaped);
                at += 4;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns the mount points of systemd's mount units.
///
/// A unit of the same name in a stronger folder hides the weaker one; a link to /dev/null masks it. What a package
/// brings (/usr/lib) counts only if something wants it: `tmp.mount` often lies there and is not in use.
fn mount_units(dirs: &[&Path]) -> Vec<String> {
    let mut units: BTreeMap<String, (usize, PathBuf)> = BTreeMap::new();
    let mut in_use = BTreeSet::new();
    for (rank, dir) in dirs.iter().enumerate() {
        for path in entries(dir) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(".wants") || name.ends_with(".requires") {
                let wanted = entries(&path);
                in_use.extend(wanted.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)));
            } else if name.ends_with(".mount") {
                units.entry(name.to_owned()).or_insert((rank, path));
            }
        }
    }
    let of_package = dirs.len() - 1;
    let counting = units.into_iter().filter(|(name, (rank, _))| *rank < of_package || in_use.contains(name));
    counting.filter_map(|(_, (_, path))| parse_unit(&fs::read_to_string(path).ok()?)).collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

/// Returns the last `Where=` of a unit.
fn parse_unit(text: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("Where"));
    let value = lines.filter_map(|line| line.trim_start().strip_prefix('=')).next_back()?;
    mount_point(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_planned_mount_at_or_above_the_path_is_missed() {
        let fstab = "# /dev/sda1 /commented ext4\nUUID=1 / ext4 defaults 0 1\n/dev/sdb1 /data\\040disk/ xfs noauto 0 0\n\
                     /dev/sdc1\t/wal ext4\n/dev/sdd none swap sw 0 0\ntmpfs /up tmpfs\nbroken\n";
        let planned = parse_fstab(fstab);
        assert_eq!(planned, ["/", "/data disk", "/wal", "/up"]);
        let mountinfo = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n23 22 0:5 / /up rw - tmpfs tmpfs rw\n";
        let mounted = parse_mountinfo(mountinfo);
        let missing = |path| missing(&planned, &mounted, path);
        assert_eq!(missing("/data disk/pg/a").as_deref(), Some("/data disk"));
        assert_eq!(missing("/wal").as_deref(), Some("/wal"));
        assert_eq!(missing("/wal2/a"), None, "a name that only begins alike");
        assert_eq!(missing("/up/pg"), None, "it is mounted");
        assert_eq!(missing("/srv/pg"), None, "the root is always there");
    }

    #[test]
    fn a_mount_unit_counts_unless_masked_or_left_unused_in_its_package() {
        let folder = tempfile::tempdir().expect("a folder");
        let dirs = ["etc", "run", "lib"].map(|name| folder.path().join(name));
        let unit = |dir: &Path, name: &str, point: &str| {
            fs::create_dir_all(dir).expect("a folder");
            fs::write(dir.join(name), format!("[Mount]\nWhat=/dev/x\nWhere = {point}\n")).expect("a unit");
        };
        unit(&dirs[0], "srv.mount", "/srv");
        unit(&dirs[2], "srv.mount", "/srv-of-the-package");
        unit(&dirs[1], "mnt.mount", "\"/mnt\"");
        unit(&dirs[2], "tmp.mount", "/tmp");
        unit(&dirs[2], "data.mount", "/data");
        unit(&dirs[2].join("local-fs.target.wants"), "data.mount", "/data");
        unit(&dirs[2], "gone.mount", "/gone");
        unit(&dirs[2].join("local-fs.target.wants"), "gone.mount", "/gone");
        std::os::unix::fs::symlink("/dev/null", dirs[0].join("gone.mount")).expect("a link");
        let dirs = dirs.each_ref().map(PathBuf::as_path);
        assert_eq!(mount_units(&dirs), ["/data", "/mnt", "/srv"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text: String) {
            let _ = parse_fstab(&text);
            let _ = parse_mountinfo(&text);
            let _ = parse_unit(&format!("Where={text}"));
        }

        #[test]
        fn what_mountinfo_escapes_is_read_back(name in "/[a-z \t\n\\\\é]{0,9}x") {
            let escaped: String = name.chars().map(|c| match c {
                ' ' | '\t' | '\n' | '\\' => format!("\\{:03o}", c as u32),
                c => c.to_string(),
            }).collect();
            prop_assert_eq!(unescape(&escaped), name);
        }
    }
}
