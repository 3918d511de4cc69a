//! The password file of libpq: `host:port:database:user:password`, one line an entry.

use crate::pg::secret::Secret;

/// Returns one line of a passfile, for any host and port, with its line break.
#[must_use]
pub fn line(database: &str, user: &str, password: &Secret) -> String {
    let [database, user, password] = [database, user, password.reveal()].map(escape);
    format!("*:*:{database}:{user}:{password}\n")
}

/// Returns the password of the first line for any host and port that is for this database and user.
#[must_use]
pub fn password(text: &str, database: &str, user: &str) -> Option<Secret> {
    text.lines().find_map(|line| {
        let mut fields = fields(line).into_iter();
        let mut next = || fields.next();
        let (host, port) = (next()?, next()?);
        let is_for = |field: String, name: &str| field == "*" || field == name;
        let is_ours = host == "*" && port == "*" && is_for(next()?, database) && is_for(next()?, user);
        next().filter(|_| is_ours).map(Secret::new)
    })
}

/// Returns the fields of a line, escapes undone.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, fields.last_mut()) {
            (':', _) => fields.push(String::new()),
            ('\\', Some(field)) => field.extend(chars.next()),
            (c, Some(field)) => field.push(c),
            (_, None) => {}
        }
    }
    fields
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

    #[test]
    fn what_was_written_is_read_back_for_its_database_and_user_alone() {
        let written = line("postgres", "r:p", &Secret::new("other".into()))
            + &line("replication", "r:p", &Secret::new(r"a:b\c".into()));
        let read = |database: &str, user: &str| password(&written, database, user).map(|it| it.reveal().to_owned());
        assert_eq!(read("replication", "r:p").as_deref(), Some(r"a:b\c"));
        assert_eq!(read("postgres", "r:p").as_deref(), Some("other"));
        assert_eq!(read("replication", "r"), None);
        assert!(password("# a comment\n*:*:x", "replication", "r").is_none());
    }
}
