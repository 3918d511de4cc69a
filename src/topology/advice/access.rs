//! Who gets in without a password.

use std::net::IpAddr;

use crate::topology::ReplicationAuth;
use crate::topology::advice::Advice;
use crate::topology::advice::Cluster;
use crate::topology::advice::warn;
use crate::topology::diagnostic::Report;
use crate::topology::diagnostic::Span;
use crate::topology::model::DraftReplication;
use crate::topology::model::DraftRule;
use crate::topology::validate::places::is_loopback;

pub(super) fn trust(cluster: &Cluster<'_>, report: &mut Report<'_>) {
    if let Some(replication) = &cluster.draft.replication
        && let Some(auth) = &replication.auth
        && auth.value == ReplicationAuth::Trust
        && let Some((address, span)) = first_beyond_loopback(cluster, replication)
    {
        let found = format!("replication from `{address}` needs no password");
        warn(report, Advice::TrustBeyondLoopback, auth.span, &found).also(span, "the address is here");
    }
    for rule in &cluster.draft.hba {
        if let (Some(method), Some(address)) = (&rule.method, &rule.address)
            && method.value == "trust"
            && !wants_certificate(rule)
            && is_beyond_loopback(&address.value)
        {
            let found = format!("connections from `{}` need no password", address.value);
            warn(report, Advice::TrustBeyondLoopback, method.span, &found);
        }
    }
}

/// An address beyond loopback that pgpair's rules let in: those given, or else the nodes' own.
fn first_beyond_loopback<'a>(cluster: &Cluster<'a>, replication: &'a DraftReplication) -> Option<(&'a str, Span)> {
    let nodes = &cluster.draft.nodes;
    // The rules are for the other nodes, and a node alone has none.
    if nodes.len() < 2 {
        return None;
    }
    let hosts = nodes.iter().filter_map(|node| node.host.as_ref());
    let mut addresses: Vec<_> = replication.addresses.iter().collect();
    if addresses.is_empty() {
        addresses = hosts.collect();
    }
    let beyond = addresses.into_iter().find(|address| is_beyond_loopback(&address.value))?;
    Some((&beyond.value, beyond.span))
}

/// `clientcert` asks for a certificate whatever the method (`1`: verify-ca, up to 13).
fn wants_certificate(rule: &DraftRule) -> bool {
    rule.options.iter().any(|option| {
        option.name.value == "clientcert" && ["1", "verify-ca", "verify-full"].contains(&option.value.value.as_str())
    })
}

/// Whether others than this machine can have the address, which is one of pg_hba.conf or of a node.
///
/// A name may lead anywhere, but for `localhost`.
fn is_beyond_loopback(address: &str) -> bool {
    let Some((ip, length)) = address.split_once('/') else { return address != "samehost" && !is_loopback(address) };
    // All of 127.0.0.0/8 is loopback, and ::1 alone.
    let shortest = |ip: IpAddr| if ip.is_ipv4() { 8 } else { 128 };
    let loopback = ip.parse().ok().filter(IpAddr::is_loopback).map(shortest);
    !loopback.is_some_and(|shortest: u8| length.parse().is_ok_and(|length: u8| length >= shortest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_on_this_machine_is_loopback() {
        for address in
            ["127.0.0.1/32", "127.0.0.0/8", "127.9.9.9/8", "::1/128", "localhost", "127.0.0.1", "::1", "samehost"]
        {
            assert!(!is_beyond_loopback(address), "{address}");
        }
        for address in [
            "127.0.0.0/7",
            "0.0.0.0/0",
            "::/0",
            "::1/127",
            "10.0.0.1/32",
            "10.0.0.1",
            "all",
            "samenet",
            "db1",
            ".example.org",
        ] {
            assert!(is_beyond_loopback(address), "{address}");
        }
    }
}
