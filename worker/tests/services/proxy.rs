//! A network between a worker and its broker that can lose packets, with connections that stay open and nothing that
//! comes through, and that can make of text what isn't UTF-8, which no client here would send.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Default)]
struct Network {
    /// Nothing comes through, for now.
    cut: bool,
    /// Nothing ever comes through connections with a lower number.
    forgotten: u64,
    /// `~` comes out as a byte that is no UTF-8.
    garbled: bool,
}

/// A way to a port of this machine; gone with its last connection.
pub struct Proxy {
    port: u16,
    network: watch::Sender<Network>,
}

impl Proxy {
    pub async fn start(to: u16) -> Self {
        Self::listen(0, to).await
    }

    /// Listens on a port that was free until now.
    pub async fn listen(port: u16, to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let network = watch::Sender::new(Network::default());
        let seen = network.subscribe();
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((near, _)) = listener.accept().await {
                number += 1;
                let number = number.max(seen.borrow().forgotten);
                tokio::spawn(carry(near, to, number, seen.clone()));
            }
        });
        Self { port, network }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets nothing through until it's mended.
    pub fn cut(&self) {
        self.network.send_modify(|network| network.cut = true);
    }

    /// Lets through what came in the meantime, and what comes.
    pub fn mend(&self) {
        self.network.send_modify(|network| network.cut = false);
    }

    /// Lets nothing through the connections that are there, as a firewall that has lost its memory; new ones work.
    pub fn forget(&self) {
        self.network.send_modify(|network| network.forgotten += 1_000);
    }

    /// From now on `~` goes to the broker as a byte that is no UTF-8.
    pub fn garble(&self) {
        self.network.send_modify(|network| network.garbled = true);
    }
}

async fn carry(near: TcpStream, to: u16, number: u64, mut network: watch::Receiver<Network>) {
    let _ = network.wait_for(|network| !network.cut).await;
    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let there = pipe(near_in, far_out, number, network.clone(), garble);
    tokio::join!(there, pipe(far_in, near_out, number, network.clone(), |_, _| {}));
}

fn garble(network: Network, bytes: &mut [u8]) {
    if network.garbled {
        bytes.iter_mut().filter(|byte| **byte == b'~').for_each(|byte| *byte = 0xFF);
    }
}

/// Carries bytes one way. A forgotten connection isn't closed: that would be news.
async fn pipe(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    mut network: watch::Receiver<Network>,
    change: fn(Network, &mut [u8]),
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let passable = network.wait_for(|network| !network.cut || number < network.forgotten).await;
        if passable.is_ok_and(|network| number < network.forgotten) {
            return std::future::pending().await;
        }
        change(*network.borrow(), &mut buffer[..read]);
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
