//! The project's `.env` on the server: every variable that the template's two generations read, and its access rights.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use slipway_tests::stack::BOT_TOKEN;
use slipway_tests::world::{Commit, Generation, Module};

use crate::deployments::scene::{DIRECTORY, PORT, ProjectScene, SLUG};

/// What the request gives as a plain variable; see `Stack::ready`.
const GREETING: &str = "it's $5 \"now\" \\";

/// The file's bytes.
pub fn file(scene: &ProjectScene) -> Result<String> {
    scene.server().sh(&format!("cat {DIRECTORY}/.env"))
}

/// Reads what Slipway writes: `NAME="value"` with `\`, `"` and `$` escaped. A reader of the test's own.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, quoted) = line.split_once('=').with_context(|| format!("no variable: {line}"))?;
        let inner = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"')).context("a value in double quotes")?;
        let mut value = String::new();
        let mut letters = inner.chars();
        while let Some(letter) = letters.next() {
            value.push(if letter == '\\' { letters.next().context("a letter after the backslash")? } else { letter });
        }
        ensure!(found.insert(name.to_owned(), value).is_none(), "{name} stands there twice");
    }
    Ok(found)
}

/// Checks names, values and access rights, and gives the variables.
pub fn check(scene: &ProjectScene, commit: &Commit) -> Result<BTreeMap<String, String>> {
    let variables = parse(&file(scene)?)?;
    let expected = expected(scene, commit);
    let generated = ["APP_SECRET_KEY", "POSTGRES_PASSWORD", "DATABASE_URL"];
    let names: Vec<_> = variables.keys().map(String::as_str).filter(|n| !generated.contains(n)).collect();
    ensure!(names == expected.keys().copied().collect::<Vec<_>>(), "{names:?}");
    for (name, value) in expected {
        ensure!(variables[name] == value, "{name} is {:?} and not {value:?}", variables[name]);
    }
    for name in ["APP_SECRET_KEY", "POSTGRES_PASSWORD"] {
        let value = &variables[name];
        ensure!(value.len() >= 32 && value.chars().all(|c| c.is_ascii_alphanumeric()), "{name} isn't fit for a URL");
    }
    ensure!(variables["APP_SECRET_KEY"] != variables["POSTGRES_PASSWORD"], "one value for two purposes");
    // Generation 2's contract leaves this one to the user.
    let url = format!("postgresql://postgres:{}@db:5432/service", variables["POSTGRES_PASSWORD"]);
    let url = (scene.sample.generation() == Generation::One).then_some(&url);
    ensure!(variables.get("DATABASE_URL") == url, "DATABASE_URL and POSTGRES_PASSWORD disagree");
    rights(scene)?;
    Ok(variables)
}

/// All but what is drawn at random.
fn expected(scene: &ProjectScene, commit: &Commit) -> BTreeMap<&'static str, String> {
    let image = |module| format!("ghcr.io/{}:{}", scene.sample.image(module), commit.tag());
    let text = str::to_owned;
    let files = ["base", "prod", "slipway"].map(|name| format!("{DIRECTORY}/infra/compose.{name}.yml"));
    let declared = [
        ("BACKEND_REPLICAS", text("1")),
        ("ENABLED_MODULES", text("backend,tg_bot")),
        ("POSTGRES_REQUIRE_SSL", text("false")),
        ("SQLALCHEMY_ASYNC_DRIVER", text("postgresql+asyncpg")),
        ("SQLALCHEMY_SYNC_DRIVER", text("postgresql+psycopg")),
    ];
    let mut all = BTreeMap::from([
        ("API_BASE_URL", text("http://backend:8000")),
        ("APP_ENV", text("production")),
        ("APP_NAME", text(SLUG)),
        ("BACKEND_API_URL", text("http://backend:8000")),
        ("BACKEND_IMAGE", image(Module::Backend)),
        ("BACKEND_PORT", PORT.to_string()),
        ("COMPOSE_FILE", format!("{}:/opt/services/.slipway-front-door/compose/{SLUG}.yml", files.join(":"))),
        ("COMPOSE_PROJECT_NAME", text(SLUG)),
        ("ENVIRONMENT", text("production")),
        ("GREETING", text(GREETING)),
        ("POSTGRES_DB", text("service")),
        ("POSTGRES_HOST", text("db")),
        ("POSTGRES_PORT", text("5432")),
        ("POSTGRES_USER", text("postgres")),
        ("REDIS_URL", text("redis://redis:6379")),
        ("TELEGRAM_BOT_TOKEN", text(BOT_TOKEN)),
        ("TG_BOT_IMAGE", image(Module::TgBot)),
    ]);
    if scene.sample.generation() == Generation::Two {
        all.extend(declared);
    }
    all
}

/// 0600 and root's, under every name by which a compose call may find it.
fn rights(scene: &ProjectScene) -> Result<()> {
    for name in [".env", "infra/.env"] {
        let told =
            scene.server().sh(&format!("stat -Lc '%a %U' {DIRECTORY}/{name}; cmp {DIRECTORY}/{{.env,{name}}}"))?;
        ensure!(told == "600 root\n", "{name}: {told}");
    }
    if scene.sample.generation() == Generation::One {
        let told =
            scene.server().sh(&format!("cd {DIRECTORY}/infra; stat -c '%a %U %F' .env.prod; grep = .env.prod || :"))?;
        ensure!(told == "600 root regular file\n", "somebody's own variables, and here are none: {told}");
    }
    Ok(())
}

/// Checks that the containers got what the file says, whatever compose makes of quoting.
pub fn reaches_the_containers(scene: &ProjectScene, variables: &BTreeMap<String, String>) -> Result<()> {
    for service in ["backend", "tg_bot"] {
        let told = scene.server().sh(&format!(
            "docker ps -q --filter label=com.docker.compose.service={service} | \
             xargs docker inspect --format '{{{{json .Config.Env}}}}'"
        ))?;
        let env: Vec<String> = serde_json::from_str(&told).with_context(|| format!("one {service}: {told}"))?;
        for (name, value) in variables {
            let own = format!("postgresql+psycopg://postgres:{}@db:5432/service", variables["POSTGRES_PASSWORD"]);
            let value = match (service, name.as_str()) {
                // The compose files have one of their own.
                ("backend", "DATABASE_URL") => &own,
                // What a user gives goes to those alone that generation 2's contract names.
                ("backend", "TELEGRAM_BOT_TOKEN") if scene.sample.generation() == Generation::Two => "",
                _ => value,
            };
            ensure!(env.contains(&format!("{name}={value}")), "{service} doesn't have {name}={value:?}");
        }
    }
    Ok(())
}
