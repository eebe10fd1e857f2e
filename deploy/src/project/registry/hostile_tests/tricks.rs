//! The tricks, each with the code that it must end with and a part of the message. How they are played is in the parent.

use std::sync::LazyLock;

use serde_json::json;
use slipway_protocol::ErrorCode;

use super::answers::{AnswerWith, Asked, HostileReply};
use crate::project::registry::REVISION;
use crate::project::registry::tests::digest_of;

const KIB: usize = 1024;

pub(super) fn reply(status: &str, headers: &str, body: &[u8]) -> HostileReply {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    HostileReply::Bytes([head.as_bytes(), body].concat())
}

pub(super) fn not_found() -> HostileReply {
    reply("404 Not Found", "", b"")
}

/// What a tag means; the commit's own tag isn't there.
fn tag(asked: &Asked<'_>, digest: &str) -> HostileReply {
    if asked.method == "HEAD" && asked.path.ends_with("/feature-pay") {
        reply("200 OK", &format!("Docker-Content-Digest: {digest}\r\n"), b"")
    } else {
        not_found()
    }
}

fn bearer(asked: &Asked<'_>, host: &str) -> HostileReply {
    if asked.path.starts_with("/token") {
        return reply("200 OK", "", br#"{"token":"of-one-repository"}"#);
    }
    reply("401 Unauthorized", &format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\"\r\n"), b"")
}

/// An image whose configuration names `revision` as its commit.
fn image_of(asked: &Asked<'_>, revision: &str) -> HostileReply {
    let config = json!({ "config": { "Labels": { REVISION: revision } } });
    let image = json!({ "config": { "digest": digest_of(&config) } });
    let part = [&config, &image].into_iter().find(|part| asked.path.ends_with(&digest_of(part)));
    match part {
        Some(part) => reply("200 OK", "", &serde_json::to_vec(part).unwrap()),
        None => tag(asked, &digest_of(&image)),
    }
}

/// An index of thousands, and its digest.
static THOUSANDS: LazyLock<(Vec<u8>, String)> = LazyLock::new(|| {
    let entry = json!({ "digest": format!("sha256:{}", "ab".repeat(32)) });
    let index = json!({ "manifests": vec![entry; 20_000] });
    (serde_json::to_vec(&index).unwrap(), digest_of(&index))
});

