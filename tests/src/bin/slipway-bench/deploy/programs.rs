//! How many programs were started on a server over SSH, by the kernel's own accounting of processes (acct(5), version 3).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use slipway_tests::world::TargetServer;

/// Where the server's kernel writes what has ended.
const FILE: &str = "/var/log/acct";
/// What costs tens of milliseconds each time.
const TOOLS: [&str; 3] = ["docker", "git", "ufw"];
/// One record.
const LENGTH: usize = 64;
/// What PAM starts at each login, whoever logs in: it looks at the account, and tells the message of the day.
const LOGIN: [&str; 2] = ["unix_chkpwd", TELLER];
const TELLER: &str = "run-parts";
/// Set where a process never became another program than its parent.
const FORKED_ONLY: u8 = 1;

/// Begins a new account. Fails where the kernel keeps none.
pub fn begin(server: &TargetServer) -> Result<()> {
    let turn = "import ctypes, sys; sys.exit(ctypes.CDLL(None).acct(sys.argv[1].encode() or None) != 0)";
    server.sh(&format!("rm -f {FILE}; touch {FILE}; python3 -c '{turn}' {FILE}")).map(drop)
}

/// What was started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Programs {
    /// All programs.
    pub all: usize,
    /// Those among them that scripts call for their work, and that aren't called by each other: docker, git, ufw.
    pub tools: usize,
}

/// A process that has ended.
struct Record {
    parent: u32,
    name: String,
    is_program: bool,
}

/// What was started below sshd since then, by whoever logged in. What Docker's daemon starts isn't among it, nor what goes on.
pub fn count(server: &TargetServer) -> Result<Programs> {
    let records = std::fs::read(server.root()?.join(FILE.trim_start_matches('/'))).context("the server's account")?;
    let number = |record: &[u8], at: usize| {
        record.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
    };
    let read = |record: &[u8]| {
        let name = String::from_utf8_lossy(&record[48..]).trim_end_matches('\0').to_owned();
        (number(record, 16), Record { parent: number(record, 20), name, is_program: record[0] & FORKED_ONLY == 0 })
    };
    let ended: BTreeMap<u32, Record> = records.chunks_exact(LENGTH).map(read).collect();
    // Who opened the connection, and its shell, may live on.
    let root = server.root()?;
    let about = |pid: u32| match ended.get(&pid) {
        Some(record) => (record.name.clone(), record.parent),
        None => alive(&root, pid).unwrap_or_default(),
    };
    let ancestors = |record: &Record| {
        let mut names = Vec::new();
        let mut parent = record.parent;
        // As deep as any tree of ours: numbers may have been used twice.
        while names.len() < 100 && parent > 1 {
            let (name, next) = about(parent);
            names.push(name);
            parent = next;
        }
        names
    };
    let is_tool = |name: &str| TOOLS.contains(&name);
    let is_login = |name: &str| LOGIN.contains(&name);
    // A shell starts what tells the message of the day.
    let shells: BTreeSet<u32> =
        ended.values().filter(|record| record.name == TELLER).map(|record| record.parent).collect();
    let mut programs = Programs::default();
    for (pid, record) in &ended {
        if !record.is_program || record.name.starts_with("sshd") || is_login(&record.name) || shells.contains(pid) {
            continue;
        }
        let ancestors = ancestors(record);
        let is_of_login = ancestors.iter().any(|name| is_login(name));
        if !is_of_login && ancestors.iter().any(|name| name.starts_with("sshd")) {
            programs.all += 1;
            let is_called = is_tool(&record.name) && !ancestors.iter().any(|name| is_tool(name));
            programs.tools += usize::from(is_called);
        }
    }
    Ok(programs)
}

/// Name and parent of a process of the server.
fn alive(root: &Path, pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(root.join(format!("proc/{pid}/stat"))).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    Some((name.to_owned(), rest.split_whitespace().nth(1)?.parse().ok()?))
}
