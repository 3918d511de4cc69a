//! What holds for every input of a parser: one function a subject, which panics where it does not hold.
//!
//! The fuzz targets (`targets/`) feed them with what libFuzzer invents; `tests/fuzz_corpus.rs` feeds them with the
//! interesting part of it (`corpus/`), on stable. Inputs of several parts have a line `====` between them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use pgpair::error::Findings;
use pgpair::pg::block;
use pgpair::pg::block::Block;
use pgpair::pg::conf;
use pgpair::pg::conf::ConfFile;
use pgpair::pg::conf::ConfFiles;
use pgpair::pg::conf::ConfValues;
use pgpair::pg::conf::Origin;
use pgpair::pg::conninfo;
use pgpair::pg::conninfo::Conninfo;
use pgpair::pg::control;
use pgpair::pg::control::BadControl;
use pgpair::pg::control::Control;
use pgpair::pg::guc;
use pgpair::pg::guc::Known;
use pgpair::pg::hba;
use pgpair::pg::hba::NewRule;
use pgpair::pg::history;
use pgpair::pg::lsn::Timeline;
use pgpair::pg::secret::HIDDEN;
use pgpair::pg::version::Major;
use pgpair::plan::desired;
use pgpair::plan::redact;
use pgpair::topology;
use pgpair::topology::Role;
use pgpair::topology::Topology;
use pgpair::topology::diagnostic::Diagnostic;
use pgpair::topology::diagnostic::Report;
use pgpair::topology::diagnostic::Span;
use pgpair::topology::diagnostic::without_secrets;
use pgpair::topology::spans;
use pgpair::topology::spans::Yaml;

/// Panics where something does not hold of the input.
pub type Property = fn(&[u8]);

/// Every subject by the name of its target and of its folder in `corpus/`.
pub const ALL: [(&str, Property); 10] = [
    ("block", block),
    ("conf", conf),
    ("conf_files", conf_files),
    ("conninfo", conninfo),
    ("control", control),
    ("guc", guc),
    ("hba", hba),
    ("history", history),
    ("redact", redact),
    ("topology", topology),
];

/// Stands for a password that nothing may show.
const PASSWORD: &str = "hunter2";

/// Whether the password is in a text already, escaped or not: then it says nothing that a rendering shows it.
fn shows_password(text: &str) -> bool {
    text.replace(['\\', '\''], "").contains(PASSWORD)
}

/// A topology file is refused with reasons that point into it, or is one that a plan can rely on.
pub fn topology(bytes: &[u8]) {
    let shown = without_secrets(&String::from_utf8_lossy(bytes));
    assert_eq!(shown.len(), String::from_utf8_lossy(bytes).len(), "covering a secret moves nothing");
    if let Ok(text) = std::str::from_utf8(bytes) {
        hides_literal_secrets(text);
    }
    match topology::parse_with_advice(bytes, "t.yaml", "/base") {
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "refused without a reason");
            are_tellable(diagnostics, bytes);
        }
        Ok((topology, advice)) => {
            are_tellable(advice, bytes);
            is_sound(&topology);
            let text = std::str::from_utf8(bytes).expect("a topology is UTF-8");
            let with_mark = format!("\u{feff}{}", text.trim_start_matches('\u{feff}'));
            assert_eq!(parse_topology(with_mark.as_bytes()).as_ref(), Ok(&topology), "with a byte order mark");
            if !text.contains('\r') {
                let of_windows = text.replace('\n', "\r\n");
                assert_eq!(parse_topology(of_windows.as_bytes()), Ok(topology), "with CRLF");
            }
        }
    }
}

fn parse_topology(bytes: &[u8]) -> Result<Topology, Vec<Diagnostic>> {
    topology::parse(bytes, "t.yaml", "/base")
}

