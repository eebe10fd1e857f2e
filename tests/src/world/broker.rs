//! The world's RabbitMQ: one node, a plain process, its data in the world's folder. No management plugin.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use anyhow::Result;

use super::holder::Holder;
use super::probe;
use super::service::Service;

/// Where the broker listens, inside the world.
pub(super) const URL: &str = "amqp://slipway:slipway@127.0.0.1:5672/%2f";

const CONFIGURATION: &str = "\
listeners.tcp.default = 127.0.0.1:5672
default_user = slipway
default_pass = slipway
log.file = false
log.console = true
log.console.level = warning
disk_free_limit.absolute = 50MB
";

/// A RabbitMQ node in its own folder, not started yet.
pub(super) fn broker(holder: &Arc<Holder>) -> Result<Service> {
    let folder = holder.folder().join("broker");
    fs::create_dir_all(folder.join("home"))?;
    let cookie = folder.join("home/.erlang.cookie");
    fs::write(&cookie, "slipway")?;
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))?;
    fs::write(folder.join("rabbit.conf"), CONFIGURATION)?;
    fs::write(folder.join("enabled_plugins"), "[].")?;

    // The scripts on the PATH switch to user rabbitmq and its cookie; those in lib do not. One scheduler, no busy
    // waiting: two cores carry the whole world.
    let settings = [
        ("HOME", "home"),
        ("RABBITMQ_BASE", ""),
        ("RABBITMQ_MNESIA_BASE", "mnesia"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_PID_FILE", "pid"),
        ("RABBITMQ_CONFIG_FILE", "rabbit"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
    ];
    let mut command: Vec<String> =
        ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"].map(str::to_owned).into();
    command.extend(settings.map(|(name, path)| format!("{name}={}", folder.join(path).display())));
    command.extend(
        [
            "RABBITMQ_NODENAME=rabbit@localhost",
            "RABBITMQ_CONF_ENV_FILE=/dev/null",
            "ERL_EPMD_ADDRESS=127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
            "/usr/lib/rabbitmq/bin/rabbitmq-server",
        ]
        .map(str::to_owned),
    );
    Ok(Service::new("broker", holder, command, |holder| holder.inside(|| Ok(probe::amqp(Ipv4Addr::LOCALHOST)))))
}
