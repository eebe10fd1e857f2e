//! Tests only: the real Docker Compose, which needs no daemon to read files. The binary is SLIPWAY_TEST_COMPOSE, or the one
//! that `tests/prepare` puts into the cache.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use slipway_protocol::ProjectReady;

use crate::project::compose::FILES;
use crate::project::env::dotenv;
use crate::project::model::ComposeProject;

pub(crate) const BOT: (&str, &str) = ("TELEGRAM_BOT_TOKEN", "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0");

fn compose() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = || {
        var("SLIPWAY_CACHE").unwrap_or_else(|| {
            let caches = var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|home| home.join(".cache")));
            caches.expect("HOME is set").join("slipway")
        })
    };
    let path = var("SLIPWAY_TEST_COMPOSE").unwrap_or_else(|| cache().join("bin/docker-compose"));
    assert!(path.exists(), "no docker-compose at {}: run tests/prepare or set SLIPWAY_TEST_COMPOSE", path.display());
    path
}

pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    try_run(folder, arguments).unwrap_or_else(|complaint| panic!("{arguments:?}: {complaint}"))
}

/// What compose prints, or what it complains of.
pub(crate) fn try_run(folder: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new(compose())
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/root")
        .args(arguments)
        .output()
        .unwrap();
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// What compose makes of the project's own files with these values, as `scripts/env_view.sh` asks it: who reads `.env` and
/// `.env.prod` is seen by a mark.
pub(crate) fn own_view(folder: &Path, values: &BTreeMap<String, String>) -> Result<ComposeProject, String> {
    let put = |file: &str, text: &str| std::fs::write(folder.join(file), text).unwrap();
    put("values", &dotenv::render(values));
    put(".env", "SLIPWAY_READS_ENV=\"1\"\n");
    put("infra/.env.prod", "SLIPWAY_READS_ENV_PROD=\"1\"\n");
    let mut arguments = vec!["--project-name", "corner-shop", "--env-file", "values", "-f", FILES[0], "-f", FILES[1]];
    arguments.extend(["--profile", "*", "config", "--format", "json"]);
    let json = try_run(folder, &arguments)?;
    let project = ComposeProject::parse(&json).map_err(|error| error.to_string())?;
    let images = values.keys().filter(|name| name.ends_with("_IMAGE"));
    Ok(project.with_values(values, images))
}

pub(crate) fn request() -> ProjectReady {
    serde_json::from_value(serde_json::json!({
        "project": { "id": "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11", "slug": "corner-shop" },
        "repository": {
            "name": "Acme-Org/Corner.Shop", "commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main"
        },
        "server": { "handle": "one" },
        "allocations": [
            { "service": "db", "host_port": 15432, "container_port": 5432 },
            { "service": "backend", "host_port": 8080, "container_port": 8000 }
        ],
        "modules": ["backend", "tg_bot"],
        "variables": { "APP_NAME": "Corner Shop" }
    }))
    .unwrap()
}
