//! One connection of HTTP/1.1: reads requests and their bodies, writes answers. Knows no page.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// The head of a request.
pub struct PageRequest {
    /// Without the query.
    pub path: String,
    pub query: String,
    headers: Vec<(String, String)>,
    is_old: bool,
}

impl PageRequest {
    /// A header's value; empty without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(header, _)| header == name).map_or("", |(_, value)| value)
    }

    /// A number in the query.
    pub fn number(&self, name: &str, default: u64) -> u64 {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(default)
    }

    /// Whether the one who asks stays for another request.
    pub fn stays(&self) -> bool {
        !self.is_old && !self.header("connection").eq_ignore_ascii_case("close")
    }
}

pub struct PageConnection {
    reader: BufReader<TcpStream>,
}

impl PageConnection {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::with_capacity(1 << 16, stream) })
    }

    /// The next request; `None` where there is no other.
    pub fn request(&mut self) -> io::Result<Option<PageRequest>> {
        let first = self.line()?;
        let mut words = first.split_whitespace();
        let (Some(_method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let is_old = words.next() == Some("HTTP/1.0");
        let (path, query) = (path.to_owned(), query.to_owned());
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Some(PageRequest { path, query, headers, is_old }));
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Reads a request's body, and tells its length.
    pub fn drain(&mut self, request: &PageRequest) -> io::Result<u64> {
        if request.header("expect").eq_ignore_ascii_case("100-continue") {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if !request.header("transfer-encoding").eq_ignore_ascii_case("chunked") {
            return self.skip(request.header("content-length").parse().unwrap_or(0));
        }
        let mut all = 0;
        loop {
            let line = self.line()?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or(""), 16).map_err(io::Error::other)?;
            all += self.skip(size)?;
            self.line()?;
            if size == 0 {
                return Ok(all);
            }
        }
    }

    /// A whole answer in JSON.
    pub fn answer(&mut self, status: &str, body: &str, stays: bool) -> io::Result<()> {
        let connection = if stays { "keep-alive" } else { "close" };
        let length = body.len() + 1;
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{body}\n"
        );
        self.write(text.as_bytes())
    }

    pub fn read(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.reader.read_exact(into)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    fn skip(&mut self, length: u64) -> io::Result<u64> {
        let skipped = io::copy(&mut self.reader.by_ref().take(length), &mut io::sink())?;
        if skipped < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(length) }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(line)
    }
}
