//! libpq connection strings: the `key=value` form that `primary_conninfo` usually has, and URIs.

use std::fmt;

use crate::pg::secret::HIDDEN;

mod uri;

/// A connection string: keys in order, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conninfo {
    pairs: Vec<(String, String)>,
}

/// A text that libpq would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a connection string: {0}")]
pub struct BadConninfo(&'static str);

impl Conninfo {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a key its value.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.pairs.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => value.clone_into(old),
            None => self.pairs.push((key.to_owned(), value.to_owned())),
        }
    }

    /// Takes a key out, and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let at = self.pairs.iter().position(|(name, _)| name == key)?;
        Some(self.pairs.remove(at).1)
    }

    /// Returns the value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns the servers that libpq tries one after the other, with their ports. A folder is that of a Unix socket;
    /// where no host is given, it is the build's own, which `/` stands for here.
    pub fn servers(&self) -> impl Iterator<Item = (&str, u16)> {
        let given = |key: &str| self.get(key).filter(|value| !value.is_empty());
        let hosts = given("hostaddr").or_else(|| given("host")).unwrap_or("/").split(',');
        let ports: Vec<&str> = given("port").unwrap_or(DEFAULT_PORT).split(',').collect();
        hosts.enumerate().filter_map(move |(index, host)| {
            let port = if let [port] = ports[..] { port } else { ports.get(index)? };
            let port = if port.is_empty() { DEFAULT_PORT } else { port };
            Some((if host.is_empty() { "/" } else { host }, port.trim().parse().ok()?))
        })
    }

    /// Returns the keys in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(key, _)| key.as_str())
    }

    /// Returns the text that libpq reads back as these pairs.
    ///
    /// A value stands bare where that is unmistakable, so that people can read it.
    #[must_use]
    pub fn text(&self) -> String {
        self.to_string()
    }

    /// Returns the text with its secrets hidden.
    ///
    /// Also those that libpq would not read as such: `application_name= password=x` is one pair.
    #[must_use]
    pub fn redacted(&self) -> String {
        let mut shown = self.clone();
        for (key, value) in &mut shown.pairs {
            if is_secret(key) || may_hold_secret(value) {
                HIDDEN.clone_into(value);
            }
        }
        shown.text()
    }

    /// Reads a connection string in either form by libpq's rules. A repeated key's last value counts.
    ///
    /// # Errors
    ///
    /// [`BadConninfo`] where libpq would refuse the text. Keys may be any word.
    pub fn parse(text: &str) -> Result<Self, BadConninfo> {
        match SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(uri) => uri::parse(uri),
            None => Self::parse_pairs(text),
        }
    }

    /// `\` escapes inside and outside of quotes, and `''` is no escaped quote.
    fn parse_pairs(text: &str) -> Result<Self, BadConninfo> {
        let mut conninfo = Self::new();
        let mut chars = text.chars().peekable();
        let is_blank = |c: &char| c.is_ascii_whitespace() || *c == '\x0B';
        loop {
            while chars.next_if(is_blank).is_some() {}
            if chars.peek().is_none() {
                return Ok(conninfo);
            }
            let mut key = String::new();
            while let Some(c) = chars.next_if(|c| *c != '=' && !is_blank(c)) {
                key.push(c);
            }
            while chars.next_if(is_blank).is_some() {}
            if key.is_empty() || chars.next() != Some('=') {
                return Err(BadConninfo("a key without `=`"));
            }
            // Such as the beginning of a URI behind a blank, password and all.
            if !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return Err(BadConninfo("a key that is no word"));
            }
            while chars.next_if(is_blank).is_some() {}
            let mut value = String::new();
            let quoted = chars.next_if_eq(&'\'').is_some();
            loop {
                match chars.next_if(|c| quoted || !is_blank(c)) {
                    Some('\\') => value.extend(chars.next()),
                    Some('\'') if quoted => break,
                    Some(c) => value.push(c),
                    None if quoted => return Err(BadConninfo("a quote that is not closed")),
                    None => break,
                }
            }
            conninfo.set(&key, &value);
        }
    }
}

