//! Whether the server's clock is right. Where it differs from the worker's, the registry's says which of the two is off.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use slipway_protocol::ErrorCode;

use super::fitness::PreflightDefect;
use crate::remote::output::ScriptOutput;

const MAX_SKEW: u64 = 120;
/// How long the registry may take to tell the time, where it's asked.
pub(super) const ASK_TIME: Duration = Duration::from_secs(5);

/// The times at one moment, in seconds since 1970.
#[derive(Clone, Copy)]
pub(super) struct Clocks {
    pub(super) workers: u64,
    /// Asked only where the other two differ, and `None` also where it doesn't answer.
    pub(super) registrys: Option<u64>,
}

impl Clocks {
    /// The worker's.
    pub(super) fn now() -> Self {
        let workers = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self { workers, registrys: None }
    }

    /// Whether the server's clock is too far from the worker's.
    pub(super) fn differ(self, output: &ScriptOutput) -> bool {
        servers(output).is_some_and(|server| server.abs_diff(self.workers) > MAX_SKEW)
    }

    /// Whether it's the worker's that is off.
    pub(super) fn workers_is_off(self, output: &ScriptOutput) -> bool {
        let right = |server: u64| self.registrys.is_some_and(|registry| registry.abs_diff(server) <= MAX_SKEW);
        self.differ(output) && servers(output).is_some_and(right)
    }

    /// What keeps the server from taking a deployment.
    pub(super) fn defect(self, output: &ScriptOutput) -> Option<PreflightDefect> {
        if !self.differ(output) || self.workers_is_off(output) {
            return None;
        }
        let server = servers(output)?;
        let (by, whose) = match self.registrys {
            Some(registry) => (registry, "the registry's, which decides"),
            None => (self.workers, "this worker's; one of the two is off, and the registry doesn't tell the time"),
        };
        let way = if server > by { "ahead of" } else { "behind" };
        let (off, shown) = (server.abs_diff(by), shown(server));
        Some((ErrorCode::ClockSkewed, format!("the server's clock says {shown}, {off} s {way} {whose}")))
    }

    /// What operators are told of the worker's clock.
    pub(super) fn warning(self, output: &ScriptOutput) -> Option<String> {
        let registry = self.registrys.filter(|_| self.workers_is_off(output))?;
        let way = if self.workers > registry { "ahead" } else { "behind" };
        let off = self.workers.abs_diff(registry);
        Some(format!(
            "warning: this worker's clock is {off} s {way}, by those of the registry and of the server: turn on time \
             synchronisation on the worker's host"
        ))
    }
}

fn servers(output: &ScriptOutput) -> Option<u64> {
    output.value("clock").and_then(|clock| clock.parse().ok())
}

fn shown(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registrys_clock_decides_whose_is_off() {
        let mut output = ScriptOutput::default();
        assert_eq!(output.take_line("m", b"m clock 10000"), None);
        let clocks = |workers, registrys| Clocks { workers, registrys };
        let defect = |clocks: Clocks| clocks.defect(&output).map(|(_, message)| message);
        assert_eq!(defect(clocks(9_900, None)), None);
        assert_eq!(
            defect(clocks(9_000, None)).as_deref(),
            Some(
                "the server's clock says 1970-01-01T02:46:40Z, 1000 s ahead of this worker's; one of the two is off, and \
                 the registry doesn't tell the time"
            )
        );
        assert_eq!(
            defect(clocks(10_600, Some(10_610))).as_deref(),
            Some("the server's clock says 1970-01-01T02:46:40Z, 610 s behind the registry's, which decides")
        );
        // Nobody's deployment fails for it.
        let ours = clocks(10_600, Some(10_001));
        assert_eq!((defect(ours), ours.warning(&output).is_some_and(|w| w.contains("599 s ahead"))), (None, true));
        assert_eq!(clocks(9_000, Some(9_001)).warning(&output), None);
    }
}
