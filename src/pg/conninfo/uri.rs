//! Connection URIs, by the rules of `conninfo_uri_parse` in `fe-connect.c`:
//! `postgresql://[user[:password]@][host[:port][,...]][/dbname][?key=value[&...]]`.

use super::BadConninfo;
use super::Conninfo;

/// Reads what follows the scheme.
pub(super) fn parse(text: &str) -> Result<Conninfo, BadConninfo> {
    let mut conninfo = Conninfo::new();
    // An `@` behind a slash is no end of a name and password.
    let end = text.find(['@', '/']).filter(|at| text[*at..].starts_with('@'));
    let (login, rest) = end.map_or(("", text), |at| (&text[..at], &text[at + 1..]));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    store(&mut conninfo, "user", user)?;
    store(&mut conninfo, "password", password)?;
    let (hosts, ports, rest) = servers(rest)?;
    store(&mut conninfo, "host", &hosts)?;
    store(&mut conninfo, "port", &ports)?;
    let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
    store(&mut conninfo, "dbname", path.strip_prefix('/').unwrap_or_default())?;
    for option in options.split_terminator('&') {
        let (key, value) = option.split_once('=').ok_or(BadConninfo("an option of a URI without `=`"))?;
        if value.contains('=') {
            return Err(BadConninfo("an option of a URI with a second `=`"));
        }
        let (key, value) = (decoded(key)?, decoded(value)?);
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(BadConninfo("a key that is no word"));
        }
        match (key.as_str(), value.as_str()) {
            // As JDBC writes it.
            ("ssl", "true") => conninfo.set("sslmode", "require"),
            (key, value) => conninfo.set(key, value),
        }
    }
    Ok(conninfo)
}

/// What is empty between its marks is not given at all.
fn store(conninfo: &mut Conninfo, key: &str, text: &str) -> Result<(), BadConninfo> {
    if !text.is_empty() {
        conninfo.set(key, &decoded(text)?);
    }
    Ok(())
}

/// Reads `host:port,[::1]:port`: the hosts, the ports, each with commas between them, and the rest.
fn servers(text: &str) -> Result<(String, String, &str), BadConninfo> {
    let (mut hosts, mut ports, mut rest) = (String::new(), String::new(), text);
    let until = |text: &str, ends: &[char]| text.find(ends).unwrap_or(text.len());
    loop {
        let host = match rest.strip_prefix('[') {
            Some(bracketed) => {
                let (address, after) = bracketed.split_once(']').ok_or(BadConninfo("a bracket that is not closed"))?;
                if address.is_empty() || !(after.is_empty() || after.starts_with([':', '/', '?', ','])) {
                    return Err(BadConninfo("an address in brackets that is none"));
                }
                rest = after;
                address
            }
            None => {
                let (host, after) = rest.split_at(until(rest, &[':', '/', '?', ',']));
                rest = after;
                host
            }
        };
        hosts.push_str(host);
        if let Some(after) = rest.strip_prefix(':') {
            let (port, after) = after.split_at(until(after, &['/', '?', ',']));
            ports.push_str(port);
            rest = after;
        }
        let Some(after) = rest.strip_prefix(',') else { return Ok((hosts, ports, rest)) };
        hosts.push(',');
        ports.push(',');
        rest = after;
    }
}

/// Replaces `%XX` by the byte that it stands for.
fn decoded(text: &str) -> Result<String, BadConninfo> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' { hex(&mut bytes).ok_or(BadConninfo("a `%` without two digits"))? } else { byte };
        if byte == 0 {
            return Err(BadConninfo("a NUL"));
        }
        decoded.push(byte);
    }
    String::from_utf8(decoded).map_err(|_| BadConninfo("bytes that are not UTF-8"))
}

fn hex(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(uri: &str) -> Conninfo {
        Conninfo::parse(uri).unwrap_or_else(|bad| panic!("{uri}: {bad}"))
    }

    /// The first cases are those of PostgreSQL's own test `001_uri.pl`, with what libpq says of them.
    #[test]
    fn uris_are_read_as_libpq_reads_them() {
        for (uri, pairs) in [
            (
                "postgresql://uri-user:secret@host:12345/db",
                "user=uri-user password=secret host=host port=12345 dbname=db",
            ),
            ("postgresql://uri-user@host:12345/", "user=uri-user host=host port=12345"),
            ("postgresql://host?user=uri-user", "host=host user=uri-user"),
            ("postgresql:///?user=uri-user", "user=uri-user"),
            ("postgresql://", ""),
            ("postgres://", ""),
            ("postgresql://%68ost/", "host=host"),
            ("postgresql://[200z:db8::1234]/", "host=200z:db8::1234"),
            ("postgresql://[2001:db8::1234]:12345/db", "host=2001:db8::1234 port=12345 dbname=db"),
            (
                "postgresql://host/db?u%73er=someotheruser&port=12345",
                "host=host dbname=db user=someotheruser port=12345",
            ),
            ("postgresql:///tmp", "dbname=tmp"),
            ("postgresql://%2Fvar%2Flib%2Fpostgresql/dbname", "host=/var/lib/postgresql dbname=dbname"),
            ("postgresql://host?sslmode=disable&", "host=host sslmode=disable"),
            ("postgresql://host?ssl=true", "host=host sslmode=require"),
            ("postgresql:///?host=/tmp&port=6", "host=/tmp port=6"),
            ("postgresql://a:1,b:2/db", "host=a,b port=1,2 dbname=db"),
            ("postgresql://@host", "host=host"),
            ("postgresql://u:@host", "user=u host=host"),
            ("postgresql://u:p%40%2F%3A@h", "user=u password=p@/: host=h"),
            ("postgresql://host/db@x", "host=host dbname=db@x"),
        ] {
            assert_eq!(read(uri).text(), pairs, "{uri}");
        }
    }

    #[test]
    fn what_libpq_refuses_is_refused() {
        for uri in [
            "postgresql://host?zzz",
            "postgresql://host?a==b",
            "postgresql://host?=b",
            "postgresql://host/%",
            "postgresql://host/%1",
            "postgresql://host/%zz",
            "postgresql://host/%00",
            "postgresql://[::1",
            "postgresql://[]",
            "postgresql://[::1]z",
            "postgre://",
            "POSTGRESQL://host",
        ] {
            assert!(Conninfo::parse(uri).is_err(), "{uri}");
        }
    }

    fn encoded(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02x}")).collect()
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_is_read_back(user in "[^\0]+", password in "[^\0]+", host in "[^\0]+", db in "[^\0]+") {
            let [u, p, h, d] = [&user, &password, &host, &db].map(|text| encoded(text));
            let read = read(&format!("postgresql://{u}:{p}@{h}:5433/{d}?application_name={u}"));
            for (key, value) in [("user", &user), ("password", &password), ("host", &host), ("dbname", &db)] {
                prop_assert_eq!(read.get(key), Some(value.as_str()));
            }
            prop_assert_eq!(read.get("application_name"), Some(user.as_str()));
        }
    }
}
