//! A replication connection, as a walreceiver opens it: to see whether a server lets the replication role in.
//!
//! `tokio-postgres` can't ask for one. pg_hba.conf has rules of its own for such connections, so that no other kind of
//! connection shows what they say. Nothing is asked for but IDENTIFY_SYSTEM.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl;
use postgres_protocol::authentication::sasl::ChannelBinding;
use postgres_protocol::authentication::sasl::ScramSha256;
use postgres_protocol::message::backend::ErrorResponseBody;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_postgres::fallible_iterator::FallibleIterator as _;

use crate::pg::secret::Secret;
use crate::world::files::plain;
use crate::world::sql::OWN_NAME;

/// How long it may take, from the first packet to the answer. A look waits for it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// More than a server ever says before it has let somebody in.
const MOST_BYTES: usize = 64 * 1024;

/// Why a connection was not had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// In the server's words, or those of the operating system.
    Refused(String),
    /// It asks for something that pgpair can't do: nothing is known.
    NotTried(String),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Refused(plain(&error))
    }
}

/// Connects without encryption, and returns the system identifier of the server.
///
/// # Errors
///
/// [`Failed`], after two seconds at most.
pub async fn identify(host: &str, port: u16, user: &str, password: Option<&Secret>) -> Result<String, Failed> {
    let connect = async {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let mut connection = Connection { stream, received: BytesMut::new(), to_send: BytesMut::new() };
        let parameters = [("user", user), ("replication", "true"), ("application_name", OWN_NAME)];
        frontend::startup_message(parameters, &mut connection.to_send)?;
        connection.log_in(user, password).await?;
        let identifier = connection.ask("IDENTIFY_SYSTEM").await?;
        frontend::terminate(&mut connection.to_send);
        connection.send().await?;
        Ok(identifier)
    };
    match tokio::time::timeout(TIMEOUT, connect).await {
        Ok(answer) => answer,
        Err(_) => Err(Failed::Refused(format!("{host}:{port} did not answer within {} s", TIMEOUT.as_secs()))),
    }
}

struct Connection {
    stream: TcpStream,
    received: BytesMut,
    to_send: BytesMut,
}

impl Connection {
    async fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.to_send).await?;
        self.to_send.clear();
        Ok(())
    }

    /// Sends what is to be sent and returns the next message; an error message ends the connection.
    async fn next(&mut self) -> Result<Message, Failed> {
        self.send().await?;
        loop {
            match Message::parse(&mut self.received)? {
                Some(Message::ErrorResponse(body)) => return Err(Failed::Refused(said(&body))),
                Some(message) => return Ok(message),
                None if self.received.len() > MOST_BYTES => {
                    return Err(Failed::Refused("what answers there is no PostgreSQL server".to_owned()));
                }
                None if self.stream.read_buf(&mut self.received).await? == 0 => {
                    return Err(Failed::Refused("the server closed the connection".to_owned()));
                }
                None => {}
            }
        }
    }

    /// Proves who we are in the way that the server asks for, and waits until it is ready.
    async fn log_in(&mut self, user: &str, password: Option<&Secret>) -> Result<(), Failed> {
        let password = || {
            let missing = || Failed::Refused(format!("the server asks `{user}` for a password, and there is none"));
            password.map(|password| password.reveal().as_bytes()).ok_or_else(missing)
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "what else a server says before it is ready is of no interest"
        )]
        loop {
            match self.next().await? {
                Message::AuthenticationOk => {}
                Message::AuthenticationCleartextPassword => {
                    frontend::password_message(password()?, &mut self.to_send)?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), password()?, body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.to_send)?;
                }
                Message::AuthenticationSasl(body) => {
                    let mut mechanisms = body.mechanisms();
                    let mut is_known = false;
                    while let Some(mechanism) = mechanisms.next()? {
                        is_known |= mechanism == sasl::SCRAM_SHA_256;
                    }
                    if !is_known {
                        return Err(Failed::NotTried("the server asks for another kind of SASL than SCRAM".to_owned()));
                    }
                    self.by_scram(password()?).await?;
                }
                Message::AuthenticationGss | Message::AuthenticationSspi => {
                    return Err(Failed::NotTried("the server asks for a proof by GSSAPI".to_owned()));
                }
                Message::ReadyForQuery(_) => return Ok(()),
                _ => {}
            }
        }
    }

    async fn by_scram(&mut self, password: &[u8]) -> Result<(), Failed> {
        let unexpected = || Failed::Refused("the server left the exchange of SCRAM".to_owned());
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), &mut self.to_send)?;
        let Message::AuthenticationSaslContinue(body) = self.next().await? else { return Err(unexpected()) };
        scram.update(body.data())?;
        frontend::sasl_response(scram.message(), &mut self.to_send)?;
        let Message::AuthenticationSaslFinal(body) = self.next().await? else { return Err(unexpected()) };
        Ok(scram.finish(body.data())?)
    }

    /// Sends a statement and returns the first column of its first row.
    async fn ask(&mut self, statement: &str) -> Result<String, Failed> {
        frontend::query(statement, &mut self.to_send)?;
        let mut answer = None;
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest of the answer is of no interest")]
        loop {
            match self.next().await? {
                Message::DataRow(row) => {
                    let column = row.ranges().next()?.flatten().and_then(|range| row.buffer().get(range));
                    answer = column.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                }
                Message::ReadyForQuery(_) => {
                    return answer.ok_or_else(|| Failed::Refused(format!("{statement} has no answer")));
                }
                _ => {}
            }
        }
    }
}

