//! Quiet hours: a span of each day, in a time zone. Pure: the moment is an argument.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// From when to when a channel is left in peace, each day.
#[derive(Debug, Clone)]
pub(crate) struct QuietHours {
    from: Time,
    to: Time,
    zone: TimeZone,
}

impl QuietHours {
    /// From `from` to `to`, past midnight where that is earlier; `None` when they are the same.
    pub(crate) fn new(from: Time, to: Time, zone: TimeZone) -> Option<Self> {
        (from != to).then_some(Self { from, to, zone })
    }

    /// When they end that hold at this moment; `None` when none do.
    pub(crate) fn end(&self, now: Timestamp) -> Option<Timestamp> {
        let here = now.to_zoned(self.zone.clone());
        let (day, time) = (here.date(), here.time());
        let ends_on = match (self.from < self.to, time >= self.from, time < self.to) {
            (true, true, true) => day,
            (false, true, _) => day.checked_add(1.day()).ok()?,
            (false, _, true) => day,
            _ => return None,
        };
        // A time that the clocks leave out comes as soon as they go on; one that comes twice, the first time.
        Some(self.zone.to_ambiguous_zoned(ends_on.to_datetime(self.to)).compatible().ok()?.timestamp())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn hours(from: &str, to: &str, zone: &str) -> QuietHours {
        QuietHours::new(from.parse().unwrap(), to.parse().unwrap(), TimeZone::get(zone).unwrap()).unwrap()
    }

    fn end(hours: &QuietHours, at: &str) -> Option<String> {
        hours.end(at.parse().unwrap()).map(|end| end.to_string())
    }

    #[test]
    fn hours_within_a_day_and_past_midnight_end_when_they_say() {
        let day = hours("12:00", "13:30", "UTC");
        assert_eq!(end(&day, "2026-11-20T11:59:59Z"), None);
        assert_eq!(end(&day, "2026-11-20T12:00:00Z").as_deref(), Some("2026-11-20T13:30:00Z"));
        assert_eq!(end(&day, "2026-11-20T13:30:00Z"), None);
        let night = hours("22:00", "07:00", "UTC");
        assert_eq!(end(&night, "2026-11-20T21:59:59Z"), None);
        assert_eq!(end(&night, "2026-11-20T22:00:00Z").as_deref(), Some("2026-11-21T07:00:00Z"));
        assert_eq!(end(&night, "2026-11-21T06:59:59Z").as_deref(), Some("2026-11-21T07:00:00Z"));
        assert_eq!(end(&night, "2026-11-21T07:00:00Z"), None);
    }

    #[test]
    fn hours_are_those_of_their_zone_also_on_the_day_when_clocks_change() {
        let night = hours("22:00", "07:00", "Europe/Berlin");
        assert_eq!(end(&night, "2026-07-01T20:30:00Z").as_deref(), Some("2026-07-02T05:00:00Z"));
        assert_eq!(end(&night, "2026-10-24T21:00:00Z").as_deref(), Some("2026-10-25T06:00:00Z"));
        let gap = hours("01:00", "02:30", "Europe/Berlin");
        assert_eq!(end(&gap, "2026-03-29T00:10:00Z").as_deref(), Some("2026-03-29T01:30:00Z"));
    }
}
