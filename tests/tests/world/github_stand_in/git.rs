//! The git server, asked by the real git client.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use slipway_tests::github::{
    FaultEffect, GitHub, GitHubOptions, Level, NewRepository, NewToken, PlantedFault, StandInServer, TlsFiles,
};

use crate::github_stand_in::support::{OTHER, SHOP, StandInWorld, basic, git};

fn refusal(fetched: anyhow::Result<String>) -> String {
    fetched.map_or_else(|error| error.to_string(), |sha| format!("fetched {sha}"))
}

/// Past the clients that tidy a path up before they send it.
fn raw_status(addr: SocketAddr, target: &str, token: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    let credentials = basic("x-access-token", token);
    write!(stream, "GET {target} HTTP/1.1\r\nHost: github.com\r\n{credentials}\r\nConnection: close\r\n\r\n")?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status)?;
    Ok(status)
}

#[tokio::test]
async fn an_exact_commit_is_fetched_with_a_token_and_not_without() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let first = world.commit(SHOP, "main", "one")?;
    world.commit(SHOP, "main", "two")?;
    let token = world.token(&json!({ "repositories": ["Shop.Front"] })).await?;

    assert_eq!(world.fetch(SHOP, &first, Some(("x-access-token", &token)))?, first);
    let refused = refusal(world.fetch(SHOP, &first, None));
    assert!(refused.contains("could not read Username"), "{refused}");
    assert!(world.fetch(SHOP, &first, Some(("x-access-token", "ghs_forged"))).is_err());

    let log = world.github.git_requests();
    let exchange = log.iter().find(|request| request.exchange).map(|request| (request.status, request.caller.clone()));
    assert_eq!(exchange, Some((200, format!("installation {}", world.installation))));
    let refused: Vec<_> = log.iter().filter(|request| request.status == 401).map(|one| one.caller.as_str()).collect();
    assert_eq!(refused, ["anonymous", "refused"]);
    assert!(!format!("{log:?}").contains(&token));
    Ok(())
}

#[tokio::test]
async fn a_commit_that_no_branch_reaches_by_its_tip_is_fetched_by_the_old_protocol_too() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let first = world.commit(SHOP, "main", "one")?;
    world.commit(SHOP, "main", "two")?;
    let token = world.token(&json!({})).await?;
    let clone = world.empty_clone("old-protocol")?;
    let header = format!("http.extraHeader={}", basic("x-access-token", &token));
    let url = world.git_url(SHOP);
    world.git(&clone, &["-c", "protocol.version=0", "-c", &header, "fetch", "--depth", "1", &url, &first])?;
    assert_eq!(world.git(&clone, &["rev-parse", "FETCH_HEAD"])?, first);
    Ok(())
}

#[tokio::test]
async fn a_request_so_long_that_git_packs_it_is_understood() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    world.commit(SHOP, "main", "one")?;
    let work = world.directory.path().join("work").join(SHOP);
    // A want for each takes 50 bytes, and git packs what is longer than 1024.
    for number in 0..30 {
        world.git(&work, &["commit", "--quiet", "--allow-empty", "--message", &number.to_string()])?;
        world.git(&work, &["branch", &format!("branch-{number}")])?;
    }
    let bare = world.directory.path().join("repositories").join(format!("{SHOP}.git"));
    world.git(&work, &["push", "--quiet", "--all", &bare.display().to_string()])?;

    let token = world.token(&json!({})).await?;
    let header = format!("http.extraHeader={}", basic("x-access-token", &token));
    let clone = world.empty_clone("packed")?;
    let url = world.git_url(SHOP);
    world.git(&clone, &["-c", &header, "fetch", "--quiet", &url, "+refs/heads/*:refs/remotes/origin/*"])?;
    assert_eq!(world.git(&clone, &["branch", "--remotes"])?.lines().count(), 31);
    Ok(())
}

#[tokio::test]
async fn the_token_may_stand_at_either_place_of_the_credentials() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let sha = world.commit(SHOP, "main", "one")?;
    let token = world.github.add_token(&NewToken::classic(&["repo"]));
    for (user, password) in [("anybody", token.as_str()), (&token, ""), (&token, "x-oauth-basic")] {
        assert_eq!(world.fetch(SHOP, &sha, Some((user, password)))?, sha);
    }
    Ok(())
}

#[tokio::test]
async fn paths_work_with_and_without_dot_git_and_in_any_case_and_lead_nowhere_else() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let sha = world.commit(SHOP, "main", "one")?;
    let token = world.token(&json!({})).await?;
    for name in ["acme/Shop.Front", "acme/Shop.Front.git", "ACME/shop.front"] {
        assert_eq!(world.fetch(name, &sha, Some(("x-access-token", &token)))?, sha, "{name}");
    }
    for path in [
        "/../acme/other/info/refs",
        "/acme/../other/info/refs",
        "/acme/..%2fother/info/refs",
        "/acme/%2e%2e/info/refs",
        "//acme/other/info/refs",
        "/acme/other/HEAD",
    ] {
        let status = raw_status(world.github.git_addr(), &format!("{path}?service=git-upload-pack"), &token)?;
        assert!(status.starts_with("HTTP/1.1 404 "), "{path}: {status}");
    }
    Ok(())
}

