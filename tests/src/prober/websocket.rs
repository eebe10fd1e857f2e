//! The WebSocket of a prober: says a number every fifty milliseconds, and wants it back.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::answer::{Answerer, ProbeKind, SocketBreak};
use super::failure::{ProbeFailure, in_time};
use super::line::ProbeLine;
use super::notebook::Notebook;

const PAUSE: Duration = Duration::from_millis(50);
const KEY: &str = "c2xpcHdheSdzIHByb2Jlcg==";
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Its meaning to a server that reads it: none.
const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// Opens one after the other, each for as long as it holds.
pub(super) async fn ask(address: SocketAddr, notebook: &Notebook) {
    loop {
        let opened = notebook.now();
        let mut line = match in_time(open(address)).await {
            Ok(line) => line,
            Err(failure) => {
                notebook.note(ProbeKind::Socket, opened, Err(failure));
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let mut answerer = None;
        for number in 0_u64.. {
            let asked = notebook.now();
            match in_time(echo(&mut line, number)).await {
                Ok(who) => {
                    answerer = Some(who.clone());
                    notebook.note(ProbeKind::Socket, asked, Ok(who));
                }
                Err(failure) => {
                    notebook.note_break(SocketBreak { opened, ended: notebook.now(), answerer, failure });
                    break;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn open(address: SocketAddr) -> Result<ProbeLine, ProbeFailure> {
    let mut line = ProbeLine::open(address).await?;
    let headers = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    );
    line.ask("GET /websocket", &headers).await?;
    let head = line.head().await?;
    let key = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{KEY}{GUID}").as_bytes()));
    match head.status {
        101 if head.accept == key => Ok(line),
        101 => Err(ProbeFailure::Foreign),
        status => Err(ProbeFailure::Status(status)),
    }
}

async fn echo(line: &mut ProbeLine, number: u64) -> Result<Answerer, ProbeFailure> {
    let said = number.to_string();
    let masked = said.bytes().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let length = 0x80 | u8::try_from(said.len()).map_err(|_| ProbeFailure::Foreign)?;
    let frame: Vec<u8> = [TEXT, length].into_iter().chain(MASK).chain(masked).collect();
    line.write(&frame).await?;

    let mut head = [0; 2];
    line.read(&mut head).await?;
    let length = match head[1] {
        126 => {
            let mut long = [0; 2];
            line.read(&mut long).await?;
            u16::from_be_bytes(long)
        }
        short => u16::from(short),
    };
    let mut payload = vec![0; usize::from(length)];
    line.read(&mut payload).await?;
    match (head[0], payload.as_slice()) {
        (TEXT, _) => {}
        (CLOSE, [high, low, ..]) => return Err(ProbeFailure::Closed(u16::from_be_bytes([*high, *low]))),
        (CLOSE, _) => return Err(ProbeFailure::Closed(1005)),
        _ => return Err(ProbeFailure::Foreign),
    }
    let text = String::from_utf8(payload).map_err(|_| ProbeFailure::Foreign)?;
    match text.split(' ').collect::<Vec<_>>()[..] {
        [commit, container, back] if back == said => {
            Ok(Answerer { commit: commit.to_owned(), container: container.to_owned() })
        }
        _ => Err(ProbeFailure::Foreign),
    }
}
