//! What was measured, one JSON object a line: section, case, whose it is, which repetition, what, in which unit, how
//! much. What becomes of it (medians, ratios, curves) is `tests/bench.d/report.py`'s. The only module here that prints.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

/// The file of figures.
pub struct Record {
    file: File,
    begun: Instant,
}

/// What a figure belongs to.
#[derive(Clone)]
pub struct Subject {
    /// Part of the bench.
    pub section: &'static str,
    /// Under which circumstances.
    pub case: String,
    /// Whose it is: `slipway`, a peer, a floor.
    pub who: String,
    /// Which repetition, from 1.
    pub repetition: u32,
}

impl Record {
    /// Opens the file, emptied.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self { file, begun: Instant::now() })
    }

    /// Writes a figure down, and tells it.
    pub fn note(&mut self, of: &Subject, measure: &str, unit: &str, value: f64) -> Result<()> {
        let Subject { section, case, who, repetition } = of;
        let line = json!({
            "section": section, "case": case, "who": who, "repetition": repetition,
            "measure": measure, "unit": unit, "value": value,
        });
        writeln!(self.file, "{line}")?;
        self.say(&format!("{section}, {case}, {who} #{repetition}: {measure} {value:.3} {unit}"));
        Ok(())
    }

    /// Writes down which statements took PostgreSQL's time, each with calls and milliseconds.
    pub fn profile(&mut self, of: &Subject, statements: &[(String, f64, f64)]) -> Result<()> {
        let Subject { section, case, who, repetition } = of;
        let line =
            json!({ "section": section, "case": case, "who": who, "repetition": repetition, "profile": statements });
        Ok(writeln!(self.file, "{line}")?)
    }

    /// Median and 99th percentile, in milliseconds.
    pub fn note_latencies(&mut self, of: &Subject, measure: &str, mut all: Vec<Duration>) -> Result<()> {
        all.sort();
        for (name, part) in [("p50", 50), ("p99", 99)] {
            if let Some(one) = all.get((all.len() * part / 100).min(all.len().saturating_sub(1))) {
                self.note(of, &format!("{measure}, {name}"), "ms", one.as_secs_f64() * 1e3)?;
            }
        }
        Ok(())
    }

    /// What is going on.
    pub fn say(&self, text: &str) {
        let _ = writeln!(io::stderr(), "bench: {:6.1} s: {text}", self.begun.elapsed().as_secs_f64());
    }
}

/// What went wrong.
pub fn error(error: &anyhow::Error) {
    let _ = writeln!(io::stderr(), "error: {error:#}");
}
