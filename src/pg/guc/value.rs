//! How each major reads a value from its text: guc.c's `parse_bool`, `parse_int`, `parse_real` and enum lookup.
//!
//! Numbers follow C: blanks before, a sign, base 16 after `0x` and base 8 after `0`. Not read, though C does:
//! hexadecimal fractions, infinities and NaN.

use super::Kind;
use super::Unit;
use crate::pg::version::Dialect;

/// A value as the server holds it; numbers in the parameter's unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Integer(i32),
    Real(f64),
    Enum(&'static str),
}

/// Whether two values are one.
///
/// pg_settings shows six digits of a real: more can't be compared with it.
pub(super) fn same(a: Value, b: Value) -> bool {
    match (a, b) {
        (Value::Real(a), Value::Real(b)) => a == b || format!("{a:.5e}") == format!("{b:.5e}"),
        _ => a == b,
    }
}

/// Reads a value of a kind that is more than text. `None` if the server would refuse it.
pub(super) fn read(dialect: &Dialect, kind: &Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Bool => bool(text).map(Value::Bool),
        Kind::Integer { unit, min, max } => {
            let value =
                if dialect.fractional_integers { integer(text, *unit) } else { whole_integer(dialect, text, *unit) };
            value.filter(|value| (min..=max).contains(&value)).map(Value::Integer)
        }
        Kind::Real { unit, min, max } => {
            let unit = unit.filter(|_| dialect.fractional_integers);
            real(text, unit).filter(|value| (min..=max).contains(&value)).map(Value::Real)
        }
        Kind::Enum { values, aliases } => one_of(values, aliases, text).map(Value::Enum),
        Kind::String => None,
    }
}

/// The spellings of units that a major takes for a parameter with this unit, with their sizes, largest first.
pub(super) fn units(dialect: &Dialect, unit: Unit) -> impl Iterator<Item = (&'static str, f64)> {
    let (bytes, microseconds) = (dialect.byte_unit, dialect.fractional_integers);
    unit.family().iter().copied().filter(move |&(spelling, _)| match spelling {
        "B" => bytes,
        "us" => microseconds,
        _ => true,
    })
}

/// Reads any prefix of true, false, yes and no; `on`, `off` and `of`; 1 and 0.
pub(super) fn bool(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let abbreviates = |word: &str, shortest: usize| text.len() >= shortest && word.starts_with(&text);
    if abbreviates("true", 1) || abbreviates("yes", 1) || abbreviates("on", 2) || text == "1" {
        Some(true)
    } else if abbreviates("false", 1) || abbreviates("no", 1) || abbreviates("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

fn one_of(values: &[&'static str], aliases: &[(&'static str, &'static str)], text: &str) -> Option<&'static str> {
    let listed = values.iter().copied().find(|value| value.eq_ignore_ascii_case(text));
    listed.or_else(|| aliases.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(text)).map(|&(_, value)| value))
}

/// Reads an integer as 10 and 11 do: whole numbers, a smaller unit is cut down to the parameter's.
fn whole_integer(dialect: &Dialect, text: &str, unit: Option<Unit>) -> Option<i32> {
    let (number, rest) = strtol(text)?;
    let number = i64::from(i32::try_from(number?).ok()?);
    let spelling = rest.trim_matches(is_blank);
    if spelling.is_empty() {
        return i32::try_from(number).ok();
    }
    let unit = unit?;
    let (_, size) = units(dialect, unit).find(|&(name, _)| name == spelling)?;
    let (size, own) = (size as i64, unit.size() as i64);
    let value = if size >= own { number.checked_mul(size / own)? } else { number / (own / size) };
    i32::try_from(value).ok()
}

/// Reads an integer as 12 and later do: fractions and exponents too, rounded half to even.
fn integer(text: &str, unit: Option<Unit>) -> Option<i32> {
    let (mut number, mut rest) = match strtol(text) {
        Some((Some(number), rest)) => (number as f64, rest),
        Some((None, _)) => strtod(text)?,
        None => (0.0, text),
    };
    if rest.starts_with(['.', 'e', 'E']) {
        (number, rest) = strtod(text)?;
    }
    if rest.len() == text.len() {
        return None;
    }
    let rounded = in_unit(number, rest, unit)?.round_ties_even();
    (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&rounded).then_some(rounded as i32)
}

fn real(text: &str, unit: Option<Unit>) -> Option<f64> {
    let (number, rest) = strtod(text)?;
    in_unit(number, rest, unit)
}

/// Converts a number to the parameter's unit from the one named after it.
fn in_unit(number: f64, rest: &str, unit: Option<Unit>) -> Option<f64> {
    let spelling = rest.trim_matches(is_blank);
    if spelling.is_empty() {
        return Some(number);
    }
    let unit = unit?;
    let family = unit.family();
    let place = family.iter().position(|&(name, _)| name == spelling)?;
    let value = number * (family[place].1 / unit.size());
    // A fraction stands for a whole number of the next smaller unit: 30.1GB is 30822MB.
    Some(family.get(place + 1).map_or(value, |&(_, smaller)| {
        let smaller = smaller / unit.size();
        (value / smaller).round_ties_even() * smaller
    }))
}

/// Reads a leading integer; the number is `None` when it exceeds 64 bits.
fn strtol(text: &str) -> Option<(Option<i64>, &str)> {
    let (negative, unsigned) = sign(text);
    let (radix, digits) = match hex_digits(unsigned) {
        Some(digits) => (16, digits),
        None => (if unsigned.starts_with('0') { 8 } else { 10 }, unsigned),
    };
    let (digits, rest) = digits.split_at(digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len()));
    let number = i64::from_str_radix(digits, radix).ok().map(|number| if negative { -number } else { number });
    (!digits.is_empty()).then_some((number, rest))
}

/// Reads a leading floating-point number; `None` also when it is too large or too small.
fn strtod(text: &str) -> Option<(f64, &str)> {
    let (negative, unsigned) = sign(text);
    let (number, rest) = if let Some(hex) = hex_digits(unsigned) {
        let (digits, rest) = hex.split_at(hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len()));
        (digits.chars().fold(0.0, |n, c| n * 16.0 + f64::from(c.to_digit(16).unwrap_or_default())), rest)
    } else {
        let (decimal, rest) = unsigned.split_at(decimal_length(unsigned));
        let number: f64 = decimal.parse().ok()?;
        let mantissa = decimal.split(['e', 'E']).next().unwrap_or_default();
        if number == 0.0 && mantissa.contains(|c: char| ('1'..='9').contains(&c)) {
            return None;
        }
        (number, rest)
    };
    number.is_finite().then_some((if negative { -number } else { number }, rest))
}

/// The length of the longest decimal number that the text begins with.
fn decimal_length(text: &str) -> usize {
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(0);
    let mut end = whole;
    if text[end..].starts_with('.') {
        let fraction = digits(end + 1);
        if whole + fraction > 0 {
            end += 1 + fraction;
        }
    }
    if end > 0 && text[end..].starts_with(['e', 'E']) {
        let from = end + 1 + usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(from);
        if exponent > 0 {
            end = from + exponent;
        }
    }
    end
}

fn sign(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches(is_blank);
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn hex_digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    digits.starts_with(|c: char| c.is_ascii_hexdigit()).then_some(digits)
}

/// C's `isspace`.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0B' | '\x0C' | '\r')
}
