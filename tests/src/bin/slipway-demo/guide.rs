//! `--keep`: all stays up until Ctrl-C or Enter, and this tells how to look around from another terminal.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use slipway_tests::stack::Stack;
use slipway_tests::world::is_interrupted;

use crate::say;

/// Prints the way around and waits. `url` is where the project answers, if it does.
pub(crate) fn keep(stack: &mut Stack, url: Option<&str>) -> Result<()> {
    let settings = write_settings(stack)?;
    say::block(&text(stack, &settings, url));
    say::message("all stays up; Enter or Ctrl-C ends it");
    let (sender, pressed) = channel();
    // Not joined: nothing but a key ends it, and the process does.
    std::thread::spawn(move || sender.send(std::io::stdin().read_line(&mut String::new())));
    while !is_interrupted() {
        match pressed.recv_timeout(Duration::from_millis(50)) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
    }
    Ok(())
}

fn text(stack: &mut Stack, settings: &Path, url: Option<&str>) -> String {
    let key = stack.world.ssh_key().display().to_string();
    let known = known_hosts(stack).display().to_string();
    let server = stack.world.target(0).ip();
    let folder = stack.world.folder().display().to_string();
    let worker = stack.running(0);
    let (pid, admin, log) = (worker.pid(), worker.admin(), worker.log_file().display().to_string());
    let url = url.map_or_else(String::new, |url| format!("  inside curl -s {url}/health\n"));
    format!(
        "Look around from another terminal, as root. This first; `inside` is `nsenter -t {pid} -n -m`:\n  \
         . {}\n\n\
         Then, for example:\n{url}  \
         inside slipway deployments list\n  \
         inside slipway deployments show $DEPLOYMENT\n  \
         inside curl -s http://{admin}/readyz\n  \
         inside curl -s http://{admin}/version\n  \
         inside ssh -F none -i {key} -o UserKnownHostsFile={known} root@{server} docker ps\n  \
         tail -f {log}\n  \
         ls {folder}",
        settings.display()
    )
}

fn known_hosts(stack: &Stack) -> PathBuf {
    stack.world.folder().join("slipway/known-hosts")
}

/// A file for shells: the settings of command line and worker, and a function that runs a program in the world.
fn write_settings(stack: &mut Stack) -> Result<PathBuf> {
    let target = stack.world.target(0);
    fs::write(known_hosts(stack), format!("{} {}\n", target.ip(), target.host_key()))?;
    let this = std::env::current_exe()?;
    let programs = this.parent().context("this program has no folder")?;
    let mut text = String::from("# Made by ops/demo, to be read with `.` into a root shell while the demo runs.\n");
    for (name, value) in stack.environment() {
        text.push_str(&format!("export {name}={}\n", word(&value)));
    }
    // The machine's proxies don't know the world.
    text.push_str("export no_proxy='*' NO_PROXY='*'\n");
    text.push_str(&format!("PATH={}:$PATH\n", word(&programs.display().to_string())));
    text.push_str(&format!("DEPLOYMENT={}\n", crate::deployment()));
    let pid = stack.running(0).pid();
    text.push_str(&format!("inside() {{ nsenter --target={pid} --net --mount --wd=. -- \"$@\"; }}\n"));
    let path = stack.world.folder().join("slipway/look-around");
    fs::write(&path, text)?;
    // It holds passwords, if only those of the world.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

fn word(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}
