//! The world's RabbitMQ: one node or a cluster of three. Each node is a process tree of its own with its data in the
//! world's folder, so that killing one leaves the others alone. Queues that are declared once all nodes run are
//! replicated to all of them. No management plugin.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};

use super::holder::MountHolder;
use super::probe;
use super::service::Service;

/// How many nodes a cluster has: the fewest of which one can be lost.
pub const CLUSTER: usize = 3;

/// The names of the processes, for logs and messages.
const NAMES: [&str; CLUSTER] = ["rabbit-0", "rabbit-1", "rabbit-2"];
/// The Erlang port mapper's port, its usual one.
const EPMD: u16 = 4369;
/// Where nodes listen for each other and for rabbitmqctl: this port for the first node, the next one for the second.
const DISTRIBUTION: u16 = 25_672;
const PATH: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// RabbitMQ's nodes, one or three. Dropping it ends them.
#[derive(Debug)]
pub struct Broker {
    holder: Arc<MountHolder>,
    nodes: Vec<Service>,
    urls: String,
    // Outlives the nodes: it's how they find each other, and no node's own.
    mapper: Service,
}

impl Broker {
    /// `count` nodes in their own folders, not started yet.
    pub(super) fn new(holder: &Arc<MountHolder>, count: usize) -> Result<Self> {
        ensure!(count == 1 || count == CLUSTER, "RabbitMQ has one node or {CLUSTER}, not {count}");
        let command = ["epmd", "-address", "127.0.0.1", "-port", &EPMD.to_string()].map(str::to_owned);
        let mapper = Service::new("epmd", holder, command.into(), |holder| {
            holder.inside(|| Ok(probe::tcp(Ipv4Addr::LOCALHOST, EPMD)))
        });
        let urls: Vec<_> =
            (0..count).map(|index| format!("amqp://slipway:slipway@{}:5672/%2f", address(index))).collect();
        let nodes = (0..count).map(|index| node(holder, index, count)).collect::<Result<_>>()?;
        Ok(Self { holder: Arc::clone(holder), nodes, urls: urls.join(","), mapper })
    }

    /// Starts it for the first time, and returns when the nodes are one cluster.
    pub(super) fn begin(&self) -> Result<()> {
        self.mapper.start()?;
        self.start()?;
        if self.nodes.len() > 1 {
            let running = self.control(0, &["-q", "eval", "length(rabbit_nodes:all_running())."])?;
            ensure!(running.trim() == self.nodes.len().to_string(), "the nodes didn't find each other: {running}");
        }
        Ok(())
    }

    /// All nodes' URLs with commas between them, as the worker and the command line take them.
    #[must_use]
    pub fn urls(&self) -> &str {
        &self.urls
    }

