//! The files of `replication.tls` on a node, as libpq judges them for the node's own user.

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use crate::observed::TlsProblem;
use crate::observed::TlsTrouble;
use crate::topology::Tls;

/// Returns what keeps each file from being used, with the rights of the calling thread.
pub(super) fn problems(tls: &Tls) -> Vec<TlsProblem> {
    let files = [("sslrootcert", &tls.sslrootcert), ("sslcert", &tls.sslcert), ("sslkey", &tls.sslkey)];
    let problem = |(key, path): (&'static str, &Option<String>)| {
        let path = path.as_ref()?;
        let trouble = trouble(path, key == "sslkey")?;
        Some(TlsProblem { key: key.to_owned(), path: path.clone(), trouble })
    };
    files.into_iter().filter_map(problem).collect()
}

fn trouble(path: &str, is_key: bool) -> Option<TlsTrouble> {
    let of = |error: &io::Error| {
        let is_nothing = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind());
        if is_nothing { TlsTrouble::Missing } else { TlsTrouble::Unreadable(error.to_string()) }
    };
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) => return Some(of(&error)),
    };
    if !found.is_file() {
        return Some(TlsTrouble::NotAFile);
    }
    if let Err(error) = File::open(path) {
        return Some(of(&error));
    }
    // `initialize_SSL` in fe-secure-openssl.c: root may let a group read it.
    let by_root = found.uid() == 0;
    let most = if by_root { 0o740 } else { 0o700 };
    let mode = found.mode() & 0o777;
    (is_key && mode & !most != 0).then_some(TlsTrouble::TooOpen { mode, by_root })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;
    use crate::topology::SslMode;

    fn told(folder: &Path) -> Vec<(String, TlsTrouble)> {
        let path = |name: &str| Some(folder.join(name).display().to_string());
        let tls =
            Tls { sslmode: SslMode::Require, sslrootcert: None, sslcert: path("repl.crt"), sslkey: path("repl.key") };
        problems(&tls).into_iter().map(|problem| (problem.key, problem.trouble)).collect()
    }

    #[test]
    fn a_key_is_for_its_owner_alone_and_roots_for_a_group_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        fs::write(folder.join("repl.crt"), "").expect("written");
        assert_eq!(told(folder), [("sslkey".into(), TlsTrouble::Missing)]);
        let key = folder.join("repl.key");
        fs::write(&key, "").expect("written");
        let by_root = fs::metadata(&key).expect("there").uid() == 0;
        for (mode, is_good) in [(0o600, true), (0o400, true), (0o640, by_root), (0o660, false), (0o604, false)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("ours");
            let expected = [("sslkey".to_owned(), TlsTrouble::TooOpen { mode, by_root })];
            assert_eq!(told(folder), if is_good { &[][..] } else { &expected[..] }, "{mode:o}");
        }
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("ours");
        fs::set_permissions(folder.join("repl.crt"), fs::Permissions::from_mode(0o644)).expect("ours");
        assert_eq!(told(folder), [], "a certificate is no secret");
        fs::remove_file(folder.join("repl.crt")).expect("ours");
        fs::create_dir(folder.join("repl.crt")).expect("made");
        assert_eq!(told(folder), [("sslcert".into(), TlsTrouble::NotAFile)]);
    }
}
