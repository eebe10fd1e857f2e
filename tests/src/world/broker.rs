//! The world's RabbitMQ: one node, a plain process, its data in the world's folder. No management plugin. A cluster's
//! nodes are made the same way; see `cluster`.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::holder::Holder;
use super::probe;
use super::service::Service;

/// Where the broker listens, inside the world.
pub(super) const URL: &str = "amqp://slipway:slipway@127.0.0.1:5672/%2f";

const USER: &str = "default_user = slipway\ndefault_pass = slipway\n";

/// What tells one node from another.
pub(super) struct Node<'a> {
    /// Its Erlang name.
    pub name: &'a str,
    /// Where it listens, on AMQP's port.
    pub address: Ipv4Addr,
    /// Lines of its rabbitmq.conf beside those that all have.
    pub configuration: &'a str,
    /// The port mapper's port.
    pub epmd: u16,
    /// Where the other nodes and rabbitmqctl find it; unset: RabbitMQ's own.
    pub distribution: Option<u16>,
}

/// A RabbitMQ node in its own folder, not started yet.
pub(super) fn broker(holder: &Arc<Holder>) -> Result<Service> {
    let address = Ipv4Addr::LOCALHOST;
    let single = Node { name: "rabbit@localhost", address, configuration: USER, epmd: 4369, distribution: None };
    node("broker", holder, &holder.folder().join("broker"), &single)
}

/// A node in `folder`, not started yet.
pub(super) fn node(service: &'static str, holder: &Arc<Holder>, folder: &Path, node: &Node<'_>) -> Result<Service> {
    fs::create_dir_all(folder.join("home"))?;
    let cookie = folder.join("home/.erlang.cookie");
    fs::write(&cookie, "slipway")?;
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))?;
    let configuration = format!(
        "listeners.tcp.default = {}:5672\nlog.file = false\nlog.console = true\nlog.console.level = warning\n\
         disk_free_limit.absolute = 50MB\n{}",
        node.address, node.configuration
    );
    fs::write(folder.join("rabbit.conf"), configuration)?;
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
    command.extend(node.distribution.map(|port| format!("RABBITMQ_DIST_PORT={port}")));
    command.extend([
        format!("RABBITMQ_NODENAME={}", node.name),
        format!("ERL_EPMD_PORT={}", node.epmd),
        "RABBITMQ_CONF_ENV_FILE=/dev/null".to_owned(),
        "ERL_EPMD_ADDRESS=127.0.0.1".to_owned(),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none".to_owned(),
        "/usr/lib/rabbitmq/bin/rabbitmq-server".to_owned(),
    ]);
    let address = node.address;
    Ok(Service::new(service, holder, command, move |holder| holder.inside(|| Ok(probe::amqp(address)))))
}