fn are_tellable(diagnostics: Vec<Diagnostic>, bytes: &[u8]) {
    for diagnostic in &diagnostics {
        assert!(!diagnostic.code.is_empty() && !diagnostic.message.is_empty());
        for span in diagnostic.span.iter().chain(diagnostic.related.iter().map(|(span, _)| span)) {
            is_in_place(*span, bytes);
        }
    }
    let [plain, fancy] = told(&String::from_utf8_lossy(bytes), diagnostics);
    let is_obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!plain.contains(is_obeyed), "a terminal would obey: {plain:?}");
    // The colours are miette's.
    assert!(!fancy.replace("\u{1b}[", "").contains(is_obeyed), "a terminal would obey: {fancy:?}");
}

/// What people are told of a file: as plain text, and the first few with their lines.
fn told(text: &str, diagnostics: Vec<Diagnostic>) -> [String; 2] {
    let mut findings = Findings { name: "t.yaml".to_owned(), text: text.to_owned(), diagnostics };
    let plain = findings.text(false);
    findings.diagnostics.truncate(3);
    [plain, findings.text(true)]
}

fn is_in_place(span: Span, bytes: &[u8]) {
    let before = bytes.get(..span.offset).expect("a place in the file");
    assert!(span.len <= bytes.len() - span.offset, "{span:?} reaches beyond the file");
    let line = before.split(|byte| *byte == b'\n').next_back().unwrap_or_default();
    let line = String::from_utf8_lossy(line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line));
    assert_eq!(span.line, 1 + before.iter().filter(|byte| **byte == b'\n').count(), "{span:?}");
    assert_eq!(span.column, 1 + line.chars().count(), "{span:?}");
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(text.is_char_boundary(span.offset) && text.is_char_boundary(span.offset + span.len), "{span:?}");
    }
}

/// A password that stands in the file itself is never shown, neither in a reason nor beside it.
fn hides_literal_secrets(text: &str) {
    if shows_password(text) {
        return;
    }
    for Span { offset, len, .. } in literal_secrets(text) {
        let text = format!("{}{PASSWORD}{}", &text[..offset], &text[offset + len..]);
        // A file that is no YAML has no keys, and something else may stand there now.
        let is_one = literal_secrets(&text).iter().any(|span| (span.offset, span.len) == (offset, PASSWORD.len()));
        if is_one {
            assert!(!without_secrets(&text).contains(PASSWORD), "{text}");
            let (Ok((_, diagnostics)) | Err(diagnostics)) =
                topology::parse_with_advice(text.as_bytes(), "t.yaml", "/base");
            for told in told(&text, diagnostics) {
                assert!(!told.contains(PASSWORD), "{told}\n{text}");
            }
        }
    }
}

fn literal_secrets(text: &str) -> Vec<Span> {
    let tree = spans::read(text.as_bytes(), &mut Report::on("t.yaml"));
    tree.iter().flat_map(Yaml::secrets).map(|yaml| yaml.span).collect()
}

/// What validation promises to everything that comes after it.
fn is_sound(topology: &Topology) {
    let major = topology.postgresql.version;
    assert_eq!(topology.nodes.values().filter(|node| node.role == Role::Primary).count(), 1);
    serde_json::to_string(topology).expect("data");
    for (name, node) in &topology.nodes {
        assert_eq!(name, &node.name);
        assert!(node.data_dir.starts_with('/'), "{}", node.data_dir);
        let mut upstream = node;
        for _ in &topology.nodes {
            if upstream.role == Role::Standby {
                upstream = topology.upstream(upstream);
            }
        }
        assert_eq!(upstream, topology.primary(), "the upstreams of {name} lead to the primary");
        assert!(node.clone_from.as_ref().is_none_or(|source| topology.nodes.contains_key(source)));
        for (parameter, value) in topology.parameters_of(node) {
            guc::known(major, &parameter).expect("a known parameter");
            guc::check(major, &parameter, &value).expect("a good value");
        }
        let settings = desired::settings(topology, node);
        let written = desired::conf_block(topology, node, &settings);
        let read = conf::parse(&written.text());
        assert_eq!(read.errors, []);
        let read: Vec<_> = read.entries.into_iter().map(|entry| (entry.name, entry.value)).collect();
        let wanted: Vec<_> = settings.into_iter().collect();
        assert_eq!(read, wanted, "the block says what the topology says");
        let rules = desired::hba_block(topology, node).text();
        hba::parse(&rules).expect("good rules");
        if node.role == Role::Standby {
            let conninfo = Conninfo::parse(&desired::primary_conninfo(topology, node)).expect("good");
            assert_eq!(conninfo.get("password"), None);
            assert_eq!(conninfo.get("application_name"), Some(name.as_str()));
        }
    }
}

