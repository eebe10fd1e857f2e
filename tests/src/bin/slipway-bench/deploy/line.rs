//! A line to the server that can be long: an address of the world's own side behind which everything takes a while, there
//! and back. It's a relay, since not every kernel can delay packets; what it delays are connections and their bytes.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use slipway_tests::world::World;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Where the server is found.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 100);

/// The port whose round trips are counted.
const SSH: u16 = 22;

/// How long a round trip takes, which can be changed at any time, and how many there were.
#[derive(Clone, Default)]
pub struct Line(Arc<LineState>);

#[derive(Default)]
struct LineState {
    micros: AtomicU64,
    trips: AtomicU64,
}

/// Where a connection stands: when the first of the bytes was sent that have no answer yet.
type Asked = Arc<Mutex<Option<Instant>>>;

impl Line {
    /// Relays these ports of [`ADDRESS`] to `server`, as long as the runtime lives.
    pub async fn lay(world: &World, server: Ipv4Addr, ports: &[u16]) -> Result<Self> {
        let added = world.command("ip").args(["addr", "add", &format!("{ADDRESS}/24"), "dev", "br0"]).status()?;
        ensure!(added.success(), "the line has no address: {added}");
        let line = Self::default();
        for port in ports.iter().copied() {
            let (line, listener) = (line.clone(), TcpListener::bind((ADDRESS, port)).await?);
            tokio::spawn(async move {
                while let Ok((near, _)) = listener.accept().await {
                    tokio::spawn(line.clone().relay(near, server, port));
                }
            });
        }
        Ok(line)
    }

    /// From now on a round trip takes so long.
    pub fn take(&self, round_trip: Duration) {
        self.0.micros.store(u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The round trips since the last time: how often an answer came to what was sent, and each handshake. What was on its
    /// way already when something was sent is no answer to it, which only a line that takes time can tell.
    pub fn trips(&self) -> u64 {
        self.0.trips.swap(0, Ordering::Relaxed)
    }

    fn round_trip(&self) -> Duration {
        Duration::from_micros(self.0.micros.load(Ordering::Relaxed))
    }

    async fn relay(self, near: TcpStream, server: Ipv4Addr, port: u16) {
        // The handshake takes a round trip; who has connected to us doesn't wait for it, but for all that follows.
        let round_trip = self.round_trip();
        let count = move |more: u64| self.0.trips.fetch_add(if port == SSH { more } else { 0 }, Ordering::Relaxed);
        count(1);
        tokio::time::sleep(round_trip).await;
        let Ok(far) = TcpStream::connect((server, port)).await else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        let asked = Asked::default();
        let sent = asked.clone();
        let note_sent = move |_: Instant| {
            lock(&sent).get_or_insert_with(Instant::now);
        };
        let note_answer = move |due: Instant| {
            let mut asked = lock(&asked);
            if asked.is_some_and(|asked| due >= asked + round_trip) {
                *asked = None;
                count(1);
            }
        };
        tokio::spawn(delay(near_in, far_out, round_trip / 2, note_sent));
        delay(far_in, near_out, round_trip / 2, note_answer).await;
    }
}

fn lock(asked: &Asked) -> MutexGuard<'_, Option<Instant>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes bytes on `by` later; `note` learns when each comes to its end.
async fn delay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, by: Duration, note: impl Fn(Instant) + Send + 'static) {
    let (sender, mut under_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, bytes)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let due = Instant::now() + by;
        note(due);
        if sender.send((due, buffer[..length].to_vec())).is_err() {
            return;
        }
    }
}
