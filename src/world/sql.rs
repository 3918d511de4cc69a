//! A stand-in until the branch h-look brings the real one; on a merge, take theirs.

use std::sync::Arc;
use std::time::Duration;

use crate::pg::secret::Secret;
use crate::world::user::Seat;

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub socket_dir: Option<String>,
    pub port: u16,
    pub user: String,
    pub database: String,
    pub password: Option<Secret>,
}

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct SqlError {
    pub code: Option<String>,
    text: String,
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        let code = error.code().map(|code| code.code().to_owned());
        let text = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
        Self { code, text }
    }
}

#[derive(Debug)]
pub struct Session(tokio_postgres::Client);

impl Session {
    pub async fn open(seat: &Arc<Seat>, endpoint: &Endpoint) -> Result<Self, SqlError> {
        let mut config = tokio_postgres::Config::new();
        config.port(endpoint.port).user(&endpoint.user).dbname(&endpoint.database).application_name("pgpair");
        config.connect_timeout(Duration::from_secs(5));
        match &endpoint.socket_dir {
            Some(dir) => config.host_path(dir),
            None => config.host("localhost"),
        };
        if let Some(password) = &endpoint.password {
            config.password(password.reveal());
        }
        seat.run(async move {
            let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            Ok(Self(client))
        })
        .await
    }

    pub fn client(&self) -> &tokio_postgres::Client {
        &self.0
    }
}
