//! The password file of libpq: `host:port:database:user:password`, one line an entry.

use crate::pg::secret::Secret;

/// Returns one line of a passfile, with its line break.
#[must_use]
pub fn line(host: &str, port: u16, database: &str, user: &str, password: &Secret) -> String {
    let fields = [host, &port.to_string(), database, user, password.reveal()].map(escape);
    format!("{}\n", fields.join(":"))
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
        let line = line("::1", 5433, "replication", "rep", &Secret::new(r"a:b\c".into()));
        assert_eq!(line, "\\:\\:1:5433:replication:rep:a\\:b\\\\c\n");
    }
}
