//! Runs `git http-backend` as a CGI program, with bodies streamed both ways.
//!
//! Deliberately not here: who may run it; `git` decides that.

use std::path::Path;
use std::process::Stdio;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use futures_util::stream::{self, StreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const CHUNK_BYTES: usize = 64 * 1024;

/// What the upload side of GitHub allows, as git configuration that beats every file.
const CONFIG: [(&str, &str); 5] = [
    ("uploadpack.allowTipSHA1InWant", "true"),
    ("uploadpack.allowReachableSHA1InWant", "true"),
    ("uploadpack.allowFilter", "true"),
    ("http.receivepack", "true"),
    // The repositories may belong to another user than the tests' own.
    ("safe.directory", "*"),
];

/// One CGI call.
pub(super) struct CgiCall<'a> {
    pub git_root: &'a Path,
    /// Below the root, beginning with a slash.
    pub path_info: &'a str,
    pub method: &'a str,
    pub query: &'a str,
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    pub content_length: Option<&'a str>,
    pub protocol: Option<&'a str>,
}

impl CgiCall<'_> {
    /// Runs to the end of the header; the answer's body goes on as git writes it.
    ///
    /// # Errors
    /// When git can't be started or its answer has no header.
    pub(super) async fn run(&self, body: Body) -> anyhow::Result<Response> {
        let mut child = self.command().spawn()?;
        if let Some(stdin) = child.stdin.take() {
            tokio::spawn(feed(stdin, body));
        }
        let stdout = child.stdout.take().ok_or_else(|| anyhow::anyhow!("git http-backend has no output"))?;
        let mut output = BufReader::with_capacity(CHUNK_BYTES, stdout);
        let mut response = read_head(&mut output).await?;
        *response.body_mut() = Body::from_stream(stream::unfold((child, output), next_chunk));
        Ok(response)
    }

    fn command(&self) -> Command {
        let mut command = Command::from(clean_git());
        command.arg("http-backend");
        command
            .env("GIT_PROJECT_ROOT", self.git_root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("PATH_INFO", self.path_info)
            .env("REQUEST_METHOD", self.method)
            .env("QUERY_STRING", self.query)
            .env("GIT_CONFIG_COUNT", CONFIG.len().to_string());
        for (index, (key, value)) in CONFIG.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key).env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        let optional = [
            ("CONTENT_TYPE", self.content_type),
            ("CONTENT_LENGTH", self.content_length),
            ("HTTP_CONTENT_ENCODING", self.content_encoding),
            ("HTTP_GIT_PROTOCOL", self.protocol),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        command
    }
}

/// git without any configuration or environment of the machine, so that every machine's answers are the same.
pub(super) fn clean_git() -> std::process::Command {
    let mut command = std::process::Command::new("git");
    command.env_clear().env("GIT_CONFIG_NOSYSTEM", "1");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Ends at the request's end, or early when git has read enough.
async fn feed(mut stdin: ChildStdin, body: Body) {
    let mut chunks = body.into_data_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        if stdin.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

async fn read_head(output: &mut BufReader<ChildStdout>) -> anyhow::Result<Response> {
    let mut response = Response::new(Body::empty());
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).await? == 0 {
            anyhow::bail!("git http-backend ended before its header did");
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(response);
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().unwrap_or_default();
            *response.status_mut() = StatusCode::from_bytes(code.as_bytes())?;
        } else {
            let name = HeaderName::from_bytes(name.as_bytes())?;
            response.headers_mut().insert(name, HeaderValue::from_str(value)?);
        }
    }
}

type Running = (Child, BufReader<ChildStdout>);

/// The child travels with its output: dropping the answer ends it.
async fn next_chunk((mut child, mut output): Running) -> Option<(std::io::Result<Bytes>, Running)> {
    let mut chunk = vec![0; CHUNK_BYTES];
    match output.read(&mut chunk).await {
        Ok(0) => {
            // Reaped here; its status was in the header.
            let _ = child.wait().await;
            None
        }
        Ok(length) => {
            chunk.truncate(length);
            Some((Ok(chunk.into()), (child, output)))
        }
        Err(error) => Some((Err(error), (child, output))),
    }
}

/// The answer with a body that breaks off after so many bytes, or at its end when it is shorter.
pub(super) fn cut_body(response: Response, bytes: usize) -> Response {
    let (parts, body) = response.into_parts();
    let head = body.into_data_stream().scan(bytes, |left, chunk| {
        let chunk = chunk.ok().filter(|_| *left > 0).map(|mut chunk| {
            chunk.truncate(*left);
            *left -= chunk.len();
            Ok(chunk)
        });
        std::future::ready(chunk)
    });
    let broken = stream::iter([Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))]);
    Response::from_parts(parts, Body::from_stream(head.chain(broken)))
}
