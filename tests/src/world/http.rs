//! One plain HTTP GET as somebody in the world's network would do it: by curl, which needs no runtime of ours.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The HTTP status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// `curl` is a command that runs it inside the world.
pub(super) fn get(mut curl: Command, ca: &Path, url: &str) -> Result<HttpAnswer> {
    let output = curl
        .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "5", "--write-out", "\n%{http_code}"])
        .arg("--cacert")
        .arg(ca)
        .arg(url)
        .output()
        .context("starting curl")?;
    ensure!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    let text = String::from_utf8(output.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("curl writes the status last")?;
    Ok(HttpAnswer { status: status.parse()?, body: body.to_owned() })
}
