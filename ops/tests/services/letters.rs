//! Dead letters as operators handle them at night: each command of the runbook, on a real PostgreSQL. What the relay and
//! a worker do with a replay is done here by hand, so that it can be looked at in between.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use slipway_protocol::{DeploymentId, ErrorCode, Metadata, decode};
use slipway_worker::message::{Incoming, Outgoing};
use slipway_worker::store::{Accepted, Store};

use super::services::Database;
use super::services::rig::{incoming, request};
use super::{accept, fail, json_of, operator, run, snapshot};

/// A night's work: the commands of one operator on one database.
struct Night {
    database: Database,
    store: Store,
}

impl Night {
    async fn new() -> Self {
        let (database, store) = Database::migrated("w").await;
        Self { database, store }
    }

    /// A deployment of `slug` that has failed for good; `edit` changes its event.
    async fn failed(&self, slug: &str, code: ErrorCode, edit: impl FnOnce(&mut Value)) -> DeploymentId {
        let body = request(|event| {
            event["data"]["project"]["slug"] = slug.into();
            edit(event);
        });
        let id = accept(&self.store, &body).await;
        fail(&self.store, code).await;
        id
    }

    async fn says(&self, args: &str) -> String {
        let args: Vec<_> = ["dead-letters"].into_iter().chain(args.split(' ')).collect();
        run(operator(Some(&self.database), None), &args).await
    }

    async fn json(&self, args: &str) -> Value {
        let args: Vec<_> = ["dead-letters"].into_iter().chain(args.split(' ')).collect();
        json_of(operator(Some(&self.database), None), &args).await
    }

    /// What was sent again and waits for the relay.
    async fn sent(&self) -> Vec<Outgoing> {
        let waiting = self.store.waiting_messages(&[], 1000, u32::MAX).await.unwrap();
        waiting.rows.into_iter().map(|row| row.message).filter(|m| m.exchange == "slipway.requests").collect()
    }

    /// What a worker makes of a message.
    async fn taken_in(&self, message: &Outgoing) -> (DeploymentId, Accepted) {
        let incoming = Incoming { headers: message.headers.clone(), ..incoming(&message.body) };
        let metadata = Metadata { content_type: message.content_type.clone(), headers: message.headers.clone() };
        let request = decode(&message.body, &metadata).unwrap();
        (request.deployment_id(), self.store.accept(&request, &incoming).await.unwrap())
    }

    /// One value of a deployment's row.
    async fn value(&self, id: DeploymentId, column: &str) -> Option<String> {
        let sql = format!("SELECT {column}::text FROM deployments WHERE id = '{id}'");
        self.database.sql.query_one(&sql, &[]).await.unwrap().get(0)
    }

    async fn open(&self) -> i64 {
        self.database.count("SELECT count(*) FROM dead_letters WHERE state = 'open'").await
    }

    async fn records(&self) -> i64 {
        self.database.count("SELECT count(*) FROM dead_letter_audit").await
    }
}

