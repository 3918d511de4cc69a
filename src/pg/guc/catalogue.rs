//! The catalogue of parameters: `catalogue.tsv`, which `scripts/catalogue` writes from real servers.
//!
//! The file has one line per parameter and span of majors in which nothing of it changes. It is embedded
//! and read once; a line that can't be read is a mistake in this repository, so reading it panics.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

use super::Context;
use super::Guc;
use super::Kind;
use super::Unit;
use crate::pg::version::Major;

/// One line of the file.
#[derive(Debug)]
pub(super) struct Row {
    majors: RangeInclusive<Major>,
    /// The name belongs into recovery.conf in these majors.
    pub(super) recovery_conf: bool,
    pub(super) guc: Guc,
}

/// Finds a parameter by its name in any case.
pub(super) fn row(major: Major, name: &str) -> Option<&'static Row> {
    rows(name).iter().find(|row| row.majors.contains(&major))
}

/// Lists the majors that know this name.
pub(super) fn majors(name: &str) -> Vec<Major> {
    Major::all().filter(|&major| row(major, name).is_some()).collect()
}

/// Lists every parameter of a major, in the order of their names.
pub(super) fn all(major: Major) -> impl Iterator<Item = &'static Row> {
    catalogue().values().flatten().filter(move |row| row.majors.contains(&major))
}

fn rows(name: &str) -> &'static [Row] {
    catalogue().get(&name.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
}

fn catalogue() -> &'static BTreeMap<String, Vec<Row>> {
    static CATALOGUE: OnceLock<BTreeMap<String, Vec<Row>>> = OnceLock::new();
    CATALOGUE.get_or_init(|| {
        let mut by_name: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for line in include_str!("catalogue.tsv").lines().filter(|line| !line.starts_with('#')) {
            let row = read(line).unwrap_or_else(|| panic!("catalogue.tsv: unreadable line: {line}"));
            by_name.entry(row.guc.name.to_ascii_lowercase()).or_default().push(row);
        }
        by_name
    })
}

fn read(line: &'static str) -> Option<Row> {
    let fields: Vec<&'static str> = line.split('\t').collect();
    let [name, first, last, vartype, unit, context, min, max, values, boot] = fields[..] else { return None };
    let unit = match present(unit) {
        None => None,
        Some(spelling) => Some(Unit::ALL.into_iter().find(|unit| unit.spelling() == spelling)?),
    };
    let kind = match vartype {
        "bool" => Kind::Bool,
        "integer" => Kind::Integer { unit, min: bound(min, i32::MIN)?, max: bound(max, i32::MAX)? },
        "real" => Kind::Real { unit, min: bound(min, f64::MIN)?, max: bound(max, f64::MAX)? },
        "enum" => {
            let (aliases, values) = values.split(',').partition::<Vec<_>, _>(|value| value.contains('='));
            Kind::Enum { values, aliases: aliases.into_iter().filter_map(|alias| alias.split_once('=')).collect() }
        }
        "string" => Kind::String,
        _ => return None,
    };
    let recovery_conf = context == "recovery.conf";
    // A server of 10 or 11 reads recovery.conf only when it starts.
    let context = if recovery_conf { Context::Postmaster } else { context.parse().ok()? };
    Some(Row {
        majors: first.parse().ok()?..=last.parse().ok()?,
        recovery_conf,
        guc: Guc { name, kind, context, boot: present(boot) },
    })
}

fn present(field: &'static str) -> Option<&'static str> {
    (field != r"\N").then_some(field)
}

fn bound<T: std::str::FromStr>(field: &'static str, otherwise: T) -> Option<T> {
    present(field).map_or(Some(otherwise), |text| text.parse().ok())
}
