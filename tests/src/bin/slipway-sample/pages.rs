//! The pages of a sample's web service, and how the variants of its image answer.

use std::env;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::connection::{PageConnection, PageRequest};
use crate::database;
use crate::release::{commit, container};
use crate::websocket;

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// Answers on a connection until it ends.
pub fn serve(mut connection: PageConnection) -> io::Result<()> {
    while let Some(request) = connection.request()? {
        let stays = request.stays();
        match (variable("SAMPLE_VARIANT").as_str(), request.path.as_str()) {
            ("not-found", _) => not_found(&mut connection, &request)?,
            ("errors", _) => reply(&mut connection, &request, "500 Internal Server Error", "\"detail\":\"broken\"")?,
            ("unhealthy", "/health") => unavailable(&mut connection, &request, "unhealthy")?,
            (_, "/health") if !database::works() => unavailable(&mut connection, &request, "database")?,
            (_, "/health") => reply(&mut connection, &request, "200 OK", "\"status\":\"ok\"")?,
            (_, "/") => {
                let name = env::var("APP_NAME").unwrap_or_else(|_| "sample".to_owned());
                reply(&mut connection, &request, "200 OK", &format!("\"name\":\"{name}\",\"version\":\"1.0.0\""))?;
            }
            (_, "/slow") => {
                thread::sleep(Duration::from_millis(request.number("ms", 1000)));
                reply(&mut connection, &request, "200 OK", "\"slow\":true")?;
            }
            (_, "/upload") => {
                let bytes = connection.drain(&request)?;
                connection.answer("200 OK", &format!("{{\"bytes\":{bytes},{}}}", named()), stays)?;
            }
            (_, "/stream") => stream(&mut connection, &request)?,
            (_, "/websocket") => return websocket::serve(connection, &request),
            (_, path) => match path.strip_prefix("/ask/") {
                Some(place) => ask(&mut connection, &request, place)?,
                None => not_found(&mut connection, &request)?,
            },
        }
        if !stays {
            break;
        }
    }
    Ok(())
}

fn named() -> String {
    format!("\"commit\":\"{}\",\"container\":\"{}\"", commit(), container())
}

fn reply(connection: &mut PageConnection, request: &PageRequest, status: &str, fields: &str) -> io::Result<()> {
    connection.drain(request)?;
    connection.answer(status, &format!("{{{fields},{}}}", named()), request.stays())
}

fn unavailable(connection: &mut PageConnection, request: &PageRequest, what: &str) -> io::Result<()> {
    reply(connection, request, "503 Service Unavailable", &format!("\"status\":\"{what}\""))
}

fn not_found(connection: &mut PageConnection, request: &PageRequest) -> io::Result<()> {
    connection.drain(request)?;
    connection.answer("404 Not Found", "{\"detail\":\"Not Found\"}", request.stays())
}

/// Server-sent events: so many, with so many milliseconds before each of them.
fn stream(connection: &mut PageConnection, request: &PageRequest) -> io::Result<()> {
    connection.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    for number in 0..request.number("events", 10) {
        thread::sleep(Duration::from_millis(request.number("ms", 100)));
        let event = format!("data: {{\"number\":{number},{}}}\n\n", named());
        connection.write(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
    }
    connection.write(b"0\r\n\r\n")
}

/// What another service says, asked by its name: `/ask/backend:8000/` hands its answer on.
fn ask(connection: &mut PageConnection, request: &PageRequest, place: &str) -> io::Result<()> {
    let (address, path) = place.split_once('/').unwrap_or((place, ""));
    let asked = || -> io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        if head.starts_with("HTTP/1.1 200") { Ok(body.trim_end().to_owned()) } else { Err(io::Error::other(text)) }
    };
    match asked() {
        Ok(body) => connection.answer("200 OK", &body, request.stays()),
        Err(error) => {
            let body = format!("{{\"detail\":{:?}}}", format!("{address}: {error}"));
            connection.answer("502 Bad Gateway", &body, request.stays())
        }
    }
}