#[tokio::test]
async fn a_token_without_access_is_told_that_there_is_no_repository() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let sha = world.commit(SHOP, "main", "one")?;
    let token = world.token(&json!({ "repositories": ["other"] })).await?;
    let refused = refusal(world.fetch(SHOP, &sha, Some(("x-access-token", &token))));
    assert!(refused.contains("remote: Repository not found."), "{refused}");
    Ok(())
}

#[tokio::test]
async fn an_expired_or_suspended_or_revoked_token_fetches_nothing() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let sha = world.commit(SHOP, "main", "one")?;
    let token = world.token(&json!({})).await?;
    let fetch = || world.fetch(SHOP, &sha, Some(("x-access-token", &token)));
    let last_status = || world.github.git_requests().last().map(|request| request.status);
    assert!(fetch().is_ok());

    world.github.set_clock_offset(3601);
    assert!(fetch().is_err());
    assert_eq!(last_status(), Some(401));
    world.github.set_clock_offset(0);
    world.github.suspend_installation(world.installation, true);
    assert!(fetch().is_err());
    assert_eq!(last_status(), Some(403));
    world.github.suspend_installation(world.installation, false);
    assert!(fetch().is_ok());
    world.github.revoke(&token);
    assert!(fetch().is_err());
    assert_eq!(last_status(), Some(401));
    Ok(())
}

#[tokio::test]
async fn pushing_needs_write_and_a_repository_that_is_not_archived() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    world.commit(OTHER, "main", "one")?;
    let work = world.directory.path().join("work").join(OTHER);
    // Large enough that git sends the pack in chunks.
    std::fs::write(
        work.join("large"),
        (0..400_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect::<String>(),
    )?;
    world.git(&work, &["add", "large"])?;
    world.git(&work, &["commit", "--quiet", "--message", "large"])?;
    let push = |token: &str| {
        let header = format!("http.extraHeader={}", basic("x-access-token", token));
        git(&work, &["-c", &header, "push", &world.git_url(OTHER), "main"])
    };

    let reader = push(&world.token(&json!({})).await?)?;
    assert!(String::from_utf8_lossy(&reader.stderr).contains("Write access to repository not granted."));
    let writer = world.github.add_token(&NewToken::fine_grained(&[OTHER], &[("contents", Level::Write)]));
    world.github.archive(OTHER, true);
    assert!(
        String::from_utf8_lossy(&push(&writer)?.stderr).contains("This repository was archived so it is read-only.")
    );
    world.github.archive(OTHER, false);
    let pushed = push(&writer)?;
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    Ok(())
}

#[tokio::test]
async fn a_public_repository_is_fetched_by_anybody_and_a_renamed_one_is_found() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    world.github.add_repository("acme", "public", &NewRepository { private: false, ..NewRepository::default() })?;
    let sha = world.commit("acme/public", "main", "one")?;
    assert_eq!(world.fetch("acme/public", &sha, None)?, sha);
    world.github.rename("acme/public", "published")?;
    assert_eq!(world.fetch("acme/public", &sha, None)?, sha);
    Ok(())
}

#[tokio::test]
async fn the_git_server_can_be_down_or_break_off() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let sha = world.commit(SHOP, "main", "one")?;
    let token = world.token(&json!({})).await?;
    let fetch = || world.fetch(SHOP, &sha, Some(("x-access-token", &token)));
    let exchange = format!("/{SHOP}/git-upload-pack");
    for (path, effect) in [
        ("/acme", FaultEffect::Status(500)),
        ("/acme", FaultEffect::Cut),
        ("/acme", FaultEffect::CutBody(20)),
        (exchange.as_str(), FaultEffect::CutBody(40)),
        (exchange.as_str(), FaultEffect::LostAnswer),
    ] {
        world.github.plant(PlantedFault::next(StandInServer::Git, path, effect.clone()).times(8));
        assert!(fetch().is_err(), "{effect:?}");
        world.github.clear_faults();
    }
    world.github.plant(PlantedFault::next(StandInServer::Git, "/acme", FaultEffect::Slow(Duration::from_millis(200))));
    assert_eq!(fetch()?, sha);
    Ok(())
}

#[tokio::test]
async fn both_servers_speak_tls() -> anyhow::Result<()> {
    let directory = tempfile::TempDir::new()?;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let tls = TlsFiles { certificate: directory.path().join("cert.pem"), key: directory.path().join("key.pem") };
    std::fs::write(&tls.certificate, made.cert.pem())?;
    std::fs::write(&tls.key, made.signing_key.serialize_pem())?;
    let certificate = tls.certificate.display().to_string();
    let options = GitHubOptions { tls: Some(tls), ..GitHubOptions::loopback(directory.path().join("repositories"))? };
    let github = GitHub::start(options)?;
    github.add_repository("acme", "public", &NewRepository { private: false, ..NewRepository::default() })?;

    let url = format!("https://localhost:{}/acme/public", github.git_addr().port());
    let ca = format!("http.sslCAInfo={certificate}");
    let listed = git(directory.path(), &["-c", &ca, "ls-remote", &url])?;
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));

    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes())?;
    let client = reqwest::Client::builder().tls_certs_only([root]).user_agent("slipway-tests").build()?;
    let url = format!("https://localhost:{}/repos/acme/public", github.api_addr().port());
    assert_eq!(client.get(url).send().await?.status(), StatusCode::OK);
    Ok(())
}
