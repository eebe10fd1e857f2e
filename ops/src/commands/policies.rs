//! `slipway explain policies`: the worker's table of policies, and what each class of errors means for retries.

use std::time::Duration;

use serde_json::{Value as Json, json};
use slipway_deploy::backoff::RetryPolicy as Retry;
use slipway_protocol::Class;
use slipway_worker::policies::{self, PolicySetting, PolicyValue};

use crate::terminal::print::{Printer, Table};

const CLASSES: [Class; 4] = [Class::Transient, Class::Infrastructure, Class::UserAction, Class::Permanent];

pub(crate) fn run(printer: &Printer) {
    if printer.is_json() {
        return printer.json(&policies_json());
    }
    for group in policies::all() {
        let heading = group.title.to_uppercase();
        let mut table = Table::new(&[heading.as_str(), "DEFAULT", "SET BY", "WHY"]);
        for policy in group.policies {
            let variable = policy.variable.unwrap_or("-").to_owned();
            table.row([policy.name.to_owned(), describe_value(&policy.value), variable, policy.why.to_owned()]);
        }
        printer.table(&table);
        printer.line("");
    }
    let mut table = Table::new(&["CLASS OF AN ERROR", "WHAT FOLLOWS"]);
    for class in CLASSES {
        table.row([class.to_string(), describe_class(class).to_owned()]);
    }
    printer.table(&table);
    printer
        .hint("`slipway-worker --help` says what the variables take; `slipway explain` lists the codes of each class");
}

fn describe_value(value: &PolicyValue) -> String {
    match value {
        PolicyValue::Time(time) => format_span(*time),
        PolicyValue::Count(n, of) => format!("{n} {of}"),
        PolicyValue::Retry(Retry { initial, max, multiplier, attempts }) => {
            let delays = format!("up to {}, then x{multiplier} up to {}", format_span(*initial), format_span(*max));
            if *attempts == u32::MAX { delays } else { format!("{attempts} times, delays {delays}") }
        }
    }
}

/// The time in the largest unit that gives a whole number, as settings take it.
fn format_span(time: Duration) -> String {
    let ms = time.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")];
    let best = units.into_iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit));
    best.map_or_else(|| format!("{ms} ms"), |(unit, name)| format!("{} {name}", ms / unit))
}

fn policies_json() -> Json {
    let policy = |group: &'static str, p: &PolicySetting| {
        let (value, unit) = match p.value {
            PolicyValue::Time(time) => (json!(time.as_secs_f64()), "s"),
            PolicyValue::Count(n, of) => (json!(n), of),
            PolicyValue::Retry(retry) => {
                let tries = (retry.attempts != u32::MAX).then_some(retry.attempts);
                let (first, most) = (retry.initial.as_secs_f64(), retry.max.as_secs_f64());
                (json!({ "tries": tries, "first": first, "multiplier": retry.multiplier, "most": most }), "s")
            }
        };
        json!({
            "group": group,
            "name": p.name,
            "default": value,
            "unit": unit,
            "variable": p.variable,
            "why": p.why,
        })
    };
    let table = policies::all();
    let policies: Vec<Json> =
        table.iter().flat_map(|group| group.policies.iter().map(|p| policy(group.title, p))).collect();
    let classes: Vec<Json> = CLASSES
        .into_iter()
        .map(|class| json!({ "class": class, "retried": class.retries(), "meaning": describe_class(class) }))
        .collect();
    json!({ "policies": policies, "classes": classes })
}

pub(crate) fn describe_class(class: Class) -> &'static str {
    match class {
        Class::Transient => "may pass by itself, so it's retried",
        Class::Permanent => "the same request can never succeed, so it isn't retried",
        Class::UserAction => "somebody has to change something first, so it isn't retried",
        Class::Infrastructure => "a server or service is unfit; it's retried, then it's a matter for its operators",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_says_them_best() {
        let shown = [200, 500, 1000, 5000, 60_000, 90_000, 600_000, 3_600_000, 3_660_000, 2_592_000_000];
        let shown = shown.map(|ms| format_span(Duration::from_millis(ms)));
        let expected = ["200 ms", "500 ms", "1 s", "5 s", "1 min", "90 s", "10 min", "1 h", "61 min", "30 d"];
        assert_eq!(shown, expected);
    }
}
