//! Ids, durations and times as people read them. Whole tables and lines are printed by `print`.

use jiff::Timestamp;

/// The first eight digits of an id: enough to be unique among a few thousand.
pub(crate) fn short_id(id: &str) -> String {
    id.chars().take(8).collect()
}

pub(crate) fn text_or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// Milliseconds for people: `0.8 s`, `2 min 05 s`, `1 h 02 min`, `3 d 4 h`.
pub(crate) fn format_duration(ms: u64) -> String {
    let tenths = ms.saturating_add(50) / 100;
    let seconds = ms.saturating_add(500) / 1000;
    match seconds {
        _ if tenths < 600 => format!("{}.{} s", tenths / 10, tenths % 10),
        s if s < 3600 => format!("{} min {:02} s", s / 60, s % 60),
        s if s < 86_400 => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
        s => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// Bytes for people: `512 B`, `3.4 MB`, `12.0 GB`.
pub(crate) fn format_bytes(bytes: u64) -> String {
    let tenths = |unit: u64| (bytes / unit, bytes % unit * 10 / unit);
    let (unit, name) = match bytes {
        0..1_000_000 => return format!("{bytes} B"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    let (whole, tenth) = tenths(unit);
    format!("{whole}.{tenth} {name}")
}

/// The time between two moments in milliseconds; 0 when they are in the wrong order, as clocks sometimes have it.
pub(crate) fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}

/// A moment, to the second, in UTC.
pub(crate) fn format_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_and_never_show_sixty_seconds() {
        let shown: Vec<String> =
            [0, 49, 949, 59_949, 59_950, 125_000, 3_599_600, 3_720_000, 273_600_000].map(format_duration).into();
        assert_eq!(
            shown,
            ["0.0 s", "0.0 s", "0.9 s", "59.9 s", "1 min 00 s", "2 min 05 s", "1 h 00 min", "1 h 02 min", "3 d 4 h"]
        );
    }

    #[test]
    fn bytes_are_shown_in_the_unit_that_has_few_digits() {
        let shown = [0, 999_999, 3_450_000, 12_000_000_000].map(format_bytes);
        assert_eq!(shown, ["0 B", "999999 B", "3.4 MB", "12.0 GB"]);
    }

    #[test]
    fn a_clock_that_runs_backwards_gives_no_negative_time() {
        let early: Timestamp = "2026-11-20T09:30:00Z".parse().unwrap();
        let late: Timestamp = "2026-11-20T09:30:01Z".parse().unwrap();
        assert_eq!((millis_between(early, late), millis_between(late, early)), (1000, 0));
    }
}
