//! Those that ask, side by side, each in its way, until they're stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::{Answerer, ProbeKind};
use super::failure::{PATIENCE, ProbeFailure, in_time};
use super::line::ProbeLine;
use super::notebook::Notebook;
use super::websocket;

/// Between two new connections.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two requests on the one that is kept.
const KEPT_PAUSE: Duration = Duration::from_millis(20);
/// After one that failed at once, where the next waits for it.
const BREATH: Duration = Duration::from_millis(50);

const UPLOAD_PART: usize = 1 << 16;
const UPLOAD_PARTS: usize = 64;
const UPLOAD_PAUSE: Duration = Duration::from_millis(15);
const EVENTS: usize = 20;

pub(super) async fn ask_until(
    stop: CancellationToken,
    address: SocketAddr,
    kinds: Vec<ProbeKind>,
    notebook: Arc<Notebook>,
) {
    let mut asking = JoinSet::new();
    for kind in kinds {
        let (stop, notebook) = (stop.clone(), Arc::clone(&notebook));
        asking.spawn(async move {
            match kind {
                ProbeKind::Fresh => ask_anew(&stop, address, &notebook).await,
                // Whatever of these is under way at the end is left alone.
                _ => {
                    let _ = stop.run_until_cancelled(ask_on_and_on(kind, address, &notebook)).await;
                }
            }
        });
    }
    while asking.join_next().await.is_some() {}
}

/// A new connection for each question, whatever becomes of the others.
async fn ask_anew(stop: &CancellationToken, address: SocketAddr, notebook: &Arc<Notebook>) {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut asked = JoinSet::new();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let notebook = Arc::clone(notebook);
        asked.spawn(async move {
            let asked = notebook.now();
            let outcome = in_time(async {
                let mut line = ProbeLine::open(address).await?;
                line.ask("GET /", "Connection: close\r\n").await?;
                who(&line.page().await?.0)
            });
            notebook.note(ProbeKind::Fresh, asked, outcome.await);
        });
        while asked.try_join_next().is_some() {}
    }
    while asked.join_next().await.is_some() {}
}

fn who(page: &str) -> Result<Answerer, ProbeFailure> {
    Answerer::of_page(page).ok_or(ProbeFailure::Foreign)
}

async fn ask_on_and_on(kind: ProbeKind, address: SocketAddr, notebook: &Notebook) {
    match kind {
        ProbeKind::Kept => keep_asking(address, notebook).await,
        ProbeKind::Socket => websocket::ask(address, notebook).await,
        _ => ask_slowly(kind, address, notebook).await,
    }
}

/// One connection for all questions. A server may close it between two of them; whoever asks just then asks once more, on
/// a new one, as browsers do.
async fn keep_asking(address: SocketAddr, notebook: &Notebook) {
    let mut kept = KeptLine { address, line: None, was_opened: false };
    loop {
        let asked = notebook.now();
        let was_open = kept.line.is_some();
        let mut outcome = kept.ask(notebook).await;
        if was_open && matches!(outcome, Err(ProbeFailure::Broken(_))) {
            outcome = kept.ask(notebook).await;
        }
        let pause = if outcome.is_ok() { KEPT_PAUSE } else { BREATH };
        notebook.note(ProbeKind::Kept, asked, outcome);
        let closed = match &mut kept.line {
            Some(line) => timeout(pause, line.ended()).await.is_ok(),
            None => {
                sleep(pause).await;
                false
            }
        };
        if closed {
            kept.line = None;
        }
    }
}

struct KeptLine {
    address: SocketAddr,
    line: Option<ProbeLine>,
    was_opened: bool,
}

impl KeptLine {
    async fn ask(&mut self, notebook: &Notebook) -> Result<Answerer, ProbeFailure> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => {
                let line = in_time(ProbeLine::open(self.address)).await?;
                if self.was_opened {
                    notebook.note_reopened();
                }
                self.was_opened = true;
                line
            }
        };
        let (page, head) = in_time(async {
            line.ask("GET /", "").await?;
            line.page().await
        })
        .await?;
        if !head.closes {
            self.line = Some(line);
        }
        who(&page)
    }
}

/// One long request after the other.
async fn ask_slowly(kind: ProbeKind, address: SocketAddr, notebook: &Notebook) {
    loop {
        let asked = notebook.now();
        let outcome = if kind == ProbeKind::Upload { upload(address).await } else { download(address).await };
        let failed = outcome.is_err();
        notebook.note(kind, asked, outcome);
        if failed {
            sleep(BREATH).await;
        }
    }
}

async fn upload(address: SocketAddr) -> Result<Answerer, ProbeFailure> {
    let mut line = in_time(ProbeLine::open(address)).await?;
    let length = UPLOAD_PART * UPLOAD_PARTS;
    in_time(line.ask("POST /upload", &format!("Connection: close\r\nContent-Length: {length}\r\n"))).await?;
    for _ in 0..UPLOAD_PARTS {
        in_time(line.write(&[b'x'; UPLOAD_PART])).await?;
        sleep(UPLOAD_PAUSE).await;
    }
    let (page, _) = in_time(line.page()).await?;
    if page.contains(&format!("\"bytes\":{length},")) { who(&page) } else { Err(ProbeFailure::Foreign) }
}

/// All events, and their proper end.
async fn download(address: SocketAddr) -> Result<Answerer, ProbeFailure> {
    let mut line = in_time(ProbeLine::open(address)).await?;
    in_time(line.ask(&format!("GET /stream?events={EVENTS}&ms=50"), "Connection: close\r\n")).await?;
    let head = in_time(line.head()).await?;
    if head.status != 200 {
        return Err(ProbeFailure::Status(head.status));
    }
    let mut text = String::new();
    while let Some(chunk) = timeout(PATIENCE, line.chunk()).await.unwrap_or(Err(ProbeFailure::TooLate))? {
        text.push_str(std::str::from_utf8(&chunk).map_err(|_| ProbeFailure::Foreign)?);
    }
    let events: Vec<_> = text.split_terminator("\n\n").collect();
    let whole = (events.len() == EVENTS).then(|| events.last()).flatten();
    whole.map_or(Err(ProbeFailure::Foreign), |last| who(last))
}
