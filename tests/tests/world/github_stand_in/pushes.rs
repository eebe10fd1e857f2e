//! What follows a push: the branch's new commit, its workflow runs, and the App's webhooks.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use reqwest::Method;
use serde_json::json;
use slipway_tests::github::{Level, sign};

use crate::github_stand_in::support::{ApiAnswer, SHOP, StandInWorld};

const READERS: [(&str, Level); 2] = [("contents", Level::Read), ("actions", Level::Read)];

#[tokio::test]
async fn a_branch_points_to_its_commit_and_an_unchanged_answer_is_free() -> anyhow::Result<()> {
    let world = StandInWorld::start_with(&READERS)?;
    let sha = world.commit(SHOP, "main", "one")?;
    world.commit(SHOP, "feature/x", "two")?;
    let token = world.token(&json!({})).await?;
    let path = |branch: &str| format!("/repos/{SHOP}/git/ref/heads/{branch}");
    let first = world.get(&path("main"), &token).await?;
    assert_eq!((&first.body["ref"], &first.body["object"]["sha"]), (&json!("refs/heads/main"), &json!(sha)));
    assert_eq!(world.get(&path("feature/x"), &token).await?.body["ref"], "refs/heads/feature/x");
    for absent in ["feature", "mai", "main~1", &sha] {
        world.get(&path(absent), &token).await?.is(404, "Not Found")?;
    }

    let ask = async |token: &str, etag: &str| {
        let request = world.request(Method::GET, &path("main")).bearer_auth(token).header("if-none-match", etag);
        ApiAnswer::read(request.send().await?).await
    };
    let used: u64 = world.get(&path("main"), &token).await?.header("x-ratelimit-used").parse()?;
    let unchanged = ask(&token, first.header("etag")).await?;
    assert_eq!((unchanged.status.as_u16(), unchanged.text.as_str()), (304, ""));
    assert_eq!(unchanged.header("x-ratelimit-used"), used.to_string());
    assert_eq!(ask("no token", first.header("etag")).await?.status, 401);
    world.commit(SHOP, "main", "three")?;
    assert_eq!(ask(&token, first.header("etag")).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn the_runs_of_a_push_are_listed_to_who_may_read_actions() -> anyhow::Result<()> {
    let world = StandInWorld::start_with(&READERS)?;
    let sha = world.commit(SHOP, "main", "one")?;
    world.github.set_webhook("http://127.0.0.1:1/", "a secret");
    let run = world.github.begin_run(SHOP, "CI", "main", &sha);
    world.github.begin_run(SHOP, "CI", "other", &sha);
    let path = format!("/repos/{SHOP}/actions/runs?head_sha={sha}&branch=main&event=push&per_page=30&page=1");
    let token = world.token(&json!({})).await?;
    let listed = world.get(&path, &token).await?.body;
    assert_eq!((&listed["total_count"], &listed["workflow_runs"][0]["status"]), (&json!(1), &json!("in_progress")));
    world.github.end_run(SHOP, run, "success");
    let ended = &world.get(&path, &token).await?.body["workflow_runs"][0];
    assert_eq!((&ended["status"], &ended["conclusion"]), (&json!("completed"), &json!("success")));

    let narrow = world.token(&json!({ "permissions": { "contents": "read" } })).await?;
    let refused = world.get(&path, &narrow).await?;
    refused.is(403, "Resource not accessible by integration")?;
    assert_eq!(refused.header("x-accepted-github-permissions"), "actions=read");
    Ok(())
}

#[test]
fn a_webhook_is_signed_and_comes_again_with_the_same_id_unless_it_is_lost() -> anyhow::Result<()> {
    let world = StandInWorld::start_with(&READERS)?;
    let sha = world.commit(SHOP, "main", "one")?;
    let door = TcpListener::bind("127.0.0.1:0")?;
    world.github.set_webhook(&format!("http://{}/github", door.local_addr()?), "a secret");
    let seen = std::thread::spawn(move || -> anyhow::Result<Vec<String>> {
        let mut seen = Vec::new();
        for status in ["202 Accepted", "503 Service Unavailable"] {
            let (mut stream, _) = door.accept()?;
            let mut text = String::new();
            while !text.ends_with('}') {
                let mut piece = [0; 4096];
                let length = stream.read(&mut piece)?;
                text.push_str(std::str::from_utf8(&piece[..length])?);
            }
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
            seen.push(text);
        }
        Ok(seen)
    });
    let told = world.github.tell_push(SHOP, "main", &sha);
    let again = world.github.redeliver(&told);
    assert_eq!((told.status, again.status), (202, 503));
    assert_eq!((&told.guid, &told.body), (&again.guid, &again.body));
    assert_eq!(told.signature, sign("a secret", &told.body));
    let seen = seen.join().map_err(|_| anyhow::anyhow!("the door panicked"))??;
    for request in seen {
        let lower = request.to_ascii_lowercase();
        assert!(lower.contains(&format!("x-hub-signature-256: {}", told.signature)), "{request}");
        assert!(lower.contains("x-github-event: push") && lower.contains(&told.guid), "{request}");
        assert!(request.ends_with(&told.body) && told.body.contains(&sha), "{request}");
    }
    world.github.lose_webhooks(true);
    assert_eq!(world.github.tell_push(SHOP, "main", &sha).status, 0);
    Ok(())
}