/// postgresql.conf: each line is read by itself, and what was read can be written in its place.
pub fn conf(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parsed = conf::parse(&text);
    let mut lines: Vec<Cow<'_, str>> = text.split('\n').map(Cow::from).collect();
    let mut told: Vec<_> = parsed.entries.iter().map(|entry| entry.line).collect();
    told.extend(parsed.errors.iter().map(|error| error.line));
    told.sort_unstable();
    assert!(told.windows(2).all(|pair| pair[0] < pair[1]), "no line is told of twice");
    for entry in &parsed.entries {
        assert_eq!(entry.name, entry.name.to_ascii_lowercase());
        assert!(!entry.value.contains('\0'), "a value ends where C ends it");
        let line = &mut lines[entry.line - 1];
        let alone = conf::parse(line).entries;
        assert_eq!(alone, [conf::Entry { line: 1, ..entry.clone() }]);
        match conf::assignment(&entry.name, &entry.value) {
            Ok(assignment) => *line = assignment.into(),
            Err(conf::Unwritable) => assert!(entry.value.contains(['\n', '\r']), "{:?}", entry.value),
        }
    }
    assert_eq!(conf::parse(&lines.join("\n")), parsed, "rewritten");
    if let Some(gone) = parsed.entries.first().map(|entry| &entry.name) {
        let rest = conf::parse(&conf::without(&text, |name| name == gone));
        assert_eq!(rest.errors.len(), parsed.errors.len());
        let said = |entries: &[conf::Entry]| {
            let kept = entries.iter().filter(|entry| entry.name != *gone);
            kept.map(|entry| (entry.name.clone(), entry.value.clone())).collect::<Vec<_>>()
        };
        assert_eq!(said(&rest.entries), said(&parsed.entries), "without `{gone}`");
        assert_eq!(rest.entries.len(), said(&rest.entries).len(), "`{gone}` is gone");
    }
}

/// The files of a node: what an include says counts where it stands, the last line wins, and each value names its
/// place. The parts are postgresql.conf, what its first include pulls in, postgresql.auto.conf.
pub fn conf_files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parts = parts(&text);
    let file = |path: &str, text: &str| ConfFile { path: path.into(), text: text.into(), includes: Vec::new() };
    let mut main = file("postgresql.conf", parts[0]);
    main.includes.extend(parts.get(1).map(|text| vec![file("included.conf", text)]));
    let auto = parts.get(2).map(|text| file("postgresql.auto.conf", text));

    let of_main = conf::parse(parts[0]);
    let first_include = of_main.entries.iter().find(|entry| entry.is_include()).map(|entry| entry.line);
    let is_good = block::find(parts[0]).is_ok()
        && of_main.errors.is_empty()
        && parts.get(2).is_none_or(|text| conf::parse(text).errors.is_empty())
        && (first_include.is_none() || parts.get(1).is_none_or(|text| conf::parse(text).errors.is_empty()));
    let files = ConfFiles { main, auto, replaced: None };
    let ConfValues { block, values, elsewhere } = match files.read() {
        Ok(read) => read,
        Err(said) => {
            assert!(!is_good && said.contains(".conf:"), "{said}");
            return;
        }
    };
    assert!(is_good);
    assert_eq!(Ok(&block), block::find(parts[0]).as_ref());

    let owned = block.map(|found| found.lines);
    for (name, placed) in &values {
        let source = match placed.file.as_str() {
            "postgresql.conf" => parts[0],
            "included.conf" => parts[1],
            "postgresql.auto.conf" => parts[2],
            other => panic!("there is no file {other}"),
        };
        let same_name: Vec<_> = conf::parse(source).entries.into_iter().filter(|entry| entry.name == *name).collect();
        let last = same_name.last().expect("the file has it");
        assert_eq!((&last.value, last.line), (&placed.value, placed.line), "the last line wins");
        let line_in_main = if placed.file == "included.conf" { first_include } else { Some(placed.line) };
        let origin = match (&owned, line_in_main) {
            _ if placed.file == "postgresql.auto.conf" => Origin::Auto,
            (Some(owned), Some(line)) if owned.contains(&line) => Origin::Block,
            (Some(owned), Some(line)) if line >= owned.end => Origin::After,
            _ => Origin::Before,
        };
        assert_eq!(placed.origin, origin, "{name}");
        if origin != Origin::Block {
            assert_eq!(elsewhere.get(name), Some(placed));
        }
    }
    assert!(elsewhere.values().all(|placed| placed.origin != Origin::Block));
    assert!(elsewhere.keys().all(|name| values.contains_key(name)));
    let names_of_main = of_main.entries.iter().filter(|entry| !entry.is_include()).map(|entry| &entry.name);
    assert!(names_of_main.into_iter().all(|name| values.contains_key(name)));
}