/// What an error message says, its hint and detail left out: they tell of pg_hba.conf what the message does as well.
fn said(body: &ErrorResponseBody) -> String {
    let message = body.fields().filter(|field| Ok(field.type_() == b'M')).next();
    message.ok().flatten().map_or_else(
        || "the server refuses, and says nothing".to_owned(),
        |field| String::from_utf8_lossy(field.value_bytes()).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A server that sends this and closes the connection.
    async fn answered(bytes: &'static [u8]) -> Failed {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            // What a closed connection has not read yet would end it with an error.
            stream.read_buf(&mut BytesMut::with_capacity(1024)).await.expect("it talks");
            stream.write_all(bytes).await.expect("it listens");
        };
        let ((), answer) = futures_util::future::join(serve, identify("127.0.0.1", port, "repuser", None)).await;
        answer.expect_err("no server")
    }

    #[tokio::test]
    async fn what_a_server_says_when_it_refuses_is_kept_in_its_words() {
        let refused = answered(b"E\0\0\0\x20SFATAL\0C28000\0Mno entry: b\0\0").await;
        assert_eq!(refused, Failed::Refused("no entry: b".into()));
    }

    #[tokio::test]
    async fn a_password_that_is_asked_for_and_not_there_is_a_refusal() {
        let refused = answered(b"R\0\0\0\x08\0\0\0\x03").await;
        assert_eq!(refused, Failed::Refused("the server asks `repuser` for a password, and there is none".into()));
    }

    #[tokio::test]
    async fn a_proof_that_pgpair_does_not_know_says_nothing_of_the_server() {
        assert!(matches!(answered(b"R\0\0\0\x08\0\0\0\x07").await, Failed::NotTried(_)));
    }

    #[tokio::test]
    async fn a_stranger_or_a_closed_port_is_a_refusal() {
        assert!(matches!(answered(b"HTTP/1.0 400 Bad Request\r\n").await, Failed::Refused(_)));
        assert_eq!(answered(b"").await, Failed::Refused("the server closed the connection".into()));
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
        let refused = identify("127.0.0.1", port, "repuser", None).await;
        assert_eq!(refused, Err(Failed::Refused("Connection refused".into())));
    }
}