fn begins(id: DeploymentId) -> String {
    id.to_string()[..8].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_grouped_filtered_put_aside_noted_exported_and_every_act_is_recorded() {
    let night = Night::new().await;
    snapshot("groups-none", &night.says("groups").await);
    let bakery = night.failed("bakery", ErrorCode::PortOccupied, |_| {}).await;
    let project = uuid::Uuid::new_v4().to_string();
    let same = |event: &mut Value| event["data"]["project"]["id"] = project.as_str().into();
    let florist = night.failed("florist", ErrorCode::PortOccupied, same).await;
    night.failed("florist", ErrorCode::CrashLoop, same).await;
    let old = format!("UPDATE dead_letters SET last_failed_at = now() - interval '3 hours' WHERE id = '{bakery}'");
    night.database.sql.batch_execute(&old).await.unwrap();

    let groups = night.json("groups").await;
    assert_eq!(
        (&groups[0]["code"], &groups[0]["count"], &groups[1]["count"]),
        (&json!("port-occupied"), &json!(2), &json!(1))
    );
    assert_eq!(night.json("groups --by-project").await.as_array().unwrap().len(), 3);
    let count = async |args: &str| night.json(&format!("list {args}")).await.as_array().unwrap().len();
    for (filter, expected) in [
        ("--project florist", 2),
        ("--class permanent", 1),
        ("--code port-occupied --since 2h", 1),
        ("--until 2h", 1),
        ("--stage clone", 0),
        ("--stage preflight --project bakery", 1),
        ("--state archived", 0),
    ] {
        assert_eq!(count(filter).await, expected, "{filter}");
    }

    // Archiving needs a reason, and many at once need consent.
    snapshot("archive-without-reason", &night.says(&format!("archive {}", begins(bakery))).await);
    snapshot("archive-without-consent", &night.says("archive --code port-occupied --why gone").await);
    snapshot("archive-nothing-chosen", &night.says("archive --why gone").await);
    assert_eq!(night.json("archive --code port-occupied --dry-run").await, json!({ "would_archive": 2 }));
    assert_eq!((night.open().await, night.records().await), (3, 0), "nothing was done yet");
    let archived = night.json("archive --code port-occupied --why gone --yes --as ops-bot").await;
    assert_eq!(archived["archived"].as_array().unwrap().len(), 2);
    assert!(night.says(&format!("archive {} --why gone", begins(bakery))).await.contains("isn't open: archived"));
    assert_eq!(night.json(&format!("restore {}", begins(florist))).await, json!({ "restored": [florist] }));
    assert_eq!(night.open().await, 2);

    let mut note = operator(Some(&night.database), None);
    note.args(["dead-letters", "note", &begins(florist), "nginx is asked about"]);
    tokio::task::spawn_blocking(move || note.assert().success()).await.unwrap();
    let shown = night.says(&format!("show {}", begins(florist))).await;
    assert!(shown.contains("nginx is asked about") && shown.contains("archive by ops-bot: gone"), "{shown}");
    // The same project's later failure is newer.
    assert!(shown.contains("A replay:     not without --force:"), "{shown}");

    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let body = night.store.dead_letter(florist.0).await.unwrap().unwrap().body.unwrap();
    let exported = night.json(&format!("export {} --out {}", begins(florist), out.display())).await;
    assert_eq!((&exported["exported"], &exported["withheld"]), (&json!(1), &json!(0)));
    assert_eq!(std::fs::read(out.join(format!("{florist}.body"))).unwrap(), body);
    assert_eq!(out.join(format!("{florist}.body")).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let line = night.json("export --project florist --max 1").await;
    assert_eq!(line["withheld"], false);
    assert!(line["body"].as_str().unwrap().starts_with('{'));

    let audit = night.json("audit").await;
    let acts: Vec<_> = audit.as_array().unwrap().iter().map(|a| a["action"].as_str().unwrap()).collect();
    assert_eq!(acts, ["export", "export", "note", "restore", "archive", "archive"]);
    let host = audit[0]["who"].as_str().unwrap();
    assert!(host.starts_with("ada@") && host.len() > 4, "{host}");
    assert_eq!((&audit[4]["who"], &audit[4]["why"]), (&json!("ops-bot"), &json!("gone")));
    assert_eq!(night.json(&format!("audit {} --action note", begins(florist))).await.as_array().unwrap().len(), 1);
    assert_eq!(night.json("audit --as ops-bot --since 1h").await.as_array().unwrap().len(), 2);
    assert!(night.says("audit").await.contains("ops-bot"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_resumes_where_it_failed_and_what_is_superseded_needs_force() {
    let night = Night::new().await;
    let project = uuid::Uuid::new_v4().to_string();
    let of = |sequence: u64| {
        let project = project.clone();
        move |event: &mut Value| {
            event["data"]["project"]["id"] = project.as_str().into();
            event["data"]["sequence"] = sequence.into();
        }
    };
    let older = night.failed("shop", ErrorCode::PortOccupied, of(1)).await;
    let newer = night.failed("shop", ErrorCode::PortOccupied, of(2)).await;

    let plan = night.json("replay --all --dry-run").await;
    assert_eq!((&plan["would_replay"], &plan["counts"]["superseded"]), (&json!(1), &json!(1)));
    let verdicts: BTreeMap<_, _> =
        plan["dead_letters"].as_array().unwrap().iter().map(|l| (l["id"].to_string(), l.clone())).collect();
    let verdict = |id: DeploymentId| &verdicts[&json!(id).to_string()];
    assert_eq!((&verdict(newer)["verdict"], &verdict(newer)["resumes_at"]), (&json!("ready"), &json!("preflight")));
    assert_eq!(
        (&verdict(older)["verdict"], &verdict(older)["newer_deployment"]),
        (&json!("superseded"), &json!(newer))
    );
    snapshot("replay-dry-run", &night.says("replay --all --dry-run").await);
    snapshot("replay-without-consent", &night.says("replay --code port-occupied").await);
    snapshot("replay-superseded", &night.says(&format!("replay {}", begins(older))).await);
    snapshot("replay-forced-without-reason", &night.says(&format!("replay {} --force", begins(older))).await);
    assert_eq!((night.open().await, night.records().await, night.sent().await.len()), (2, 0, 0), "nothing was done");

    // Several at once: only what isn't superseded is sent, and it resumes.
    let replayed = night.json("replay --code port-occupied --yes").await;
    assert_eq!(replayed["replayed"][0]["id"], json!(newer));
    assert_eq!((replayed["replayed"].as_array().unwrap().len(), night.open().await), (1, 1));
    let sent = night.sent().await;
    let (id, verdict) = night.taken_in(&sent[0]).await;
    assert_eq!((json!(id), verdict), (replayed["replayed"][0]["deployment_id"].clone(), Accepted::New));
    assert_eq!(night.value(id, "resumes").await, Some(newer.to_string()));

    // By force the older one takes the newer one's place, though its number is smaller, and from the start.
    let forced = night.json(&format!("replay {} --force --from-start --why rollback", begins(older))).await;
    let sent = night.sent().await;
    let (by_force, verdict) = night.taken_in(&sent[1]).await;
    assert_eq!((json!(by_force), verdict), (forced["replayed"][0]["deployment_id"].clone(), Accepted::New));
    assert_eq!(night.value(id, "state").await.as_deref(), Some("superseded"));
    assert_eq!(night.value(by_force, "resumes").await, None);
    // Yet what is newer than all of them still is.
    let next = accept(
        &night.store,
        &request(|event| {
            event["data"]["project"]["slug"] = "shop".into();
            of(3)(event);
        }),
    )
    .await;
    assert_eq!(night.value(by_force, "state").await.as_deref(), Some("superseded"));
    assert_eq!(night.value(next, "state").await.as_deref(), Some("pending"));

    let audit = night.json("audit").await;
    assert_eq!((&audit[0]["why"], &audit[0]["details"]["forced"]), (&json!("rollback"), &json!(true)));
    assert_eq!(audit[0]["details"]["replay_id"], forced["replayed"][0]["replay_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_dead_letter_is_checked_and_goes_out_as_a_new_event_of_the_same_source() {
    let night = Night::new().await;
    let letter = night.failed("shop", ErrorCode::NotListening, |_| {}).await;
    let mut event: Value =
        serde_json::from_slice(&night.store.dead_letter(letter.0).await.unwrap().unwrap().body.unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("edited.json");
    let with = |event: &Value, more: &str| {
        std::fs::write(&file, event.to_string()).unwrap();
        format!("replay {} --with {} {more}", begins(letter), file.display()).trim().to_owned()
    };
    snapshot("edit-without-reason", &night.says(&with(&event, "")).await);
    snapshot("edit-unchanged", &night.says(&with(&event, "--why port")).await);
    event["data"]["allocations"][1]["container_port"] = 0.into();
    snapshot("edit-refused", &night.says(&with(&event, "--why port")).await);
    event["data"]["allocations"][1]["container_port"] = 8080.into();
    let dry = night.json(&with(&event, "--dry-run")).await;
    assert_eq!((&dry["would_replay"], &dry["edited"]["causationid"]), (&json!(1), &event["id"]));
    assert_eq!((night.open().await, night.records().await, night.sent().await.len()), (1, 0, 0), "nothing was done");

    // In an editor, which here is a program that replaces a word.
    let editor = dir.path().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nstat -c %a \"$1\" >\"$0.mode\"\nsed -i 's/\"container_port\": 8[0-9]*/\"container_port\": 9999/' \"$1\"\n")
        .unwrap();
    std::fs::set_permissions(&editor, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = operator(Some(&night.database), None);
    command.env("EDITOR", &editor).env_remove("VISUAL").env("TMPDIR", dir.path());
    command.args(["dead-letters", "replay", &begins(letter), "--edit", "--why", "wrong port", "--json"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(std::fs::read_to_string(dir.path().join("editor.mode")).unwrap(), "600\n");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("slipway-edit")), "{left:?}");

    let sent = night.sent().await;
    let body: Value = serde_json::from_slice(&sent[0].body).unwrap();
    assert_eq!((&body["causationid"], &body["source"]), (&event["id"], &event["source"]));
    assert_ne!(body["id"], event["id"]);
    assert_ne!(body["time"], event["time"], "it happens now: with its old time it might be too old");
    assert_eq!(body["data"]["allocations"][1]["container_port"], 9999);
    assert!(!sent[0].headers.contains_key("slipway-replay-id"), "it's an event, not a replay");
    let (id, verdict) = night.taken_in(&sent[0]).await;
    assert_eq!((json!(id), verdict), (told["replayed"][0]["deployment_id"].clone(), Accepted::New));
    assert_eq!(night.value(id, "resumes").await, None, "other inputs, another journal");
    let audit = night.json("audit").await;
    assert_eq!((&audit[0]["action"], &audit[0]["why"]), (&json!("edit"), &json!("wrong port")));
    // If it fails, too, the letter tells how often it was tried.
    fail(&night.store, ErrorCode::NotListening).await;
    assert_eq!(night.json(&format!("show {id}")).await["replay_count"], 1);
}

/// The commands of the runbook's guide, word by word.
fn guide() -> Vec<Vec<String>> {
    let runbook = include_str!("../../runbook.md");
    let (_, section) = runbook.split_once("## Dead letters: the night guide").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let words = |line: &str| {
        let parts: Vec<&str> = line.split('"').collect();
        let plain = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let quoted = |(i, part): (usize, &&str)| if i % 2 == 1 { vec![(*part).to_owned()] } else { plain(part) };
        parts.iter().enumerate().flat_map(quoted).collect::<Vec<String>>()
    };
    section.lines().filter_map(|line| line.strip_prefix("slipway ")).map(words).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_runbooks_guide_does_what_it_says() {
    let night = Night::new().await;
    let dir = tempfile::tempdir().unwrap();
    let commands = guide();
    assert!(commands.len() > 15, "{commands:?}");
    for command in commands {
        let has = |word: &str| command.iter().any(|w| w == word);
        let id = night.failed("shop", ErrorCode::PortOccupied, |_| {}).await;
        if has("restore") {
            assert!(night.says(&format!("archive {id} --why first")).await.starts_with("exit: 0"));
        }
        let body = night.store.dead_letter(id.0).await.unwrap().unwrap().body.unwrap();
        let file = dir.path().join("edited.json");
        std::fs::write(&file, String::from_utf8(body).unwrap().replace("8000", "8001")).unwrap();
        let real = |word: &String| match word.as_str() {
            "ID" => begins(id),
            "FILE" => file.display().to_string(),
            "DIR" => dir.path().join("out").display().to_string(),
            other => other.to_owned(),
        };
        let mut operator = operator(Some(&night.database), None);
        operator.env("EDITOR", "sed -i s/8000/8001/").env_remove("VISUAL").args(command.iter().map(real));
        let done = tokio::task::spawn_blocking(move || operator.output().unwrap()).await.unwrap();
        assert!(done.status.success(), "{command:?}: {done:?}");
        let state = night.store.dead_letter(id.0).await.unwrap().unwrap().state.as_str();
        let changes = !has("--dry-run") && !has("--max") && !has("--until");
        let expected = match command[1].as_str() {
            "replay" if changes => "replayed",
            "archive" if changes => "archived",
            _ => "open",
        };
        assert_eq!(state, expected, "{command:?}");
    }
    assert_eq!(night.database.count("SELECT count(DISTINCT action) FROM dead_letter_audit").await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_replays_of_one_letter_at_once_one_sends_it() {
    let night = Night::new().await;
    let letter = night.failed("shop", ErrorCode::PortOccupied, |_| {}).await;
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut command = operator(Some(&night.database), None);
        command.args(["dead-letters", "replay", &letter.to_string(), "--json"]);
        runs.spawn_blocking(move || command.output().unwrap());
    }
    let (mut replayed, mut refused) = (0, 0);
    while let Some(output) = runs.join_next().await {
        let output = output.unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        replayed += said["replayed"].as_array().unwrap().len();
        refused += usize::from(said["errors"][0].as_str().is_some_and(|e| e.contains("isn't open any more")));
    }
    assert_eq!((replayed, refused), (1, 7));
    assert_eq!((night.sent().await.len(), night.records().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_replays_need_neither_patience_nor_memory_and_can_be_interrupted() {
    const LETTERS: i64 = 10_000;
    let night = Night::new().await;
    let template = night.failed("shop", ErrorCode::RegistryUnavailable, |_| {}).await;
    // 200 MB of bodies: they would be seen in the memory of whoever took them all.
    let copies = format!(
        "WITH d AS (INSERT INTO deployments (id, source, event_id, project_id, project_slug, server, request, state)
             SELECT gen_random_uuid(), source, 'e-' || i, gen_random_uuid(), 'shop-' || i, server, request, state
             FROM deployments, generate_series(1, {LETTERS} - 1) i WHERE id = '{template}' RETURNING id, project_slug)
         INSERT INTO dead_letters (id, deployment_id, project_slug, body, content_type, headers, reason, stage, code,
             class, message, attempts, original_exchange, original_routing_key, worker)
         SELECT d.id, d.id, d.project_slug, l.body || decode(repeat('20', 20000), 'hex'), content_type, headers, reason,
             stage, code, class, message, attempts, original_exchange, original_routing_key, worker
         FROM d, dead_letters l WHERE l.id = '{template}'"
    );
    night.database.sql.batch_execute(&copies).await.unwrap();
    // An interrupted one: the rest is sent by giving the same command again.
    let first = night.json("replay --code registry-unavailable --max 1200 --rate 2000/s --yes").await;
    assert_eq!(first["replayed"].as_array().unwrap().len(), 1200);
    assert_eq!(night.open().await, LETTERS - 1200);

    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.args(["dead-letters", "replay", "--code", "registry-unavailable", "--yes"]);
    command.env("SLIPWAY_DATABASE_URL", secrecy::ExposeSecret::expose_secret(&night.database.url));
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let (begun, mut child) = (Instant::now(), command.spawn().unwrap());
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let exit = loop {
        let line = std::fs::read_to_string(&status).unwrap_or_default();
        let seen = line.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(seen.unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(exit) => break exit,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let took = begun.elapsed();
    assert!(exit.success() && peak > 0);
    assert!(peak < 100 * 1024 && took < Duration::from_secs(60), "{peak} kB, {took:?}");
    assert_eq!(night.open().await, 0);
    assert_eq!(night.database.count("SELECT count(*) FROM outbox WHERE exchange = 'slipway.requests'").await, LETTERS);
    assert_eq!(
        night.database.count("SELECT count(DISTINCT message_id) FROM outbox WHERE exchange = 'slipway.requests'").await,
        LETTERS
    );
    assert_eq!(night.records().await, LETTERS);
    assert_eq!(
        night.database.count("SELECT count(*) FROM outbox WHERE headers ->> 'slipway-replay-id' = message_id").await,
        LETTERS
    );
}