fn parts(text: &str) -> Vec<&str> {
    text.split("\n====\n").collect()
}

type Put = fn(&str, &Block) -> Result<String, block::Malformed>;

/// pgpair's block comes and goes, and no other line changes. The parts are a file and the lines of a block.
pub fn block(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (text, lines) = text.split_once("\n====\n").unwrap_or((&text, ""));
    let is_marker = |line: &&str| line.starts_with("# BEGIN pgpair ") || line.trim_end() == "# END pgpair";
    let lines: Vec<String> =
        lines.lines().filter(|line| !is_marker(line) && !line.ends_with('\r')).map(str::to_owned).collect();
    let new = Block { cluster: "orders".to_owned(), node: "a".to_owned(), lines };
    let puts: [(&str, Put); 2] = [("last", block::put_last), ("before the rules", block::put_before_rules)];

    let found = match block::find(text) {
        Ok(found) => found,
        Err(malformed) => {
            assert!((1..=text.lines().count()).contains(&malformed.line));
            assert_eq!(block::remove(text), Err(malformed.clone()));
            for (_, put) in puts {
                assert_eq!(put(text, &new), Err(malformed.clone()));
            }
            return;
        }
    };
    let rest = block::remove(text).expect("well formed");
    assert_eq!(block::find(&rest), Ok(None));
    let others = text.split_inclusive('\n').enumerate();
    let is_other = |index: usize| found.as_ref().is_none_or(|found| !found.lines.contains(&(index + 1)));
    assert_eq!(rest, others.filter(|(index, _)| is_other(*index)).map(|(_, line)| line).collect::<String>());

    for (place, put) in puts {
        let once = put(text, &new).expect("well formed");
        let there = block::find(&once).expect("well formed").expect("a block");
        assert_eq!((&there.block, there.intact), (&new, true), "{place}");
        assert_eq!(put(&once, &new), Ok(once.clone()), "twice {place}");
        assert_eq!(put(&rest, &new), Ok(once.clone()), "{place} in the place of the old one");
        // Only the end of a last line that had none is added.
        let without = block::remove(&once).expect("well formed");
        assert!(without == rest || without == format!("{rest}\n"), "{place}: {without:?}");
        let edited = once.replacen("\n# END pgpair", "\nby hand\n# END pgpair", 1);
        let edited = block::find(&edited).expect("well formed").expect("a block");
        assert!(!edited.intact || edited.block == new, "an edit shows");
    }
    let last = block::put_last(text, &new).expect("well formed");
    assert!(last.ends_with(&new.text()));
    let before = block::put_before_rules(text, &new).expect("well formed");
    let begin = block::find(&before).expect("well formed").expect("a block").lines.start;
    let above = before.lines().take(begin - 1).map(str::trim_start);
    assert!(above.into_iter().all(|line| line.is_empty() || line.starts_with('#')), "no rule stands above the block");
}

