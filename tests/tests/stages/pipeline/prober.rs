//! Somebody who asks a page again and again, as people's browsers do, and measures for how long nobody answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks from its start until it's stopped. The thread that starts it must be in the world's network.
pub struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Answers>,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Answers {
    /// How many questions were asked.
    pub asked: usize,
    /// How many of them weren't answered with 200.
    pub failed: usize,
    /// The longest time from the first question without such an answer to the next one with it.
    pub longest: Duration,
}

impl Prober {
    pub fn start(address: SocketAddr, path: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut answers, mut silent_since) = (Answers::default(), None);
            while !stopped.load(Ordering::Relaxed) {
                let asked = Instant::now();
                answers.asked += 1;
                if answers_well(address, path) {
                    silent_since = None;
                } else {
                    answers.failed += 1;
                    let since: Instant = *silent_since.get_or_insert(asked);
                    answers.longest = answers.longest.max(since.elapsed());
                }
                thread::sleep(PAUSE);
            }
            answers
        });
        Self { stop, thread }
    }

    pub fn stop(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn answers_well(address: SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
}
