//! What something costs a server, in what doesn't depend on the machine: the programs that SSH sessions start on it, and
//! the round trips on the wire to it. Nothing of the product counts itself here.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::target::TargetServer;
use super::wait;

/// Root's on the servers.
const LOGIN_SHELL: &str = "/bin/bash";

/// Counts the programs that are started by sshd and what it starts, until it's asked.
#[derive(Debug)]
pub struct ProgramCounter {
    tracer: Child,
    log: PathBuf,
}

impl TargetServer {
    /// Counts the programs that SSH sessions start on it from now on.
    ///
    /// # Errors
    /// When it is off, or can't be followed.
    pub fn count_programs(&self) -> Result<ProgramCounter> {
        ProgramCounter::follow(self.init()?, self.root()?.join("var/log/programs.log"))
    }
}

impl ProgramCounter {
    /// Follows sshd, the child of `init`, which the machine numbers so.
    fn follow(init: i32, log: PathBuf) -> Result<Self> {
        let sshd = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .find(|pid| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                status.starts_with("Name:\tsshd\n") && status.contains(&format!("\nPPid:\t{init}\n"))
            })
            .context("no sshd runs on the server")?;
        let _ = fs::remove_file(&log);
        let tracer = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-z",
                "-e",
                "trace=execve,execveat",
                "-e",
                "signal=none",
                "-p",
                &sshd.to_string(),
                "-o",
            ])
            .arg(&log)
            .stderr(Stdio::null())
            .spawn()
            .context("starting strace")?;
        let counter = Self { tracer, log };
        let follower = format!("\nTracerPid:\t{}\n", counter.tracer.id());
        wait::until("strace follows sshd", wait::START, &counter.log, || {
            Ok(fs::read_to_string(format!("/proc/{sshd}/status"))?.contains(&follower))
        })?;
        Ok(counter)
    }

    /// The programs that commands have started so far, in their order, from the login shell on. What sshd and PAM start for a
    /// login before that is the server's own.
    ///
    /// # Errors
    /// When nothing was followed.
    pub fn finish(mut self) -> Result<Vec<String>> {
        // On this signal it lets go of what it follows.
        let ended = Command::new("kill").args(["-INT", &self.tracer.id().to_string()]).status()?;
        ensure!(ended.success(), "strace is gone");
        self.tracer.wait()?;
        let log = fs::read_to_string(&self.log)?;
        let mut in_shell = false;
        let mut programs = Vec::new();
        for program in log.lines().filter_map(|line| line.split('"').nth(1)) {
            in_shell = program == LOGIN_SHELL || (in_shell && !program.contains("/sshd"));
            if in_shell {
                programs.push(program.to_owned());
            }
        }
        Ok(programs)
    }
}

impl Drop for ProgramCounter {
    fn drop(&mut self) {
        let _ = self.tracer.kill();
        let _ = self.tracer.wait();
    }
}

/// A line of a given length to ports of a server: whatever is sent arrives that much later. It counts the round trips:
/// how often an answer came to what was sent since the last one, and the handshake of each connection.
#[derive(Debug)]
pub struct LongLine {
    address: Ipv4Addr,
    trips: Vec<(u16, Arc<Trips>)>,
}

#[derive(Debug, Default)]
struct Trips {
    state: Mutex<TripState>,
}

#[derive(Debug, Default)]
struct TripState {
    asked: Option<Instant>,
    count: u32,
    bytes: u64,
}

impl Trips {
    fn with<T>(&self, work: impl FnOnce(&mut TripState) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LongLine {
    /// Lays a line from `address`, which must be one of the world's own, to `ports` of `server`; `delay` is that of one
    /// way. The calling thread must be in the world. It lasts as long as the test.
    ///
    /// # Errors
    /// When a port is in use.
    pub fn lay(address: Ipv4Addr, server: Ipv4Addr, ports: &[u16], delay: Duration) -> Result<Self> {
        let mut trips = Vec::new();
        for &port in ports {
            let listener = TcpListener::bind((address, port)).with_context(|| format!("listening on {port}"))?;
            let counted = Arc::new(Trips::default());
            trips.push((port, counted.clone()));
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    counted.with(|state| state.count += 1);
                    let to = SocketAddr::new(IpAddr::V4(server), port);
                    let counted = counted.clone();
                    thread::spawn(move || carry(&client, to, delay, &counted));
                }
            });
        }
        Ok(Self { address, trips })
    }

    /// Where the line begins.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The round trips to a port since the last time, and the bytes sent to it.
    #[must_use]
    pub fn take(&self, port: u16) -> (u32, u64) {
        let counted = self.trips.iter().find(|(of, _)| *of == port);
        counted.map_or((0, 0), |(_, trips)| {
            trips.with(|state| (std::mem::take(&mut state.count), std::mem::take(&mut state.bytes)))
        })
    }
}

/// Carries one connection, both ways.
fn carry(client: &TcpStream, to: SocketAddr, delay: Duration, trips: &Arc<Trips>) {
    // The handshake's own way there.
    thread::sleep(delay);
    let Ok(server) = TcpStream::connect(to) else {
        let _ = client.shutdown(Shutdown::Both);
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let pairs = [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())];
    for (forth, (from, into)) in [true, false].into_iter().zip(pairs) {
        let (Ok(from), Ok(into)) = (from, into) else { return };
        let trips = trips.clone();
        thread::spawn(move || delayed(from, into, delay, forth, &trips));
    }
}

fn delayed(mut from: TcpStream, mut into: TcpStream, delay: Duration, forth: bool, trips: &Arc<Trips>) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    let counted = trips.clone();
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if !forth {
                counted.with(|state| {
                    // What was on its way already is no answer.
                    let answers = state.asked.is_some_and(|asked| due >= asked + delay * 2);
                    if answers {
                        state.asked = None;
                        state.count += 1;
                    }
                });
            }
            if into.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = into.shutdown(Shutdown::Write);
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let now = Instant::now();
        if forth {
            trips.with(|state| {
                state.asked.get_or_insert(now);
                state.bytes += length as u64;
            });
        }
        if sender.send((now + delay, buffer[..length].to_vec())).is_err() {
            break;
        }
    }
}