/// pg_hba.conf: each line is read by itself, what was read can be written, and a rule decides its own connections.
pub fn hba(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.split('\n').collect();
    let rules = match hba::parse(&text) {
        Ok(rules) => rules,
        Err(bad) => {
            let (before, after) = lines.split_at(bad.line - 1);
            assert!(hba::parse(after[0]).is_err(), "{bad}");
            hba::parse(&before.join("\n")).expect("it is the first line that is bad")
        }
    };
    assert!(rules.windows(2).all(|pair| pair[0].line < pair[1].line));
    for rule in &rules {
        let alone = hba::parse(lines[rule.line - 1]).expect("good by itself");
        assert_eq!(alone, [hba::Rule { line: 1, ..rule.clone() }]);
        assert!(hba::holds(&alone, rule), "a rule decides its own connections: {rule:?}");
        assert_eq!(rule.address.is_none(), rule.kind == "local");

        let options: Option<Vec<_>> = rule.options.iter().map(|option| option.split_once('=')).collect();
        let Some(options) = options else { continue };
        let texts = |words: &[hba::Word]| words.iter().map(|word| word.text.clone()).collect::<Vec<_>>();
        let new = NewRule {
            kind: rule.kind.clone(),
            databases: texts(&rule.databases),
            users: texts(&rule.users),
            address: rule.address.clone(),
            method: rule.method.clone(),
            options: options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        let Ok(line) = hba::line(&new) else {
            assert!(lines[rule.line - 1].contains(['\r', '\0']));
            continue;
        };
        let written = hba::parse(&line).expect("what is written is a rule");
        let [written] = &written[..] else { panic!("{line:?} is not one rule") };
        assert_eq!(texts(&written.databases), new.databases, "{line:?}");
        assert_eq!(texts(&written.users), new.users, "{line:?}");
        assert_eq!((&written.kind, &written.address), (&new.kind, &new.address), "{line:?}");
        assert_eq!((&written.method, &written.options), (&new.method, &rule.options), "{line:?}");
    }
}

/// Connection strings: what was read can be written, and no rendering shows a password.
pub fn conninfo(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(conninfo) = Conninfo::parse(&text) {
        assert_eq!(Conninfo::parse(&conninfo.text()), Ok(conninfo.clone()));
        let mut hidden = conninfo.clone();
        for key in ["password", "sslpassword"] {
            if conninfo.get(key).is_some() {
                hidden.set(key, HIDDEN);
            }
        }
        let shown = Conninfo::parse(&conninfo.redacted()).expect("a connection string still");
        assert_eq!(shown.get("password"), hidden.get("password"));
        for key in ["host", "port", "user", "dbname", "sslmode"] {
            let holds_one = hidden.get(key).is_some_and(conninfo::may_hold_secret);
            assert!(holds_one || shown.get(key) == hidden.get(key), "only secrets are hidden");
        }
    }
    if shows_password(&text) {
        return;
    }
    let texts = [
        format!("password={PASSWORD} {text}"),
        format!("{text} password={PASSWORD}"),
        format!("{text} password = '{PASSWORD}'"),
        format!("PASSWORD={PASSWORD} {text}"),
        format!("sslpassword={PASSWORD}{text}"),
        format!("postgresql://u:{PASSWORD}@h/{text}"),
        format!("postgres://u@h/?password={PASSWORD}&{text}"),
    ];
    for text in texts {
        if let Ok(conninfo) = Conninfo::parse(&text) {
            assert!(!conninfo.redacted().contains(PASSWORD), "{text:?} is shown as {:?}", conninfo.redacted());
        }
    }
}

/// Configuration files in a plan: no password is shown, whatever stands around it, and no other line changes.
pub fn redact(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    static DEMO: LazyLock<Topology> = LazyLock::new(|| {
        let source = include_bytes!("../topologies/demo.yaml");
        topology::parse(source, "demo.yaml", "/base").expect("a good topology")
    });
    let show = |text: &str| [redact::conf_text(text, &DEMO), redact::hba_text(text)];
    for shown in show(&text) {
        assert_eq!(shown.split('\n').count(), text.split('\n').count());
    }
    if shows_password(&text) {
        return;
    }
    let around = text.split('\n').next().unwrap_or_default();
    let hostile = [
        format!("primary_conninfo = 'password={PASSWORD} {around}"),
        format!("primary_conninfo = '{around} password={PASSWORD}'"),
        format!("{around}password={PASSWORD}"),
        format!("{around} postgresql://u:{PASSWORD}@h"),
        format!("ssl_passphrase_command = '{PASSWORD}'{around}"),
        format!("restore_command = '{PASSWORD}' #{around}"),
    ];
    for line in hostile {
        for line in [format!("#{line}"), line] {
            let [shown, _] = show(&format!("a = 1\n{line}\n{text}"));
            assert!(!shown.contains(PASSWORD), "{line:?} is shown as {shown:?}");
            assert!(shown.starts_with("a = 1\n"));
        }
    }
    for line in [format!("{around} ldapbindpasswd={PASSWORD}"), format!("radiussecrets=\"{PASSWORD}\" {around}")] {
        let [_, shown] = show(&format!("local all all trust\n{line}\n{text}"));
        assert!(!shown.contains(PASSWORD), "{line:?} is shown as {shown:?}");
        assert!(shown.starts_with("local all all trust\n"));
    }
}

/// pg_control: nothing is believed but a whole file of the right version with the right checksum, and then all of it.
///
/// The first byte of the input chooses the major, the next two a bit to be flipped; the rest begins the file.
pub fn control(bytes: &[u8]) {
    for major in Major::all() {
        match Control::parse(bytes, major) {
            Err(BadControl::Size(size)) => assert!(size == bytes.len() && size != control::SIZE),
            Ok(_) | Err(BadControl::Version { .. } | BadControl::Checksum | BadControl::State(_)) => {
                assert_eq!(bytes.len(), control::SIZE);
            }
        }
    }
    let Some((&[choice, low, high], head)) = bytes.split_first_chunk::<3>() else { return };
    let Some(major) = Major::all().nth(usize::from(choice) % 9) else { return };
    let layout = major.dialect().control;
    let mut file = head.to_vec();
    file.resize(control::SIZE, 0);
    let as_it_is = Control::parse(&file, major);
    let is_whole = number(&file, 8) == layout.version && number(&file, layout.crc) == crc32c(&file[..layout.crc]);
    assert_eq!(as_it_is.is_ok(), is_whole && number(&file, 16) <= 6);

    file[8..12].copy_from_slice(&layout.version.to_le_bytes());
    let crc = crc32c(&file[..layout.crc]);
    file[layout.crc..layout.crc + 4].copy_from_slice(&crc.to_le_bytes());
    match Control::parse(&file, major) {
        Ok(control) => {
            assert_eq!(control.system_identifier.to_le_bytes(), file[..8]);
            assert_eq!(control.checkpoint.0.to_le_bytes(), file[32..40]);
            assert_eq!(control.timeline.0, number(&file, layout.timeline));
            assert_eq!(control.wal_segment_size, number(&file, layout.wal_segment_size));
            assert_eq!(control.checksums, number(&file, layout.checksum_version) != 0);
        }
        Err(bad) => {
            assert!(matches!(bad, BadControl::State(state) if state == number(&file, 16) && state > 6), "{bad}")
        }
    }
    for other in Major::all().filter(|other| other.dialect().control.version != layout.version) {
        assert!(matches!(Control::parse(&file, other), Err(BadControl::Version { .. })));
    }
    let bit = usize::from(u16::from_le_bytes([low, high])) % ((layout.crc + 4) * 8);
    file[bit / 8] ^= 1 << (bit % 8);
    assert!(
        matches!(Control::parse(&file, major), Err(BadControl::Version { .. } | BadControl::Checksum)),
        "a flipped bit shows"
    );
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// CRC-32C by polynomial division, another way than that of `control`: bit by bit from the highest.
fn crc32c(bytes: &[u8]) -> u32 {
    let bits = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    let crc = bits.fold(u32::MAX, |crc, bit| {
        let shifted = crc << 1;
        if (crc >> 31 == 1) == bit { shifted } else { shifted ^ 0x1EDC_6F41 }
    });
    !crc.reverse_bits()
}

/// Timeline histories: ancestors come in order, and what was read can be written.
pub fn history(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let history = match history::parse(&text) {
        Ok(history) => history,
        Err(bad) => {
            let before: Vec<&str> = text.split('\n').take(bad.line - 1).collect();
            history::parse(&before.join("\n")).expect("it is the first line that is bad");
            return;
        }
    };
    let mut ends = BTreeMap::new();
    let mut written = "# of a test\n".to_owned();
    for branch in &history.branches {
        assert!(ends.last_key_value().is_none_or(|(last, _)| *last < branch.timeline), "ancestors come in order");
        assert!(branch.timeline > Timeline(0));
        ends.insert(branch.timeline, branch.end);
        written.push_str(&format!("{}\t{}\tno recovery target specified\n\n", branch.timeline, branch.end));
        assert_eq!(history::fork_of(&history.branches, branch.timeline), Some(branch.end));
        let next = Timeline(branch.timeline.0.wrapping_add(1));
        assert!(
            history::fork_of(&history.branches, next).is_none()
                || history.branches.iter().any(|branch| branch.timeline == next)
        );
    }
    assert_eq!(history::parse(&written), Ok(history.clone()));
    assert_eq!(history::parse(&format!("{text}\n# a comment\n \t\n")), Ok(history.clone()));
    if let Some(last) = history.branches.last() {
        let again = format!("{text}\n{}\t0/0\n", last.timeline);
        assert!(history::parse(&again).is_err(), "a timeline has one end");
    }
}

/// Parameters: names are known in any case, and `same` is an equivalence that respects what `check` refuses.
///
/// The lines are the major, a name and three values.
pub fn guc(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.splitn(5, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let Ok(major) = next().parse::<Major>() else { return };
    let name = next();
    let values = [next(), next(), next()];

    let known = guc::known(major, name);
    assert_eq!(known.is_ok(), guc::known(major, &name.to_ascii_uppercase()).is_ok());
    match &known {
        Ok(Known::Guc(guc)) => assert_eq!(guc::context(major, name), Some(guc.context)),
        Ok(Known::RecoveryConf) => assert!(guc::context(major, name).is_some_and(guc::Context::needs_restart)),
        Ok(Known::Custom) => assert_eq!(guc::context(major, name), None),
        Err(unknown) => {
            assert!(unknown.to_string().contains(name));
            assert!(!unknown.other_majors.contains(&major));
            for meant in unknown.suggestion.iter().chain(&unknown.replaced_by) {
                guc::known(major, meant).expect("what is suggested is known");
            }
        }
    }
    let is_good = values.map(|value| guc::check(major, name, value).is_ok());
    if !matches!(known, Ok(Known::Guc(_) | Known::RecoveryConf)) {
        assert_eq!(is_good, [true; 3], "nothing checks the value of an unknown name");
    }
    let same = |a: usize, b: usize| guc::same(major, name, values[a], values[b]);
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        assert!(same(a, a) && same(b, b), "a text is the same as itself");
        assert_eq!(same(a, b), same(b, a), "either way round");
        assert!(!same(a, b) || is_good[a] == is_good[b], "a value that is refused is the same as a good one");
        let c = 3 - a - b;
        assert!(!(same(a, b) && same(b, c)) || same(a, c), "what is the same as the same is the same");
    }
    for (value, good) in values.into_iter().zip(is_good) {
        if let Err(bad) = guc::check(major, name, value) {
            assert!(!good && !bad.wanted.is_empty() && bad.to_string().contains(value));
        }
    }
}