    /// Node `index`, from 0: to kill, freeze, stop and start.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn node(&self, index: usize) -> &Service {
        &self.nodes[index]
    }

    /// Starts all nodes at once, on the data that they have: alone, none of them would serve.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start(&self) -> Result<()> {
        thread::scope(|scope| {
            let starts: Vec<_> = self.nodes.iter().map(|node| scope.spawn(|| node.start())).collect();
            starts
                .into_iter()
                .try_for_each(|start| start.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Kills all nodes without warning, as a power cut does.
    ///
    /// # Errors
    /// As [`Service::kill`].
    pub fn kill(&self) -> Result<()> {
        self.nodes.iter().try_for_each(Service::kill)
    }

    /// Freezes all nodes.
    ///
    /// # Errors
    /// As [`Service::pause`].
    pub fn pause(&self) -> Result<()> {
        self.nodes.iter().try_for_each(Service::pause)
    }

    /// Lets frozen nodes go on.
    ///
    /// # Errors
    /// As [`Service::resume`].
    pub fn resume(&self) -> Result<()> {
        self.nodes.iter().try_for_each(Service::resume)
    }

    /// The node that leads `queue`, as node `asked` knows.
    ///
    /// # Errors
    /// When that node doesn't answer, or there is no such queue.
    pub fn leader(&self, queue: &str, asked: usize) -> Result<usize> {
        let leader = self.of_queue(queue, asked, "element(2, amqqueue:get_pid(Q))")?;
        (0..self.nodes.len())
            .find(|index| leader.contains(&name(*index)))
            .with_context(|| format!("an unknown node: {leader}"))
    }

    /// How many nodes hold `queue`, as node `asked` knows.
    ///
    /// # Errors
    /// As [`Broker::leader`].
    pub fn members(&self, queue: &str, asked: usize) -> Result<usize> {
        Ok(self.of_queue(queue, asked, "maps:get(nodes, amqqueue:get_type_state(Q))")?.matches('@').count())
    }

    /// What `wanted` says of `Q`, the queue's record. Not `list_queues`: it asks every queue's process, and gives up on
    /// a node that is busy.
    fn of_queue(&self, queue: &str, asked: usize, wanted: &str) -> Result<String> {
        let lookup = format!("rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>))");
        self.control(asked, &["-q", "eval", &format!("{{ok, Q}} = {lookup}, {wanted}.")])
    }

    /// Runs `rabbitmqctl` against node `index` and gives what it printed; two seconds and more.
    fn control(&self, index: usize, arguments: &[&str]) -> Result<String> {
        let home = self.holder.folder().join(NAMES[index]).join("home");
        let output = self
            .holder
            .command("env")
            .args(["-i", PATH, "LANG=C.UTF-8"])
            .args([format!("HOME={}", home.display()), format!("ERL_EPMD_PORT={EPMD}")])
            .args(["RABBITMQ_CTL_ERL_ARGS=+S 1:1 +sbwt none", "RABBITMQ_CONF_ENV_FILE=/dev/null"])
            .args(["/usr/lib/rabbitmq/bin/rabbitmqctl", "-n", &name(index)])
            .args(arguments)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "rabbitmqctl {}: {}\n{said}", arguments.join(" "), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn name(index: usize) -> String {
    format!("{}@localhost", NAMES[index])
}

fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, u8::try_from(index + 1).unwrap_or(u8::MAX))
}

/// What a node of `count` is configured with.
fn configuration(index: usize, count: usize) -> String {
    let mut text = format!(
        "\
listeners.tcp.default = {}:5672
log.file = false
log.console = true
log.console.level = warning
disk_free_limit.absolute = 50MB
default_user = slipway
default_pass = slipway
",
        address(index)
    );
    if count > 1 {
        text.push_str(
            "\
cluster_partition_handling = pause_minority
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.randomized_startup_delay_range.min = 0
cluster_formation.randomized_startup_delay_range.max = 1
",
        );
        for peer in 0..count {
            text.push_str(&format!("cluster_formation.classic_config.nodes.{} = {}\n", peer + 1, name(peer)));
        }
    }
    text
}

/// Node `index` of `count`, not started yet.
fn node(holder: &Arc<MountHolder>, index: usize, count: usize) -> Result<Service> {
    let folder = holder.folder().join(NAMES[index]);
    fs::create_dir_all(folder.join("home"))?;
    let cookie = folder.join("home/.erlang.cookie");
    fs::write(&cookie, "slipway")?;
    fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))?;
    fs::write(folder.join("rabbit.conf"), configuration(index, count))?;
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
    let mut command: Vec<String> = ["env", "-i", PATH, "LANG=C.UTF-8"].map(str::to_owned).into();
    command.extend(settings.map(|(name, path)| format!("{name}={}", folder.join(path).display())));
    command.extend([
        format!("RABBITMQ_DIST_PORT={}", DISTRIBUTION + u16::try_from(index)?),
        format!("RABBITMQ_NODENAME={}", name(index)),
        format!("ERL_EPMD_PORT={EPMD}"),
        "RABBITMQ_CONF_ENV_FILE=/dev/null".to_owned(),
        "ERL_EPMD_ADDRESS=127.0.0.1".to_owned(),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none".to_owned(),
        "/usr/lib/rabbitmq/bin/rabbitmq-server".to_owned(),
    ]);
    Ok(Service::new(NAMES[index], holder, command, move |holder| holder.inside(|| Ok(probe::amqp(address(index))))))
}
