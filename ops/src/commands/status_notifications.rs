//! A part of `slipway status`: the channels that people are told through.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_worker::store::NotificationChannel;

use crate::commands::status_parts::format_age;
use crate::terminal::print::{Printer, Table};

/// What people aren't told, in words.
pub(crate) fn notification_problems(channels: &[NotificationChannel], max_wait: Duration) -> Vec<String> {
    let mut problems = Vec::new();
    for channel in channels {
        let (name, problem) = (&channel.name, channel.problem.as_deref().unwrap_or("it isn't known why"));
        if channel.failures > 0 {
            problems.push(format!(
                "nobody is told through channel {name}, where {} wait; it's tried again in {}: {problem}",
                channel.waiting,
                format_age(channel.next_try_in)
            ));
        } else if channel.refused > 0 {
            let refused = channel.refused;
            problems
                .push(format!("channel {name} refuses notifications ({refused}), which are tried again: {problem}"));
        } else if channel.overdue > max_wait {
            problems.push(format!(
                "notifications wait for channel {name} ({}), the oldest for {}: does `slipway notify` run, and does its file \
                 have this channel?",
                channel.waiting,
                format_age(channel.overdue)
            ));
        }
        if channel.given_up > 0 {
            let given_up = channel.given_up;
            problems
                .push(format!("notifications of channel {name} were given up since yesterday ({given_up}): {problem}"));
        }
    }
    problems
}

/// What waits for each channel; nothing where nobody is told anything.
pub(crate) fn print_channels(channels: &[NotificationChannel], printer: &Printer) {
    let mut table = Table::new(&["TOLD THROUGH", "WAITING", "REFUSED", "GIVEN UP"]);
    for channel in channels {
        let counts = [channel.waiting, channel.refused, channel.given_up];
        table.row(std::iter::once(channel.name.clone()).chain(counts.map(|count| count.to_string())));
    }
    if !table.is_empty() {
        printer.line("");
        printer.table(&table);
    }
}

pub(crate) fn channel_json(channel: &NotificationChannel) -> Value {
    json!({
        "name": channel.name,
        "waiting": channel.waiting,
        "overdue_s": channel.overdue.as_secs_f64(),
        "refused": channel.refused,
        "given_up": channel.given_up,
        "failures": channel.failures,
        "next_try_in_s": channel.next_try_in.as_secs_f64(),
        "problem": channel.problem,
    })
}
