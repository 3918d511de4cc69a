//! The return of an old primary that went past the fork.

use super::*;
use crate::observed::Lost;
use crate::observed::TlsProblem;
use crate::observed::TlsTrouble;
use crate::topology::SslMode;
use crate::topology::Tls;

/// It was killed with more WAL than anybody has.
pub(super) fn kill(case: &mut Case) {
    case.cut_off();
    case.crashed("a", Some(Lsn(POSITION.0 + 8)));
    let lost = Lost { transactions: 1, last_commit: None, rewind_from: Some(Lsn(0x200_0000)) };
    (case.own("a").lost, case.own("a").wal_log_hints) = (Some(lost), true);
}

fn rewind() -> Case {
    Case::failover(15, kill, "a.rewind")
}

guards! { rewind(), "ready";
    a_running_node_is_not_rewound: |it| {
        let end = it.own("a").end;
        it.started("a");
        it.own("a").end = end;
    } => "not_ready: a is running";
    a_node_without_a_fence_is_not_rewound:
        |it| it.own("a").markers.standby_signal = false => "not_ready: a is not fenced";
    a_node_on_which_no_server_can_start_is_not_rewound:
        |it| it.node("a").port_taken = Reading::Known("nginx".into()) => "port_taken: ";
    nothing_is_rewound_to_what_does_not_write:
        |it| it.sql("b").in_recovery = true => "not_ready: b is in recovery";
    nothing_is_rewound_to_a_source_with_files_elsewhere:
        |it| it.topology.nodes[&name("b")].config_dir = Some("/etc/b".into()) => "not_supported: ";
    nothing_is_rewound_where_no_data_directory_can_be_made:
        |it| it.node("a").place.known_mut().expect("it is known").not_writable = Some("read-only".into()) => "not_writable: ";
    nothing_is_rewound_that_could_not_connect: |it| {
        let tls = Tls { sslmode: SslMode::VerifyFull, sslrootcert: Some("/ca.pem".into()), sslcert: None, sslkey: None };
        it.topology.replication.tls = Some(tls);
        let trouble = TlsTrouble::Missing;
        it.node("a").tls = vec![TlsProblem { key: "sslrootcert".into(), path: "/ca.pem".into(), trouble }];
    } => "tls_file: ";
    nothing_is_rewound_that_pg_rewind_can_not_rewind:
        |it| it.own("a").wal_log_hints = false => "not_ready: a can't be rewound: it ran with neither";
}

guards! { rewind().done(), "satisfied";
    what_was_rewound_has_standby_files:
        |it| it.own("a").markers.standby_signal = false => "not_ready: a has no standby files";
}

/// It came up behind its fence, and receives nothing.
fn stop_to_rewind() -> Case {
    let stop = Action::Stop(StopFor::Rewind { source: name("b") });
    let running = rewind().with(|it| {
        let (end, timeline) = (it.own("a").end, it.own("a").end_timeline);
        it.started("a");
        (it.own("a").end, it.own("a").end_timeline) = (end, timeline);
    });
    running.asking_step("a", stop)
}

guards! { stop_to_rewind(), "ready";
    a_node_that_follows_is_not_stopped_for_a_rewind:
        |it| it.own("a").end = Some(POSITION) => "not_ready: a has nothing that is to be rewound";
}
