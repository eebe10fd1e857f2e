//! How a deployment is shown while it runs: spinner and lines on a terminal, plain lines in a pipe, JSON lines.
//!
//! Lines are data and go to stdout through [`Printer`]; only the spinner is drawn here, on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use slipway_protocol::{Action, ProgressKind, Stage};

use super::event::{Event, EventBody};
use super::event_line::{describe_event, describe_failure};
use crate::terminal::format::{format_duration, format_time, millis_between};
use crate::terminal::print::{Printer, clean};

/// Shows the events of one deployment as they come.
pub(crate) struct EventView {
    printer: Printer,
    with_logs: bool,
    since: Option<Timestamp>,
    spinner: Option<ProgressBar>,
}

impl EventView {
    pub(crate) fn new(printer: Printer, with_logs: bool) -> Self {
        let spinner = printer.is_live().then(new_spinner);
        Self { printer, with_logs, since: None, spinner }
    }

    /// Shows what the deployment waits for.
    pub(crate) fn show_waiting(&self, text: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_prefix("waiting");
            spinner.set_message(clean(text));
        }
    }

    /// Prints without a broken line where the spinner is drawn.
    pub(crate) fn print_beside(&self, print: impl FnOnce(&Printer)) {
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| print(&self.printer)),
            None => print(&self.printer),
        }
    }

    pub(crate) fn show_event(&mut self, event: &Event) {
        if self.printer.is_json() {
            return self.printer.json(&event.json);
        }
        let EventBody::Progress(progress) = &event.body else { return };
        let time = event.time.unwrap_or_else(Timestamp::now);
        let since = *self.since.get_or_insert(time);
        self.update_spinner(progress.action, &progress.kind, time);
        let elapsed = format_duration(millis_between(since, time));
        if let Some(line) = describe_event(&progress.kind) {
            let is_on_spinner = self.spinner.is_some() && matches!(progress.kind, ProgressKind::StageStarted { .. });
            if !is_on_spinner {
                self.print_beside(|p| p.line(&format!("{elapsed:>10}  {:<9}  {}", line.about, line.text)));
            }
        }
        if let (true, ProgressKind::Log { stage, lines }) = (self.with_logs, &progress.kind) {
            self.print_beside(|p| {
                for text in lines {
                    p.line(&format!("{elapsed:>10}  {:<9}  | {text}", stage.as_str()));
                }
            });
        }
    }

    pub(crate) fn remove_spinner(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }

    fn update_spinner(&mut self, action: Action, kind: &ProgressKind, time: Timestamp) {
        let Some(spinner) = &mut self.spinner else { return };
        match kind {
            ProgressKind::StageStarted { stage, .. } => {
                let stages = action.stages();
                let position = stages.iter().position(|s| s == stage).unwrap_or_default();
                spinner.set_length(stages.len() as u64);
                spinner.set_prefix(stage.as_str());
                spinner.set_message("");
                spinner.set_position(position as u64 + 1);
                spinner.reset_elapsed();
                let elapsed = Duration::from_millis(millis_between(time, Timestamp::now()));
                *spinner = std::mem::replace(spinner, ProgressBar::hidden()).with_elapsed(elapsed);
            }
            ProgressKind::Log { lines, .. } => {
                if let Some(last) = lines.iter().rev().find(|l| !l.trim().is_empty()) {
                    spinner.set_message(clean(last).replace(['\n', '\t'], " "));
                }
            }
            ProgressKind::Accepted { .. } => {
                spinner.set_prefix("waiting");
                spinner.set_message("for a worker to begin");
            }
            ProgressKind::AttemptScheduled { run_at, .. } => {
                spinner.set_prefix("waiting");
                spinner.set_message(format!("for the next attempt at {}", format_time(*run_at)));
            }
            ProgressKind::Interrupted { .. } => {
                spinner.set_prefix("waiting");
                spinner.set_message("for another worker");
            }
            ProgressKind::StageRetrying { failure, .. } => spinner.set_message(clean(&describe_failure(failure))),
            ProgressKind::AttemptStarted { .. } | ProgressKind::StageFinished { .. } => spinner.set_message(""),
        }
    }
}

impl Drop for EventView {
    fn drop(&mut self) {
        self.remove_spinner();
    }
}

fn new_spinner() -> ProgressBar {
    let spinner = ProgressBar::new(Stage::ALL.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{pos}/{len}] {prefix:9} {elapsed:>4}  {wide_msg}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
