//! Who listens on a port of this machine.

use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use crate::observed::Reading;
use crate::world::probe::process;

/// A listening TCP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listener {
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// Returns who listens on this port at an address where a server for `host` would have to.
#[must_use]
pub fn taken(host: &str, port: u16) -> Reading<String> {
    let mut all = Vec::new();
    for (file, needed) in [("/proc/net/tcp", true), ("/proc/net/tcp6", false)] {
        match fs::read_to_string(file) {
            Ok(text) => all.extend(listeners(&text)),
            // A machine without IPv6 has no such file.
            Err(error) if needed || error.kind() != std::io::ErrorKind::NotFound => {
                return Reading::Unknown(format!("{file} can't be read: {error}"));
            }
            Err(_) => {}
        }
    }
    let in_the_way = all.into_iter().find(|listener| listener.port == port && concerns(listener.address, host));
    in_the_way.map_or(Reading::Absent, |listener| Reading::Known(owner(&listener)))
}

/// Whether a listener at this address is in the way of a server for `host`; of a name that can't be told.
fn concerns(address: IpAddr, host: &str) -> bool {
    let address = address.to_canonical();
    address.is_unspecified()
        || address.is_loopback()
        || host.parse::<IpAddr>().map_or(true, |host| host.to_canonical() == address)
}

fn owner(listener: &Listener) -> String {
    let socket = format!("socket:[{}]", listener.inode);
    match process::holder_of(&socket) {
        Some(process) => match process::data_dir_of(process.pid) {
            Some(data_dir) => format!("the server of {data_dir} (pid {})", process.pid),
            None => format!("`{}` (pid {})", process.name, process.pid),
        },
        None => format!("another program, at {}", listener.address),
    }
}

/// Reads the listening sockets of /proc/net/tcp or /proc/net/tcp6.
fn listeners(text: &str) -> Vec<Listener> {
    const LISTEN: &str = "0A";
    let read = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        if *state != LISTEN {
            return None;
        }
        let (address, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(Listener { address: address_of(address)?, port, inode: inode.parse().ok()? })
    };
    text.lines().skip(1).filter_map(read).collect()
}

/// Reads an address as the kernel prints it: words of 32 bits in the machine's byte order.
fn address_of(hex: &str) -> Option<IpAddr> {
    if !hex.is_ascii() || !hex.len().is_multiple_of(8) {
        return None;
    }
    let mut bytes = Vec::new();
    for start in (0..hex.len()).step_by(8) {
        let word = u32::from_str_radix(&hex[start..start + 8], 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::TcpListener;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    #[test]
    fn listening_sockets_are_read_and_others_are_not() {
        let text = format!(
            "{HEAD}   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 4242 1 0 100\n   \
             1: 0100007F:1539 0100007F:A000 01 00000000:00000000 00:00000000 00000000   101        0 4243 1 0 20\n"
        );
        let expected = Listener { address: Ipv4Addr::LOCALHOST.into(), port: 5432, inode: 4242 };
        assert_eq!(listeners(&text), [expected]);
        assert_eq!(address_of("00000000000000000000000001000000"), Some(Ipv6Addr::LOCALHOST.into()));
        let mapped = address_of("0000000000000000FFFF00000100007F").expect("an address");
        assert_eq!(mapped.to_canonical(), IpAddr::from(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn only_a_listener_that_is_in_the_way_counts() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(concerns(address("0.0.0.0"), "10.0.0.1"));
        assert!(concerns(address("::"), "10.0.0.1"));
        assert!(concerns(address("127.0.0.1"), "10.0.0.1"));
        assert!(concerns(address("::ffff:10.0.0.1"), "10.0.0.1"));
        assert!(!concerns(address("10.0.0.2"), "10.0.0.1"));
        assert!(concerns(address("10.0.0.2"), "db1"), "the address of a name is not known");
    }

    #[test]
    fn a_real_listener_is_found_with_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let seen = taken("127.0.0.1", port);
        let pid = format!("(pid {})", std::process::id());
        assert!(seen.known().is_some_and(|who| who.contains(&pid)), "{seen:?}");
        drop(listener);
        assert!(taken("127.0.0.1", port).is_absent());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text: String, field in "[0-9A-F:é]{0,40}") {
            let _ = listeners(&text);
            let _ = listeners(&format!("{HEAD} 0: {field} 0:0 0A 0 0 0 0 0 1"));
            let _ = address_of(&field);
        }
    }
}