/// The port of most builds.
const DEFAULT_PORT: &str = "5432";

/// How a URI begins. To libpq no blank may stand before it, and no other case will do.
const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// What names a secret: a password, or what 18 takes in its place.
const SECRETS: [&str; 4] = ["password", "oauth_client_secret", "scram_client_key", "scram_server_key"];

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRETS.iter().any(|name| key.ends_with(name))
}

/// Whether a text, whatever it is, gives a password as a connection string does.
#[must_use]
pub fn may_hold_secret(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let is_given = |name: &str| text.split(name).skip(1).any(|rest| rest.trim_start().starts_with('='));
    let is_uri = SCHEMES.iter().any(|scheme| text.contains(scheme));
    is_uri || SECRETS.iter().any(|name| is_given(name))
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.pairs.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@,".contains(c);
            if !value.is_empty() && value.chars().all(is_plain) {
                write!(f, "{key}={value}")?;
            } else {
                write!(f, "{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_read_as_libpq_reads_them() {
        let get = |text: &str, key: &str| Conninfo::parse(text).expect("good").get(key).map(str::to_owned);
        assert_eq!(get("host = h\n port=1", "port").as_deref(), Some("1"));
        assert_eq!(get("port=1 port=2", "port").as_deref(), Some("2"));
        assert_eq!(get(r"password='it\'s' user=u", "password").as_deref(), Some("it's"));
        assert_eq!(get(r"password=a\ b", "password").as_deref(), Some("a b"));
        // The trap of an empty value: the next pair is swallowed.
        assert_eq!(get("application_name= port=5", "application_name").as_deref(), Some("port=5"));
        for bad in ["host", "=x", "host='x", "host x"] {
            assert!(Conninfo::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_of_several_servers_has_its_port() {
        let servers = |text: &str| {
            let conninfo = Conninfo::parse(text).expect("good");
            conninfo.servers().map(|(host, port)| format!("{host} {port}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(servers("user=u"), "/ 5432");
        assert_eq!(servers("host=h hostaddr=10.0.0.1 port=6"), "10.0.0.1 6");
        assert_eq!(servers("host=a,b port=6"), "a 6, b 6");
        assert_eq!(servers("host=a,,/tmp port=6,,7"), "a 6, / 5432, /tmp 7");
        assert_eq!(servers("host=a,b port=6,x"), "a 6");
        assert_eq!(servers("host=a,b,c port=6,7"), "a 6, b 7");
    }

    #[test]
    fn a_password_is_hidden() {
        let conninfo = Conninfo::parse("host=h password=hunter2 user=u").expect("good");
        assert_eq!(conninfo.redacted(), "host=h password='(secret)' user=u");
    }

    #[test]
    fn a_password_that_libpq_would_not_take_for_one_is_hidden_too() {
        for text in ["application_name= password=hunter2", "PASSWORD=hunter2", "scram_client_key=hunter2"] {
            let shown = Conninfo::parse(text).expect("good").redacted();
            assert!(shown.ends_with("='(secret)'"), "{shown}");
        }
        assert!(Conninfo::parse(" postgres://u@h/?password=hunter2").is_err());
        let uri = Conninfo::parse("postgresql://u:hunter2@h/db?sslmode=require").expect("good");
        assert_eq!(uri.redacted(), "user=u password='(secret)' host=h dbname=db sslmode=require");
        let path = "passfile='/etc/my passwords/x'";
        assert_eq!(Conninfo::parse(path).expect("good").redacted(), path);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(values in proptest::collection::vec(any::<String>(), 0..4)) {
            let mut conninfo = Conninfo::new();
            for (index, value) in values.iter().enumerate() {
                conninfo.set(&format!("key{index}"), value);
            }
            prop_assert_eq!(Conninfo::parse(&conninfo.text()), Ok(conninfo));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = Conninfo::parse(&text);
            let _ = Conninfo::parse(&format!("postgresql://{text}"));
        }
    }
}
