//! What processes take: seconds of processor and memory, read from `/proc`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};

/// The kernel's ticks of a second; on Linux it's 100 everywhere.
const TICKS: f64 = 100.0;

/// The processes for which `is` says yes of their command line and environment, with all below them.
pub fn processes(is: impl Fn(&str, &str) -> bool) -> Vec<i32> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let text = |file: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        if is(&text("cmdline"), &text("environ")) {
            found.extend(tree(pid));
        }
    }
    found.into_iter().collect()
}

/// A process and all below it.
pub fn tree(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while next < all.len() {
        let tasks = fs::read_dir(format!("/proc/{}/task", all[next])).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
        }
        next += 1;
    }
    all
}

/// Seconds of processor that these processes, and those of their children that ended, have taken so far.
pub fn seconds(pids: &[i32]) -> f64 {
    let ticks = |pid: &i32| -> Option<f64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything: field 3 is the first.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(11..15)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum())
    };
    pids.iter().filter_map(ticks).sum::<f64>() / TICKS
}

/// As [`seconds`], to the nanosecond, of threads that are still there: for processes that do next to nothing.
pub fn seconds_of_threads(pids: &[i32]) -> f64 {
    let threads = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten());
    let nanoseconds = threads.filter_map(|thread| {
        let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}

/// Megabytes of memory: `VmRSS` for now, `VmHWM` for the most there were.
pub fn megabytes(pids: &[i32], field: &str) -> f64 {
    let kilobytes = |pid: &i32| -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    pids.iter().filter_map(kilobytes).sum::<f64>() / 1024.0
}

/// A child's number as `/proc` has it.
pub fn pid(child: &std::process::Child) -> Result<i32> {
    i32::try_from(child.id()).context("a process id")
}
