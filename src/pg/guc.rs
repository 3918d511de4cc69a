//! Stub.
use crate::pg::version::Major;
use serde::Deserialize;
use serde::Serialize;

/// When a change of a parameter takes effect: `pg_settings.context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Context {
    Internal,
    Postmaster,
    Sighup,
    SuperuserBackend,
    Backend,
    Superuser,
    User,
}
impl std::str::FromStr for Context {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "internal" => Self::Internal,
            "postmaster" => Self::Postmaster,
            "sighup" => Self::Sighup,
            "superuser-backend" => Self::SuperuserBackend,
            "backend" => Self::Backend,
            "superuser" => Self::Superuser,
            "user" => Self::User,
            other => return Err(other.to_owned()),
        })
    }
}
pub enum Known {
    Guc,
    Custom,
    RecoveryConf,
}
pub fn known(major: Major, name: &str) -> Result<Known, String> {
    Ok(if major.number() < 12 && name.starts_with("recovery") { Known::RecoveryConf } else { Known::Guc })
}
pub fn same(_major: Major, _name: &str, a: &str, b: &str) -> bool {
    a == b
}
pub fn context(_major: Major, _name: &str) -> Option<Context> {
    Some(Context::Postmaster)
}
