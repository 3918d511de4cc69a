//! How long things took, in words.

use crate::event::Part;

/// Returns for how long nobody could write, and what took it.
#[must_use]
pub fn no_writes(parts: &[Part], from_before: bool) -> String {
    let parted = parts.iter().map(|part| format!("{} in {}", part.what, seconds(part.elapsed.as_secs_f64())));
    let parted = parted.collect::<Vec<_>>().join(", ");
    if from_before {
        return format!("it takes writes: {parted}");
    }
    let whole = parts.iter().map(|part| part.elapsed.as_secs_f64()).sum();
    format!("no writes for {}: {parted}", seconds(whole))
}

/// Returns a length of time as people say it: `52 ms`, `3.2 s`, `4 min 10 s`.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    // What would be rounded up to `1000 ms` or `60.0 s` goes by the larger unit.
    if seconds < 0.9995 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_length_of_time_has_the_unit_that_people_would_take() {
        let all = [0.0004, 0.052, 0.9994, 0.9996, 3.24, 59.96, 250.4].map(seconds);
        assert_eq!(all, ["0 ms", "52 ms", "999 ms", "1.0 s", "3.2 s", "1 min 0 s", "4 min 10 s"]);
    }

    #[test]
    fn where_writes_ended_before_the_step_no_length_is_claimed() {
        let parts = [Part { what: "promoted".into(), elapsed: Duration::from_millis(12) }];
        assert_eq!(no_writes(&parts, false), "no writes for 12 ms: promoted in 12 ms");
        assert_eq!(no_writes(&parts, true), "it takes writes: promoted in 12 ms");
    }
}