/// Each trick with the code that it must end with, and a part of the message.
pub(super) const TRICKS: &[(&str, ErrorCode, &str, AnswerWith)] = &[
    ("an endless manifest", ErrorCode::RegistryUnavailable, "more than 4 MiB", |asked| match asked.method {
        "GET" => HostileReply::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), &[b' '; 64 * KIB]),
        _ => tag(asked, &digest_of(&json!({}))),
    }),
    ("a manifest that says that it's huge", ErrorCode::RegistryUnavailable, "more than 4 MiB", |asked| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000000\r\n\r\n".to_vec();
        if asked.method == "GET" {
            HostileReply::Endless(head, &[b'['; 64 * KIB])
        } else {
            tag(asked, &digest_of(&json!({})))
        }
    }),
    ("headers without an end", ErrorCode::RegistryUnavailable, "doesn't answer", |_| {
        HostileReply::Endless(b"HTTP/1.1 200 OK\r\nX-More: ".to_vec(), &[b'a'; 64 * KIB])
    }),
    ("an answer that drips", ErrorCode::RegistryUnavailable, "doesn't answer", |asked| match asked.method {
        "GET" => HostileReply::Drip(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        _ => tag(asked, &digest_of(&json!({}))),
    }),
    ("headers that drip", ErrorCode::RegistryUnavailable, "doesn't answer", |_| {
        HostileReply::Drip(b"HTTP/1.1".to_vec())
    }),
    ("less than the length that was told", ErrorCode::RegistryUnavailable, "doesn't answer", |asked| {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\n{}".to_vec();
        if asked.method == "GET" { HostileReply::Bytes(bytes) } else { tag(asked, &digest_of(&json!({}))) }
    }),
    (
        "another content than the digest's",
        ErrorCode::RegistryUnavailable,
        "doesn't have the digest",
        |asked| match asked.method {
            "GET" => reply("200 OK", "", br#"{"config":{"digest":"sha256:00"}}"#),
            _ => tag(asked, &digest_of(&json!({}))),
        },
    ),
    ("a digest that is a path", ErrorCode::RegistryUnavailable, "isn't a SHA-256 digest", |asked| {
        let image = json!({ "config": { "digest": "../../../../token?x=" } });
        if asked.method == "GET" {
            reply("200 OK", "", &serde_json::to_vec(&image).unwrap())
        } else {
            tag(asked, &digest_of(&image))
        }
    }),
    ("a list of thousands", ErrorCode::RegistryUnavailable, "parts are missing", |asked| {
        let (index, digest) = &*THOUSANDS;
        if asked.path.ends_with(digest) { reply("200 OK", "", index) } else { tag(asked, digest) }
    }),
    ("a manifest as deep as a well", ErrorCode::RegistryUnavailable, "doesn't have the digest", |asked| {
        match asked.method {
            "GET" => reply("200 OK", "", "[".repeat(100 * KIB).as_bytes()),
            _ => tag(asked, &digest_of(&json!({}))),
        }
    }),
    ("a way to another server", ErrorCode::ImageNotFound, "no image sha-0123456", |asked| {
        reply("302 Found", &format!("Location: http://{}{}\r\n", asked.elsewhere, asked.path), b"")
    }),
    ("a way to another server once the password is shown", ErrorCode::ImageNotFound, "no image", |asked| {
        match asked.authorization {
            None => reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b""),
            Some(_) => reply("307 Temporary Redirect", &format!("Location: http://{}/x\r\n", asked.elsewhere), b""),
        }
    }),
    ("a way in a circle", ErrorCode::RegistryUnavailable, "isn't followed", |asked| {
        reply("302 Found", &format!("Location: http://{}{}\r\n", asked.own, asked.path), b"")
    }),
    ("a way to a file", ErrorCode::RegistryUnavailable, "", |_| {
        reply("302 Found", "Location: file:///etc/passwd\r\n", b"")
    }),
    ("tokens at another server", ErrorCode::RegistryRealmUntrusted, "nothing was sent there", |asked| {
        bearer(asked, asked.elsewhere)
    }),
    ("tokens of another server behind a redirect", ErrorCode::RegistryUnavailable, "isn't JSON", |asked| {
        if asked.path.starts_with("/token") {
            return reply("302 Found", &format!("Location: http://{}/ok\r\n", asked.elsewhere), b"");
        }
        bearer(asked, asked.own)
    }),
    ("passwords that are never enough", ErrorCode::RegistryCredentialRefused, "(401)", |_| {
        reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b"")
    }),
    ("tokens that are never enough", ErrorCode::RegistryCredentialRefused, "(401)", |asked| bearer(asked, asked.own)),
    ("a token of megabytes", ErrorCode::RegistryUnavailable, "more than 64 KiB", |asked| {
        match asked.path.starts_with("/token") {
            true => HostileReply::Endless(b"HTTP/1.1 200 OK\r\n\r\n{\"token\":\"".to_vec(), &[b'a'; 64 * KIB]),
            false => bearer(asked, asked.own),
        }
    }),
    ("a token with a line break", ErrorCode::RegistryUnavailable, "usable token", |asked| {
        match asked.path.starts_with("/token") {
            true => reply("200 OK", "", br#"{"token":"a\r\nX-Evil: yes"}"#),
            false => bearer(asked, asked.own),
        }
    }),
    ("the credential in an error's text", ErrorCode::RegistryCredentialRefused, "(403)", |asked| {
        match asked.authorization {
            None => reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b""),
            Some(shown) => reply(&format!("403 {shown}"), &format!("X-Echo: {shown}\r\n"), shown.as_bytes()),
        }
    }),
    ("escapes in an error's text", ErrorCode::RegistryCredentialRefused, "(403)", |_| {
        reply("403 \t\u{9b}31m", "X-Title: \u{9b}2J\r\n", b"\x1b]0;pwned\x07\x1b[2J")
    }),
    ("escapes for a commit", ErrorCode::ImageNotFound, "of another commit", |asked| {
        image_of(asked, "\u{1b}[2Jpwned\u{7}")
    }),
    ("a megabyte for a commit", ErrorCode::ImageNotFound, "of another commit", |asked| {
        image_of(asked, &"f".repeat(KIB * KIB))
    }),
    ("patience for centuries", ErrorCode::RegistryRateLimited, "for now", |_| {
        reply("429 Too Many Requests", "Retry-After: 99999999999\r\n", b"")
    }),
    ("a challenge without an end", ErrorCode::RegistryUnavailable, "isn't known here", |_| {
        reply("401 Unauthorized", &format!("WWW-Authenticate: Bearer {}\r\n", "a".repeat(32 * KIB)), b"")
    }),
];
