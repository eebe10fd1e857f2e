//! `--keep`: all stays up until Ctrl-C or Enter, and this tells how to look around from another terminal.

use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use slipway_tests::stack::Stack;
use slipway_tests::world::is_interrupted;

use crate::request::deployment;
use crate::say;

/// How often it's looked whether somebody has interrupted.
const INTERVAL: Duration = Duration::from_millis(50);

/// Prints the way around and waits. `url` is where the project answers, if it does.
pub(crate) fn keep(stack: &mut Stack, url: Option<&str>) -> Result<()> {
    let settings = write_settings(stack)?;
    say::block(&text(stack, &settings, url));
    say::message("all stays up; Enter or Ctrl-C ends it");
    wait_for_line(std::io::stdin(), is_interrupted);
    Ok(())
}

/// Waits for a line of `input`, or until it `is_over`. Where there is no terminal, and so nobody who could press a key,
/// `input` ends at once, which means nothing.
fn wait_for_line(input: impl Read + Send + 'static, mut is_over: impl FnMut() -> bool) {
    let (sender, pressed) = channel();
    // Not joined: nothing but a key ends it, and the process does.
    std::thread::spawn(move || match BufReader::new(input).read_line(&mut String::new()) {
        Ok(1..) => sender.send(()),
        _ => Ok(()),
    });
    while !is_over() {
        match pressed.recv_timeout(INTERVAL) {
            Ok(()) => break,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(INTERVAL),
        }
    }
}

fn text(stack: &mut Stack, settings: &Path, url: Option<&str>) -> String {
    let worker = stack.running(0);
    let (pid, admin) = (worker.pid(), worker.admin());
    let log = worker.log_file().file_name().unwrap_or_default().display().to_string();
    let url = url.map_or_else(String::new, |url| format!("  inside curl -s {url}/health\n"));
    format!(
        "Look around from another terminal, as root. This first; `inside` is `nsenter -t {pid} -n -m`:\n  \
         . {}\n\n\
         Then, for example:\n{url}  \
         inside slipway deployments list\n  \
         inside slipway deployments show $DEPLOYMENT\n  \
         inside ssh -F $WORLD/slipway/ssh-config target-0 docker ps\n  \
         inside curl -s http://{admin}/readyz\n  \
         tail -f $WORLD/{log}\n  \
         ls $WORLD",
        settings.display()
    )
}

/// A file for shells: the settings of command line and worker, and a function that runs a program in the world.
fn write_settings(stack: &mut Stack) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let programs = this.parent().context("this program has no folder")?;
    let pid = stack.running(0).pid();
    let mut text = String::from("# Made by ops/demo, to be read with `.` into a root shell while the demo runs.\n");
    for (name, value) in stack.environment() {
        text.push_str(&format!("export {name}={}\n", word(&value)));
    }
    // The machine's proxies don't know the world.
    text.push_str("export no_proxy='*' NO_PROXY='*'\n");
    text.push_str(&format!("PATH={}:$PATH\n", word(&programs.display().to_string())));
    text.push_str(&format!("WORLD={}\n", word(&stack.world.folder().display().to_string())));
    text.push_str(&format!("DEPLOYMENT={}\n", deployment()));
    text.push_str(&format!("inside() {{ nsenter --target={pid} --net --mount --wd=. -- \"$@\"; }}\n"));
    let folder = stack.world.folder().join("slipway");
    let target = stack.world.target(0);
    let known = folder.join("known-hosts");
    fs::write(&known, format!("{} {}\n", target.ip(), target.host_key()))?;
    let key = stack.world.ssh_key();
    let ssh = format!(
        "Host {}\n  HostName {}\n  User root\n  IdentitiesOnly yes\n  IdentityFile \"{}\"\n  UserKnownHostsFile \"{}\"\n",
        target.name(),
        target.ip(),
        key.display(),
        known.display()
    );
    fs::write(folder.join("ssh-config"), ssh)?;
    let path = folder.join("look-around");
    fs::write(&path, text)?;
    // It holds passwords, if only those of the world.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(path)
}

fn word(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_a_kept_demo_waits_and_with_one_enter_ends_it() {
        let mut looks = 0;
        wait_for_line(std::io::empty(), || {
            looks += 1;
            looks > 3
        });
        assert_eq!(looks, 4, "it waited until it was interrupted");
        wait_for_line(&b"\n"[..], || false);
    }
}
