//! Server processes of tests, kept by `run.sh` so that none outlives what it's for, however that ends.

use std::fs::{File, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const KEEPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../worker/tests/services/run.sh");

/// A server process of one test, which takes orders.
pub struct ServerProcess {
    keeper: Child,
    answers: BufReader<ChildStdout>,
    pub port: u16,
}

impl ServerProcess {
    pub fn keep(folder: &Path, script: &str, port: u16) -> Self {
        std::fs::write(folder.join("server"), script).unwrap();
        let mut keeper = Command::new("setsid")
            .args(["sh", KEEPER])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answers = BufReader::new(keeper.stdout.take().unwrap());
        Self { keeper, answers, port }
    }

    /// Gives an order and waits until it's carried out.
    pub fn order(&mut self, word: &str) {
        writeln!(self.keeper.stdin.as_mut().unwrap(), "{word}").unwrap();
        self.answers.read_line(&mut String::new()).unwrap();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A server that all tests of a run use: whoever asks first starts it, and it ends with the run.
pub struct Shared {
    folder: PathBuf,
    pub port: u16,
}

impl Shared {
    /// `script` prepares the folder and says what to run there, and where that listens; `wait` waits until it does.
    pub fn get(name: &str, script: impl FnOnce(&Path) -> (String, u16), wait: impl FnOnce(u16)) -> Self {
        // Without nextest a run is this one process.
        let own = std::process::id();
        let (run, runner) = match std::env::var("NEXTEST_RUN_ID") {
            Ok(run) => (run, std::os::unix::process::parent_id()),
            Err(_) => (own.to_string(), own),
        };
        let folder = std::env::temp_dir().join(format!("slipway-{name}-{run}"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let _lock = locked(&folder);
        let port = match std::fs::read_to_string(folder.join("port")) {
            Ok(port) => port.parse().unwrap(),
            Err(_) => {
                let (script, port) = script(&folder);
                std::fs::write(folder.join("server"), script).unwrap();
                // The keeper's orders end with the run, and the server with them.
                let begun = Command::new("setsid")
                    .args(["--fork", "sh", "-c", "tail --pid=\"$0\" -f /dev/null | sh \"$1\" \"$2\""])
                    .args([&runner.to_string(), KEEPER])
                    .arg(&folder)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status();
                assert!(begun.unwrap().success());
                wait(port);
                std::fs::write(folder.join("port"), port.to_string()).unwrap();
                port
            }
        };
        Self { folder, port }
    }

    /// Counts from 0, over all tests of the run.
    pub fn next(&self) -> usize {
        let _lock = locked(&self.folder);
        let counter = self.folder.join("next");
        let next = std::fs::read_to_string(&counter).map_or(0, |text| text.parse().unwrap());
        std::fs::write(&counter, (next + 1).to_string()).unwrap();
        next
    }
}

fn locked(folder: &Path) -> File {
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    lock
}

pub fn folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("slipway-worker-").tempdir().unwrap().keep();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    folder
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(90), "{what} didn't come up");
        std::thread::sleep(Duration::from_millis(50));
    }
}
