//! `ops/demo` as a newcomer runs it: what it prints, how it ends, and that nothing of it is left.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use slipway_tests::world::{World, WorldOptions, eventually};
use tempfile::TempDir;

/// The script, its worlds in `folder`, in a process group of its own as a shell would start it.
fn demo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/demo"));
    command.args(arguments).env("SLIPWAY_WORLD_DIR", folder).stdin(Stdio::null()).process_group(0);
    // What cargo tells a test of its package would make the demo's cargo build half of the crates anew.
    for (name, _) in std::env::vars() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Complains of processes and mounts that know `folder`. Everything that a demo starts knows its world's folder from an
/// argument, a variable, its own files or its working directory.
fn nothing_runs_in(folder: &Path) -> anyhow::Result<()> {
    let folder = folder.to_str().unwrap();
    for entry in fs::read_dir("/proc")?.flatten() {
        let knows = |file: &str| {
            let text = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(folder)
        };
        let is_us = entry.file_name().to_str() == Some(&std::process::id().to_string());
        if !is_us && entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
            let found = ["cmdline", "environ", "mountinfo"].into_iter().find(|file| knows(file));
            ensure!(found.is_none(), "{:?} knows {folder} in {found:?}", entry.path());
        }
    }
    Ok(())
}

fn nothing_is_left_in(folder: &Path) {
    eventually("the end of all processes", Duration::from_secs(5), || nothing_runs_in(folder)).unwrap();
    let files: Vec<_> = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(files.is_empty(), "{files:?}");
}

/// Reads what it says until a line contains `words`.
fn hear(stderr: &mut BufReader<ChildStderr>, words: &str) -> String {
    let mut heard = String::new();
    while !heard.lines().last().is_some_and(|line| line.contains(words)) {
        let count = stderr.read_line(&mut heard).unwrap();
        assert_ne!(count, 0, "it ended before it said {words}:\n{heard}");
    }
    heard
}

fn started(command: &mut Command) -> (Child, BufReader<ChildStderr>) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (child, stderr)
}

/// A number as the demo shows it.
fn number(text: &str) -> u32 {
    text.replace(',', "").parse().unwrap()
}

