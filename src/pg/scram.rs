//! Password verifiers: what pg_authid stores in the place of a password (RFC 5802, RFC 7677).
//!
//! pgpair computes them itself, so that a password never reaches SQL, where the server might log it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::KeyInit as _;
use hmac::Mac as _;
use sha2::Digest as _;
use sha2::Sha256;

use crate::pg::secret::Secret;

/// PostgreSQL's own number of rounds (`scram_iterations` since 16, the same fixed number before).
pub const ITERATIONS: u32 = 4096;

/// Rounds beyond which a stored verifier is not compared: a check must not take minutes.
const MOST_ITERATIONS: u32 = 1_000_000;

const PREFIX: &str = "SCRAM-SHA-256$";

/// Returns the SCRAM-SHA-256 verifier of a password, as `pg_authid.rolpassword` has it.
#[must_use]
pub fn verifier(password: &Secret, salt: &[u8], iterations: u32) -> String {
    let salted = salted_password(password, salt, iterations);
    let stored_key = Sha256::digest(hmac(&salted, b"Client Key"));
    let server_key = hmac(&salted, b"Server Key");
    let [salt, stored_key, server_key] =
        [salt, stored_key.as_slice(), server_key.as_slice()].map(|bytes| STANDARD.encode(bytes));
    format!("{PREFIX}{iterations}:{salt}${stored_key}:{server_key}")
}

/// Whether a stored SCRAM verifier was made from this password.
#[must_use]
pub fn matches(stored: &str, password: &Secret) -> bool {
    let parts = || {
        let (parameters, _) = stored.strip_prefix(PREFIX)?.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        Some((iterations.parse().ok()?, STANDARD.decode(salt).ok()?))
    };
    parts().is_some_and(|(iterations, salt)| {
        (1..=MOST_ITERATIONS).contains(&iterations) && verifier(password, &salt, iterations) == stored
    })
}

/// Whether a stored MD5 verifier was made from this password, for this role.
#[must_use]
pub fn md5_matches(stored: &str, password: &Secret, role: &str) -> bool {
    stored == md5_verifier(password, role)
}

/// Returns the MD5 verifier of a password, which is of the role's name too.
fn md5_verifier(password: &Secret, role: &str) -> String {
    let digest = md5::Md5::digest(format!("{}{role}", password.reveal()));
    digest.iter().fold("md5".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// PBKDF2-HMAC-SHA256 with one block of output.
fn salted_password(password: &Secret, salt: &[u8], iterations: u32) -> [u8; 32] {
    // As libpq: a password that SASLprep refuses is used as it is.
    let prepared = stringprep::saslprep(password.reveal());
    let password = prepared.as_deref().unwrap_or(password.reveal()).as_bytes();
    let mut round = hmac(password, &[salt, &1u32.to_be_bytes()].concat());
    let mut result = round;
    let keyed = keyed(password);
    for _ in 1..iterations {
        let mut mac = keyed.clone();
        mac.update(&round);
        round = mac.finalize().into_bytes().into();
        for (byte, other) in result.iter_mut().zip(round) {
            *byte ^= other;
        }
    }
    result
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    /// The password and salt of RFC 7677, section 3.
    #[test]
    fn the_verifier_is_that_of_the_standard() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let verifier = verifier(&secret("pencil"), &salt, 4096);
        assert_eq!(
            verifier,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
        assert!(matches(&verifier, &secret("pencil")));
        assert!(!matches(&verifier, &secret("pencil2")));
    }

    #[test]
    fn a_malformed_or_endless_verifier_matches_nothing() {
        for stored in
            ["", "SCRAM-SHA-256$4096:abc", "SCRAM-SHA-256$0:AAAA$AAAA:AAAA", "SCRAM-SHA-256$4000000000:AAAA$a:b"]
        {
            assert!(!matches(stored, &secret("")), "{stored}");
        }
    }

    #[test]
    fn an_md5_verifier_is_of_password_and_role() {
        // printf pencilrep | md5sum
        let stored = "md55485bd56d9be0f833c21974e265a947a";
        assert!(md5_matches(stored, &secret("pencil"), "rep"));
        assert!(!md5_matches(stored, &secret("pencil"), "rep2"));
        assert!(!md5_matches("", &secret("pencil"), "rep"));
    }
}
