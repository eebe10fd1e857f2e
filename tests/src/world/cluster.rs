//! A RabbitMQ cluster of three nodes inside a world. Each node has an address and a process tree of its own, so that
//! killing one leaves the others alone. Queues that are declared once all three run are replicated to all three.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};

use super::broker::{Node, node};
use super::holder::Holder;
use super::probe;
use super::service::Service;

/// How many nodes a cluster has: the fewest of which one can be lost.
pub const NODES: usize = 3;

/// The names of the processes, for logs and messages.
const NAMES: [&str; NODES] = ["rabbit-0", "rabbit-1", "rabbit-2"];
/// The Erlang port mapper's port; the world's single broker may run beside the cluster, with its own.
const EPMD: u16 = 4370;

/// Three RabbitMQ nodes. Dropping it ends them.
#[derive(Debug)]
pub struct Cluster {
    holder: Arc<Holder>,
    nodes: Vec<Service>,
    // Outlives the nodes: it's how they find each other.
    _mapper: Service,
}

impl Cluster {
    /// Starts all nodes at once and returns when they are one cluster.
    pub(super) fn start(holder: &Arc<Holder>) -> Result<Self> {
        let command = ["epmd", "-address", "127.0.0.1", "-port", &EPMD.to_string()].map(str::to_owned);
        let mapper = Service::new("epmd", holder, command.into(), |holder| {
            holder.inside(|| Ok(probe::tcp(Ipv4Addr::LOCALHOST, EPMD)))
        });
        mapper.start()?;
        let nodes = (0..NODES).map(|index| cluster_node(holder, index)).collect::<Result<Vec<_>>>()?;
        let cluster = Self { holder: Arc::clone(holder), nodes, _mapper: mapper };
        thread::scope(|scope| {
            let starts: Vec<_> = cluster.nodes.iter().map(|node| scope.spawn(|| node.start())).collect();
            starts
                .into_iter()
                .try_for_each(|start| start.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let running = cluster.control(0, &["-q", "eval", "length(rabbit_nodes:all_running())."])?;
        ensure!(running.trim() == NODES.to_string(), "the nodes didn't find each other: {running}");
        Ok(cluster)
    }

    /// Node `index`, from 0: to kill, freeze, stop and start.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn node(&self, index: usize) -> &Service {
        &self.nodes[index]
    }

    /// Where node `index` listens, inside the world.
    #[must_use]
    pub fn url(&self, index: usize) -> String {
        format!("amqp://slipway:slipway@{}:5672/%2f", address(index))
    }

    /// All nodes' URLs, as the worker and the command line take them.
    #[must_use]
    pub fn urls(&self) -> String {
        (0..NODES).map(|index| self.url(index)).collect::<Vec<_>>().join(",")
    }

    /// The node that leads `queue`, as node `asked` knows.
    ///
    /// # Errors
    /// When that node doesn't answer, or there is no such queue.
    pub fn leader(&self, queue: &str, asked: usize) -> Result<usize> {
        let leader = self.of_queue(queue, asked, "element(2, amqqueue:get_pid(Q))")?;
        (0..NODES).find(|index| leader.contains(&name(*index))).with_context(|| format!("an unknown node: {leader}"))
    }

    /// How many nodes hold `queue`, as node `asked` knows.
    ///
    /// # Errors
    /// As [`Cluster::leader`].
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
    ///
    /// # Errors
    /// When it fails: with what it said.
    pub fn control(&self, index: usize, arguments: &[&str]) -> Result<String> {
        let home = self.holder.folder().join(NAMES[index]).join("home");
        let output = self
            .holder
            .command("env")
            .args(["-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"])
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
    Ipv4Addr::new(127, 0, 2, u8::try_from(index + 1).unwrap_or(u8::MAX))
}

fn cluster_node(holder: &Arc<Holder>, index: usize) -> Result<Service> {
    let folder = holder.folder().join(NAMES[index]);
    fs::create_dir_all(&folder)?;
    let mut configuration = String::from(
        "\
default_user = slipway
default_pass = slipway
cluster_partition_handling = pause_minority
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.randomized_startup_delay_range.min = 0
cluster_formation.randomized_startup_delay_range.max = 1
",
    );
    for peer in 0..NODES {
        configuration.push_str(&format!("cluster_formation.classic_config.nodes.{} = {}\n", peer + 1, name(peer)));
    }
    let node_name = name(index);
    let distribution = Some(25_680 + u16::try_from(index)?);
    node(
        NAMES[index],
        holder,
        &folder,
        &Node { name: &node_name, address: address(index), configuration: &configuration, epmd: EPMD, distribution },
    )
}
