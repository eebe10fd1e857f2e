//! A `WebSocket` that sends back what it's told, behind the commit and the container that answer.

use std::io;

use crate::accept_key::accept_key;
use crate::connection::{PageConnection, PageRequest};
use crate::release::{commit, container};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

pub fn serve(mut connection: PageConnection, request: &PageRequest) -> io::Result<()> {
    if !request.header("upgrade").eq_ignore_ascii_case("websocket") {
        return connection.answer("426 Upgrade Required", "{\"detail\":\"a WebSocket\"}", false);
    }
    let accept = accept_key(request.header("sec-websocket-key"));
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    connection.write(head.as_bytes())?;
    let name = format!("{} {} ", commit(), container());
    loop {
        let (kind, payload) = message(&mut connection)?;
        match kind {
            CLOSE => return send(&mut connection, CLOSE, &payload),
            PING => send(&mut connection, PONG, &payload)?,
            TEXT => send(&mut connection, TEXT, &[name.as_bytes(), &payload].concat())?,
            _ => {}
        }
    }
}

/// One frame of a client; they don't split what is as short as here.
fn message(connection: &mut PageConnection) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    connection.read(&mut head)?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut long = [0; 2];
            connection.read(&mut long)?;
            usize::from(u16::from_be_bytes(long))
        }
        127 => return Err(io::Error::other("a message that is too long")),
        short => usize::from(short),
    };
    let mut mask = [0; 4];
    connection.read(&mut mask)?;
    let mut payload = vec![0; length];
    connection.read(&mut payload)?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((head[0] & 0x0f, payload))
}

fn send(connection: &mut PageConnection, kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![0x80 | kind];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(length),
        _ => {
            frame.push(126);
            frame.extend(u16::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes());
        }
    }
    frame.extend(payload);
    connection.write(&frame)
}
