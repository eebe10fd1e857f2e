//! What counts as answering, for each kind of server: its protocol's first words, as an open port alone says nothing.

use std::io::{Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(2);

/// sshd sends its version.
pub(super) fn ssh(address: Ipv4Addr) -> bool {
    matches!(first_bytes(address, 22, b"").as_ref(), Ok(b"SSH-"))
}

/// RabbitMQ answers an AMQP header with a method frame (`connection.start`).
pub(super) fn amqp(address: Ipv4Addr) -> bool {
    matches!(first_bytes(address, 5672, b"AMQP\x00\x00\x09\x01"), Ok([1, ..]))
}

/// A registry speaks TLS: it has read its certificate before it listens, so that a connection is enough.
pub(super) fn tls(address: Ipv4Addr) -> bool {
    tcp(address, 443)
}

/// Something listens.
pub(super) fn tcp(address: Ipv4Addr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, port)), LIMIT).is_ok()
}

/// dockerd answers its own ping.
pub(super) fn docker(socket: &Path) -> bool {
    let attempt = || -> Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    attempt().is_ok_and(|answer| answer.contains(" 200 ") && answer.ends_with("OK"))
}

fn first_bytes(address: Ipv4Addr, port: u16, hello: &[u8]) -> Result<[u8; 4]> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(hello)?;
    let mut start = [0; 4];
    stream.read_exact(&mut start)?;
    Ok(start)
}
