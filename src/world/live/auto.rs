//! postgresql.auto.conf: entries that would win over pgpair's block are reset.

use crate::plan::Reset;
use crate::world::Failure;
use crate::world::files;
use crate::world::live::Site;
use crate::world::live::objects::quote_name;
use crate::world::live::server::Life;

pub(super) const AUTO: &str = "postgresql.auto.conf";

impl Site<'_> {
    /// Takes entries out of postgresql.auto.conf: by the server where one runs, which may be writing the file itself.
    pub(super) async fn reset_auto(&self, reset: &Reset) -> Result<(), Failure> {
        let is_as_planned = |text: &str| Reset::digest(text) == reset.before || reset.applied_to(text) == text;
        let text = self.text_before(AUTO, is_as_planned).await?;
        if let Life::Running(_) = self.life().await? {
            let session = self.session().await?;
            for name in &reset.names {
                let done = session.run(&format!("ALTER SYSTEM RESET {}", quoted(name))).await;
                match done {
                    Ok(()) => {}
                    Err(error) if may_edit_instead(error.code.as_deref()) => break,
                    Err(error) => return Err(self.bad_sql(&format!("`{name}` of `{AUTO}` can't be reset"), error)),
                }
            }
        }
        // The server is stopped, or leaves the file to others.
        let path = self.file(AUTO);
        let now = self.on_files(move || files::read_text(path)).await?.unwrap_or(text);
        let changed = reset.applied_to(&now);
        if changed == now {
            return Ok(());
        }
        self.write(AUTO, changed).await
    }
}

/// With `allow_alter_system` off (17), and for a role that is no superuser, the file remains.
fn may_edit_instead(code: Option<&str>) -> bool {
    ["0A000", "42501"].map(Some).contains(&code)
}

/// A name as an SQL identifier; the two words of an extension's parameter are two.
fn quoted(name: &str) -> String {
    name.split('.').map(quote_name).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_word_by_word() {
        assert_eq!(quoted("work_mem"), "\"work_mem\"");
        assert_eq!(quoted("auto_explain.log_min_duration"), "\"auto_explain\".\"log_min_duration\"");
        assert_eq!(quoted("a\"; b"), "\"a\"\"; b\"");
    }
}
