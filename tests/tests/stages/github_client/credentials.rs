//! Credentials that change while the process runs, clocks that differ, and repositories that get another name.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use slipway_deploy::{CredentialSource, GithubCredential};
use slipway_protocol::ErrorCode;
use slipway_tests::github::{NewToken, OrganizationPolicy};

use crate::github_client::support::{ClientWorld, GRANTED, SHOP, put, shop};

/// As a secret's mount is replaced: at once, by another file.
fn replace(path: &Path, content: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, content)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    Ok(std::fs::rename(new, path)?)
}

#[tokio::test]
async fn a_worker_whose_clock_is_off_goes_by_githubs_own() -> anyhow::Result<()> {
    // GitHub's clock behind ours by more than a web token is dated back, ahead by more than one lives, and by hours.
    for offset in [-70, -7200, 65, 700, 7200] {
        let world = ClientWorld::start()?;
        world.github.set_clock_offset(offset);
        let client = world.client(world.app())?;
        for value in ["1", "2"] {
            put(&client, &[("KEY", value)], &mut BTreeMap::new()).await.context(offset.to_string())?;
        }
        ensure!(world.github.tokens_minted() == 1, "{offset}: a token that works is kept");
        let refused = world.github.requests().iter().filter(|request| request.status == 401).count();
        ensure!(refused <= 1, "{offset}: refused {refused} times");
        // It ends by GitHub's clock, too: one of ten seconds more isn't used.
        world.github.set_clock_offset(offset + 3590);
        ensure!(client.branch_head(&shop(), &"main".parse()?, None).await.is_err(), "there is no branch");
        put(&client, &[("KEY", "3")], &mut BTreeMap::new()).await.context(offset.to_string())?;
        ensure!(world.github.tokens_minted() == 3, "{offset}: {}", world.github.tokens_minted());
    }
    Ok(())
}

#[tokio::test]
async fn a_token_in_a_file_is_read_anew_and_what_cannot_be_read_is_told() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let file = world.directory.path().join("token");
    let first = world.github.add_token(&NewToken::classic(&["repo"]));
    replace(&file, &format!("{first}\n"))?;
    let client = world.client(GithubCredential::Token(CredentialSource::File(file.clone())))?;
    put(&client, &[("KEY", "1")], &mut BTreeMap::new()).await?;

    let second = world.github.add_token(&NewToken::classic(&["repo"]));
    world.github.revoke(&first);
    let error = put(&client, &[("KEY", "2")], &mut BTreeMap::new()).await.err().context("revoked")?;
    assert_eq!(error.code, ErrorCode::GithubCredentialRefused, "{error}");
    replace(&file, &second)?;
    put(&client, &[("KEY", "2")], &mut BTreeMap::new()).await?;

    for broken in ["", " \n"] {
        replace(&file, broken)?;
        let asked = world.github.requests().len();
        let error =
            put(&client, &[("KEY", "3")], &mut BTreeMap::new()).await.err().context("nothing to log in with")?;
        assert_eq!(error.code, ErrorCode::GithubCredentialUnusable, "{error}");
        assert_eq!(world.github.requests().len(), asked, "the old one isn't used in silence");
    }
    std::fs::remove_file(&file)?;
    let error = put(&client, &[("KEY", "3")], &mut BTreeMap::new()).await.err().context("no file")?;
    assert_eq!(error.code, ErrorCode::GithubCredentialUnusable);
    ensure!(error.message.contains(&file.display().to_string()) && !error.message.contains(&second), "{error}");
    replace(&file, &second)?;
    put(&client, &[("KEY", "3")], &mut BTreeMap::new()).await?;
    Ok(())
}

#[tokio::test]
async fn an_apps_key_in_a_file_is_read_anew_with_a_token_in_hand() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let file = world.directory.path().join("app.pem");
    replace(&file, world.github.app_private_key_pem())?;
    let private_key = CredentialSource::File(file.clone());
    let client = world.client(GithubCredential::App { id: world.github.app_id().to_string(), private_key })?;
    put(&client, &[("KEY", "1")], &mut BTreeMap::new()).await?;
    // The token of before still works; whoever took the key away meant that nothing does.
    for (content, mode) in [("no key", 0o600), (world.github.app_private_key_pem(), 0o644)] {
        replace(&file, content)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode))?;
        let error = put(&client, &[("KEY", "2")], &mut BTreeMap::new()).await.err().context("a broken key")?;
        assert_eq!(error.code, ErrorCode::GithubCredentialUnusable, "{error}");
    }
    replace(&file, world.github.app_private_key_pem())?;
    put(&client, &[("KEY", "2")], &mut BTreeMap::new()).await?;
    assert_eq!(world.github.tokens_minted(), 2, "what the old key got isn't used any more");
    Ok(())
}

#[tokio::test]
async fn a_key_that_was_read_ahead_and_has_changed_since_is_read_again() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let client = world.client(world.app())?;
    client.read_key_ahead(&shop()).await;
    world.github.rotate_public_key(SHOP);
    put(&client, &[("KEY", "1")], &mut BTreeMap::new()).await?;
    assert_eq!(world.github.secrets(SHOP)["KEY"], "1");
    Ok(())
}

#[tokio::test]
async fn a_full_repository_still_takes_what_it_has_already() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    (0..100).for_each(|at| world.github.set_secret(SHOP, &format!("S{at}"), "x"));
    put(&world.client(world.app())?, &[("S7", "y")], &mut BTreeMap::new()).await?;
    assert_eq!(world.github.secrets(SHOP)["S7"], "y");
    Ok(())
}

#[tokio::test]
async fn a_transferred_repository_is_the_same_one_where_the_app_is_installed() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    world.github.transfer(SHOP, "umbrella")?;
    let client = world.client(world.app())?;
    let error = put(&client, &[("KEY", "1")], &mut BTreeMap::new()).await.err().context("not installed there")?;
    assert_eq!(error.code, ErrorCode::GithubNotInstalled, "{error}");
    world.github.install_app("umbrella", &["umbrella/Shop.Front"], &GRANTED);
    put(&client, &[("KEY", "1")], &mut BTreeMap::new()).await?;
    assert_eq!(world.github.secrets("umbrella/Shop.Front")["KEY"], "1");
    assert_eq!(client.present_name(&shop()).await?.as_str(), "umbrella/Shop.Front");
    Ok(())
}

#[tokio::test]
async fn single_sign_on_asks_nothing_of_the_app() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    world.github.set_policy("acme", Some(OrganizationPolicy::SingleSignOn));
    put(&world.client(world.app())?, &[("KEY", "1")], &mut BTreeMap::new()).await?;
    Ok(())
}
