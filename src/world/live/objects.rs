//! What lives in a server: the replication role and the slots.

use std::fs::File;
use std::io::Read as _;

use crate::pg::scram;
use crate::plan::WantedRole;
use crate::plan::desired::REWIND_DATABASE;
use crate::world::Failure;
use crate::world::live::Site;
use crate::world::sql::Session;

/// What pg_rewind reads its source through (11 and later).
const REWIND_FUNCTIONS: [&str; 4] = [
    "pg_catalog.pg_ls_dir(text, boolean, boolean)",
    "pg_catalog.pg_stat_file(text, boolean)",
    "pg_catalog.pg_read_binary_file(text)",
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// As long as PostgreSQL's own.
const SALT_LENGTH: usize = 16;

/// Nothing of the session's next statements is to be in the server's log, and none waits for a standby: that may be
/// what it makes possible.
///
/// A message of its own, before any transaction: `log_statement` is judged when a message arrives,
/// `log_transaction_sample_rate` (12 and later) when a transaction begins.
const QUIETLY: &str = "SELECT set_config(name, quiet, false) FROM pg_catalog.pg_settings JOIN (VALUES \
                       ('log_statement', 'none'), ('log_min_duration_statement', '-1'), \
                       ('log_min_duration_sample', '-1'), ('log_transaction_sample_rate', '0'), \
                       ('log_min_error_statement', 'panic'), ('synchronous_commit', 'local')) \
                       AS quietly (name, quiet) USING (name)";

impl Site<'_> {
    pub(super) async fn replication_role(&self, wanted: &WantedRole) -> Result<(), Failure> {
        let session = self.session().await?;
        let ask = "SELECT count(*) > 0 FROM pg_catalog.pg_roles WHERE rolname = $1";
        let row = session.query_one(ask, &[&wanted.name]).await;
        let exists: bool = row.map_err(|error| self.bad_sql("its roles can't be read", error))?.get(0);
        let verb = if exists { "ALTER" } else { "CREATE" };
        let mut statement = format!("{verb} ROLE {} LOGIN REPLICATION", quote_name(&wanted.name));
        if let Some(limit) = wanted.connection_limit {
            statement.push_str(&format!(" CONNECTION LIMIT {limit}"));
        }
        if wanted.with_password {
            statement.push_str(&format!(" PASSWORD {}", quote_text(&self.verifier().await?)));
        }
        let what = format!("the replication role `{}` can't be made as the topology says", wanted.name);
        self.run_quietly(&session, &statement, &what).await?;
        if wanted.rewind_grants {
            let on = REWIND_FUNCTIONS.join(", ");
            let grant = format!("GRANT EXECUTE ON FUNCTION {on} TO {}", quote_name(&wanted.name));
            let session = self.session_on(REWIND_DATABASE).await?;
            let what = format!("the replication role `{}` can't be given what pg_rewind needs", wanted.name);
            self.run_quietly(&session, &grant, &what).await?;
        }
        Ok(())
    }

    async fn run_quietly(&self, session: &Session, statement: &str, what: &str) -> Result<(), Failure> {
        for message in [QUIETLY, statement] {
            session.run(message).await.map_err(|error| self.bad_sql(what, error))?;
        }
        Ok(())
    }

    /// Returns what the server stores of the replication password: a SCRAM verifier also for `md5`, which takes it, so
    /// that no change between the two shuts a standby out.
    async fn verifier(&self) -> Result<String, Failure> {
        let password = self.replication_password().await?;
        let made = self.seat.blocking(move || {
            let mut salt = [0; SALT_LENGTH];
            File::open("/dev/urandom")?.read_exact(&mut salt)?;
            std::io::Result::Ok(scram::verifier(&password, &salt, scram::ITERATIONS))
        });
        made.await.map_err(|error| self.failure(format!("`/dev/urandom` can't be read: {error}")))
    }

    pub(super) async fn slot(&self, name: &str, reserve: bool) -> Result<(), Failure> {
        let session = self.session().await?;
        let ask = "SELECT slot_type = 'physical', restart_lsn IS NOT NULL, active \
                   FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
        let found = session.query_opt(ask, &[&name]).await;
        let found = found.map_err(|error| self.bad_sql("its slots can't be read", error))?;
        let unmade = |error| self.bad_sql(&format!("the slot `{name}` can't be made"), error);
        if let Some(row) = found {
            let (is_physical, reserved, active): (bool, bool, bool) = (row.get(0), row.get(1), row.get(2));
            if !is_physical {
                let failure = self.failure(format!("the slot `{name}` is there, and is a logical one"));
                return Err(failure.with_remedy("name another slot with the standby's `slot:`"));
            }
            if reserved || !reserve || active {
                return Ok(());
            }
            // One that holds nothing back has nothing to lose, and can't be told to begin.
            session.query_one("SELECT pg_drop_replication_slot($1)", &[&name]).await.map_err(unmade)?;
        }
        let make = "SELECT pg_create_physical_replication_slot($1, $2)";
        session.query_one(make, &[&name, &reserve]).await.map_err(unmade)?;
        Ok(())
    }

    pub(super) async fn drop_slot(&self, name: &str) -> Result<(), Failure> {
        let session = self.session().await?;
        let undropped = |error| self.bad_sql(&format!("the slot `{name}` can't be dropped"), error);
        let ask = "SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
        let Some(row) = session.query_opt(ask, &[&name]).await.map_err(undropped)? else { return Ok(()) };
        if let Some(pid) = row.get::<_, Option<i32>>(0) {
            let failure = self.failure(format!("the slot `{name}` is in use (walsender {pid})"));
            return Err(failure.with_remedy("stop what streams through it, or let it go on"));
        }
        // An active one is refused by the server itself.
        session.query_one("SELECT pg_drop_replication_slot($1)", &[&name]).await.map_err(undropped)?;
        Ok(())
    }
}

/// Quotes an identifier.
pub(super) fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text so that it means the same whatever `standard_conforming_strings` is.
fn quote_text(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_names_and_texts_end_where_they_should() {
        assert_eq!(quote_name("rep\"; DROP ROLE x; --"), "\"rep\"\"; DROP ROLE x; --\"");
        assert_eq!(quote_text("it's"), "'it''s'");
        assert_eq!(quote_text("\\'"), "E'\\\\'''");
    }
}
