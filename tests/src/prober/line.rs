//! One connection of HTTP/1.1 as a client has it, written by hand: a client that repairs what breaks would hide it.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::failure::ProbeFailure;

/// The beginning of an answer.
pub(super) struct Head {
    pub status: u16,
    pub length: usize,
    pub is_chunked: bool,
    pub closes: bool,
    /// What a WebSocket's server proves itself with.
    pub accept: String,
}

pub(super) struct ProbeLine {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl ProbeLine {
    pub async fn open(address: SocketAddr) -> Result<Self, ProbeFailure> {
        let stream = TcpStream::connect(address).await.map_err(|error| ProbeFailure::NoConnection(error.kind()))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: address })
    }

    /// Sends the head of a request: `GET /`, and further headers, each with its end of line.
    pub async fn ask(&mut self, what: &str, headers: &str) -> Result<(), ProbeFailure> {
        let head = format!("{what} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.host);
        self.write(head.as_bytes()).await
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ProbeFailure> {
        Ok(self.stream.get_mut().write_all(bytes).await?)
    }

    pub async fn read(&mut self, into: &mut [u8]) -> Result<(), ProbeFailure> {
        self.stream.read_exact(into).await?;
        Ok(())
    }

    /// Waits until the other side closes the connection, or says something unasked.
    pub async fn ended(&mut self) {
        let _ = self.stream.fill_buf().await;
    }

    pub async fn head(&mut self) -> Result<Head, ProbeFailure> {
        loop {
            let head = self.any_head().await?;
            // 100: go on; the answer comes later.
            if head.status != 100 {
                return Ok(head);
            }
        }
    }

    async fn any_head(&mut self) -> Result<Head, ProbeFailure> {
        let first = self.text_line().await?;
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or(ProbeFailure::Foreign)?;
        let mut head = Head { status, length: 0, is_chunked: false, closes: false, accept: String::new() };
        loop {
            let line = self.text_line().await?;
            let Some((name, value)) = line.split_once(':') else {
                return if line.is_empty() { Ok(head) } else { Err(ProbeFailure::Foreign) };
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.parse().map_err(|_| ProbeFailure::Foreign)?,
                "transfer-encoding" => head.is_chunked = value.eq_ignore_ascii_case("chunked"),
                "connection" => head.closes = value.eq_ignore_ascii_case("close"),
                "sec-websocket-accept" => value.clone_into(&mut head.accept),
                _ => {}
            }
        }
    }

    /// The body of a whole answer with status 200.
    pub async fn page(&mut self) -> Result<(String, Head), ProbeFailure> {
        let head = self.head().await?;
        let mut body = Vec::new();
        if head.is_chunked {
            while let Some(chunk) = self.chunk().await? {
                body.extend(chunk);
            }
        } else {
            body.resize(head.length, 0);
            self.read(&mut body).await?;
        }
        if head.status != 200 {
            return Err(ProbeFailure::Status(head.status));
        }
        Ok((String::from_utf8(body).map_err(|_| ProbeFailure::Foreign)?, head))
    }

    /// The next part of a body that comes in parts; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, ProbeFailure> {
        let size = self.text_line().await?;
        let size = usize::from_str_radix(&size, 16).map_err(|_| ProbeFailure::Foreign)?;
        let mut chunk = vec![0; size];
        self.read(&mut chunk).await?;
        self.text_line().await?;
        Ok((size > 0).then_some(chunk))
    }

    async fn text_line(&mut self) -> Result<String, ProbeFailure> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 || !line.ends_with('\n') {
            return Err(ProbeFailure::Broken(std::io::ErrorKind::UnexpectedEof));
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}
