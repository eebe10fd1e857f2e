//! The web service of the sample projects, of the standard library alone: `tests/prepare` compiles it with rustc, into
//! the image that their containers run. It keeps connections open, takes uploads, streams, and speaks `WebSocket`.
//!
//! As unkind as a service may be: it ends at once when it's told to, whatever is on its way.

mod accept_key;
mod connection;
mod database;
mod pages;
mod release;
mod websocket;

use std::env;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::process::{ExitCode, exit};
use std::thread;
use std::time::Duration;

use connection::PageConnection;

/// How long the variant `dies` answers.
const LIFE: Duration = Duration::from_secs(10);

#[expect(clippy::print_stderr, reason = "a container's log")]
fn main() -> ExitCode {
    let port = env::args().nth(1).and_then(|port| port.parse::<u16>().ok());
    let Some(port) = port else {
        eprintln!("usage: serve PORT");
        return ExitCode::from(64);
    };
    // A container may have no IPv6.
    let listener =
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("serve: port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    if env::var("SAMPLE_VARIANT").is_ok_and(|variant| variant == "dies") {
        thread::spawn(|| {
            thread::sleep(LIFE);
            eprintln!("serve: fatal: nothing more to say");
            exit(1);
        });
    }
    for stream in listener.incoming().flatten() {
        // Whoever asks goes away when it pleases.
        thread::spawn(|| PageConnection::new(stream).and_then(pages::serve));
    }
    ExitCode::SUCCESS
}
