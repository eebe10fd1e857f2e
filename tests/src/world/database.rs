//! The world's PostgreSQL: a copy of the prepared cluster, without fsync, on loopback inside the world.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::cache::Cache;
use super::holder::MountHolder;
use super::service::Service;

/// Where Postgres listens, inside the world.
pub(super) const URL: &str = "postgres://slipway:slipway@127.0.0.1:5432/slipway";

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A Postgres on its own copy of the cluster, not started yet.
pub(super) fn database(holder: &Arc<MountHolder>, cache: &Cache) -> Result<Service> {
    let data = holder.folder().join("database");
    let copied = Command::new("cp").arg("-a").arg(cache.part("cluster")).arg(&data).status().context("starting cp")?;
    ensure!(copied.success(), "copying the prepared cluster: {copied}");
    // Here rather than among the arguments: whoever measures sets it otherwise, in `postgresql.auto.conf`.
    let mut file = fs::File::options().append(true).open(data.join("postgresql.conf"))?;
    file.write_all(b"fsync = off\n")?;

    let mut command: Vec<String> =
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "env", "-i", "LANG=C"]
            .map(str::to_owned)
            .into();
    command.extend([format!("{BIN}/postgres"), "-D".to_owned(), data.display().to_string()]);
    let settings = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=200",
        // In its own folder rather than in the machine's /dev/shm, where one that is killed would leave it.
        "dynamic_shared_memory_type=mmap",
    ];
    for setting in settings {
        command.extend(["-c".to_owned(), setting.to_owned()]);
    }
    Ok(Service::new("database", holder, command, |holder| {
        let asked = holder
            .command(&format!("{BIN}/pg_isready"))
            .args(["--quiet", "--host=127.0.0.1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        Ok(asked.success())
    })
    // "Fast" shutdown: SIGTERM would wait for the clients to leave.
    .stopped_by(Signal::INT))
}
