//! What a test logs.

use std::sync::{Arc, Mutex};

/// A log that a test reads.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn lines(&self, level: &str, text: &str) -> usize {
        let written = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        written.lines().filter(|line| line.contains(level) && line.contains(text)).count()
    }

    /// The parts of the worker that say `text`, each as often as it says so.
    pub fn parts(&self, text: &str) -> Vec<String> {
        let written = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let part = |line: &str| Some(line.split_once("part=\"")?.1.split_once('"')?.0.to_owned());
        let mut parts: Vec<_> = written.lines().filter(|line| line.contains(text)).filter_map(part).collect();
        parts.sort();
        parts
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes down what is logged from now on; on one thread, so that it's this test's.
pub fn logged() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
    let guard = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    (log, guard)
}