#[test]
fn a_demo_shows_a_second_commit_go_live_and_a_bad_one_refused_and_nobody_waits() {
    let folder = TempDir::new().unwrap();
    let output = demo(folder.path(), &["--fail", "crash-loop"]).output().unwrap();
    let said = stderr(&output);
    let why = said.split_once("error: ").map_or("no error is told", |(_, why)| why);
    assert_eq!(output.status.code(), Some(0), "{why}\nafter all of this:\n{said}");
    let shown = stdout(&output);
    let [url, answer, counted, refused] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
    assert_eq!(url, "http://198.18.0.10:8080", "{said}");
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    assert_eq!(answer["name"], "corner-shop");
    for words in ["compose    changed in", "secrets    changed in", "demo: Finished all in"] {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
    // Both answered, nobody else did, and whoever asked got an answer.
    assert!(counted.contains(" answers, 0 failed, old ") && counted.contains(", new "), "{counted}");
    let part = |after: &str| number(counted.rsplit_once(after).unwrap().1.split(", ").next().unwrap());
    let (all, old, new) = (number(counted.split_once(' ').unwrap().0), part("old "), part("new "));
    assert!(all == old + new && old > 50 && new > 50, "{counted}");
    // The count was seen growing, while the second commit went live.
    let live: Vec<_> = said.lines().filter(|line| line.contains(" answers, ") && line.contains(", new ")).collect();
    assert!(live.len() > 3 && live[0].ends_with(", new 0"), "{live:?}");
    let (before, after) = refused.split_once("; commit ").unwrap();
    assert!(before.ends_with(" refused: 0 requests reached it"), "{refused}");
    assert!(after.ends_with(" requests, 0 failed"), "{refused}");
    let answered = after.split_once(" answered ").unwrap().1;
    assert!(number(answered.split(' ').next().unwrap()) > 100, "{refused}");
    assert!(said.contains("compose failed: crash-loop: service backend exits"), "{said}");
    nothing_is_left_in(folder.path());
}

#[test]
fn a_kept_demo_can_be_looked_at_as_it_says_and_ends_with_enter() {
    let folder = TempDir::new().unwrap();
    let mut command = demo(folder.path(), &["--keep", "--generation", "1"]);
    let (mut child, mut stderr) = started(command.stdin(Stdio::piped()));
    let said = hear(&mut stderr, "Enter or Ctrl-C");
    let guide = said.split_once("Look around").unwrap().1;
    let (settings, examples): (Vec<&str>, Vec<&str>) =
        guide.lines().filter_map(|line| line.strip_prefix("  ")).partition(|line| line.starts_with(". "));
    assert_eq!(settings.len(), 1, "{said}");
    assert!(examples.len() > 5, "{said}");
    for example in examples {
        // Following a log has no end.
        let example = example.replace("tail -f", "tail");
        let output = Command::new("bash").args(["-euc", &format!("{}\n{example}", settings[0])]).output().unwrap();
        let failed = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{example}: {failed}");
    }
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    hear(&mut stderr, "demo: Finished all in");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    nothing_is_left_in(folder.path());
}

#[test]
fn ctrl_c_and_a_termination_end_a_demo_at_any_time_with_all_it_started() {
    for (words, to_all, signal) in [
        ("starting a world", true, Signal::INT),
        ("starting a world", false, Signal::TERM),
        ("compose    started", true, Signal::INT),
        ("clone      started", false, Signal::TERM),
    ] {
        let folder = TempDir::new().unwrap();
        let (mut child, mut stderr) = started(&mut demo(folder.path(), &[]));
        hear(&mut stderr, words);
        let pid = Pid::from_child(&child);
        if to_all { kill_process_group(pid, signal) } else { kill_process(pid, signal) }.unwrap();
        hear(&mut stderr, "interrupted; all that was started is gone");
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signal:?} at {words}");
        nothing_is_left_in(folder.path());
    }
}

#[test]
fn a_killed_demo_leaves_no_process_and_the_next_world_removes_its_files() {
    // Among the other worlds: what is left in a folder of its own, no other world would find.
    let (mut child, mut stderr) = started(demo(Path::new(""), &[]).env_remove("SLIPWAY_WORLD_DIR"));
    let said = hear(&mut stderr, "slipway submit --watch");
    let request = Path::new(said.trim_end().rsplit_once(' ').unwrap().1);
    let world = request.ancestors().nth(2).unwrap();
    hear(&mut stderr, "compose    started");
    assert!(world.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the end of all processes", Duration::from_secs(5), || nothing_runs_in(world)).unwrap();
    // Any world that starts now removes it, be it another test's, which may just be at it.
    drop(World::start(WorldOptions::default()).unwrap());
    let removed = || {
        ensure!(!world.exists(), "{} is left", world.display());
        Ok(())
    };
    eventually("the removal of its files", Duration::from_secs(10), removed).unwrap();
}

#[test]
fn a_wrong_argument_is_told_before_anything_happens() {
    let folder = TempDir::new().unwrap();
    for arguments in [["--bogus", ""], ["--generation", "3"], ["--fail", "often"]] {
        let output = demo(folder.path(), &arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        assert_eq!(stdout(&output), "");
        let said = stderr(&output);
        assert!(said.contains(arguments[0]) && said.contains("hint: run `ops/demo --help`"), "{said}");
    }
}

#[test]
fn who_is_not_root_is_told_what_lacks() {
    // A copy, because the folder that holds the repository may be closed to others.
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for script in ["ops/demo", "tests/prepare"] {
        let copy = folder.path().join(script);
        fs::create_dir(copy.parent().unwrap()).unwrap();
        fs::copy(repository.join(script), copy).unwrap();
    }
    let output = Command::new("setpriv")
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"])
        .arg(folder.path().join("ops/demo"))
        .output()
        .unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(77), "{said}");
    assert!(said.contains("needs root") && said.contains("hint: run it as root"), "{said}");
}
