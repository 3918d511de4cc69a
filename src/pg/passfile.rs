//! The password file of libpq: `host:port:database:user:password`, one line an entry.

use crate::pg::secret::Secret;

/// Returns one line of a passfile, for any host and port, with its line break.
#[must_use]
pub fn line(database: &str, user: &str, password: &Secret) -> String {
    let [database, user, password] = [database, user, password.reveal()].map(escape);
    format!("*:*:{database}:{user}:{password}\n")
}

/// Returns the password that libpq takes out of a passfile for a connection: that of the first line that matches,
/// right or wrong. `host` is as the connection string has it, a socket's folder included.
#[must_use]
pub fn password(text: &str, host: &str, port: &str, database: &str, user: &str) -> Option<Secret> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = fields(line).into_iter();
        let matches = [host, port, database, user]
            .into_iter()
            .all(|wanted| fields.next().is_some_and(|(field, is_wild)| is_wild || field == wanted));
        let (password, _) = fields.next().filter(|_| matches)?;
        Some(Secret::new(password))
    })
}

/// The fields of a line without their escapes, and whether each is the `*` that stands for anything.
fn fields(line: &str) -> Vec<(String, bool)> {
    let mut fields = vec![(String::new(), false)];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, fields.last_mut()) {
            (':', _) => fields.push((String::new(), false)),
            ('\\', Some((field, is_wild))) => {
                field.extend(chars.next());
                *is_wild = false;
            }
            (c, Some((field, is_wild))) => {
                *is_wild = c == '*' && field.is_empty();
                field.push(c);
            }
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
    use proptest::prelude::*;

    #[test]
    fn colons_and_backslashes_are_escaped() {
        let line = line("replication", "r:p", &Secret::new(r"a:b\c".into()));
        assert_eq!(line, "*:*:replication:r\\:p:a\\:b\\\\c\n");
    }

    #[test]
    fn the_first_line_that_matches_gives_the_password() {
        let text = "# h:1:replication:u:comment\nh:2:replication:u:two\r\n/tmp:*:*:u:socket\n\\*:1:*:u:star\n\
                    h:*:replication:u\\:v:colon\nh:*:*:u:first\n*:*:*:*:last\n";
        let found = |host, port, user| password(text, host, port, "replication", user).map(|it| it.reveal().to_owned());
        assert_eq!(found("h", "1", "u").as_deref(), Some("first"));
        assert_eq!(found("h", "2", "u").as_deref(), Some("two"));
        assert_eq!(found("/tmp", "9", "u").as_deref(), Some("socket"));
        assert_eq!(found("h", "1", "u:v").as_deref(), Some("colon"));
        assert_eq!(found("other", "1", "x").as_deref(), Some("last"));
        assert_eq!(password("h:1:replication:u:x", "h", "1", "postgres", "u"), None);
        assert_eq!(password("h:1:replication", "h", "1", "replication", "u"), None);
    }

    proptest! {
        #[test]
        fn the_password_of_a_line_of_ours_is_read_back(user in "[^\r\n]+", secret in "[^\r\n]+") {
            let line = line("replication", &user, &Secret::new(secret.clone()));
            let found = password(&line, "h", "1", "replication", &user);
            prop_assert_eq!(found.map(|found| found.reveal().to_owned()), Some(secret));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = password(&text, "h", "1", "replication", "u");
        }
    }
}
