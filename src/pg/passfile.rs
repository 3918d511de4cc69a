//! The password file of libpq: `host:port:database:user:password`, one line an entry.

use crate::pg::secret::Secret;

/// Returns one line of a passfile, for any host and port, with its line break.
#[must_use]
pub fn line(database: &str, user: &str, password: &Secret) -> String {
    let [database, user, password] = [database, user, password.reveal()].map(escape);
    format!("*:*:{database}:{user}:{password}\n")
}

/// An unescaped colon in a password makes it a wrong password.
fn escape(field: &str) -> String {
    field.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_and_backslashes_are_escaped() {
        let line = line("replication", "r:p", &Secret::new(r"a:b\c".into()));
        assert_eq!(line, "*:*:replication:r\\:p:a\\:b\\\\c\n");
    }
}
