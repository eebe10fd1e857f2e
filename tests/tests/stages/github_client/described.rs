//! What is asked of GitHub and what the stand-in answers, both held against GitHub's own published description: a client that
//! asks for what isn't there, or a stand-in that leaves something out, fails here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use jsonschema::Draft;
use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_deploy::github::{GithubDeploymentState, PushRuns};
use slipway_protocol::DeploymentId;
use slipway_protocol::names::BranchName;
use slipway_tests::github::{KeptExchange, Level, NewToken, OrganizationPolicy};
use slipway_tests::world::Cache;

use crate::github_client::support::{ClientWorld, SHOP, put, shop};

/// As `tests/prepare` has made it of what GitHub publishes.
#[derive(Deserialize)]
struct Description {
    endpoints: BTreeMap<String, DescribedEndpoint>,
    definitions: Value,
}

#[derive(Deserialize)]
struct DescribedEndpoint {
    query: BTreeSet<String>,
    request: Option<Value>,
    responses: BTreeMap<String, Option<Value>>,
}

impl Description {
    fn read() -> anyhow::Result<Self> {
        let file = Cache::open()?.part("github-api").join("description.json");
        Ok(serde_json::from_slice(&std::fs::read(file)?)?)
    }

    /// The endpoint; a path by a repository's number is one by its name.
    fn find(&self, exchange: &KeptExchange) -> anyhow::Result<(&str, &DescribedEndpoint)> {
        let path = match exchange.path.strip_prefix("/repositories/") {
            Some(rest) => format!("/repos/of/number{}", rest.trim_start_matches(|c: char| c.is_ascii_digit())),
            None => exchange.path.clone(),
        };
        let fits = |name: &&String| {
            let Some((method, template)) = name.split_once(' ') else { return false };
            let (wanted, given): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
            // A reference may hold slashes.
            let length = wanted.len() == given.len() || (wanted.last() == Some(&"{ref}") && wanted.len() < given.len());
            let same = wanted.iter().zip(&given).all(|(wanted, given)| wanted.starts_with('{') || wanted == given);
            method == exchange.method && length && same
        };
        let mut fitting: Vec<&String> = self.endpoints.keys().filter(fits).collect();
        fitting.sort_by_key(|name| name.matches('{').count());
        let name = fitting.first().with_context(|| format!("GitHub describes no {} {path}", exchange.method))?;
        Ok((name, &self.endpoints[*name]))
    }

    fn check(&self, what: &str, schema: &Value, value: &Value) -> anyhow::Result<()> {
        let whole = json!({ "allOf": [schema], "definitions": self.definitions });
        // Of a URL that nobody gave GitHub says "", by its own description the default.
        let uri = |text: &str| text.is_empty() || text.contains("://");
        let options =
            jsonschema::options().with_draft(Draft::Draft4).should_validate_formats(true).with_format("uri", uri);
        let validator = options.build(&whole).map_err(|error| anyhow::anyhow!("{what}: {error}"))?;
        let found: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{} at {}", error, error.instance_path())).collect();
        ensure!(found.is_empty(), "{what}: {}\n{value:#}", found.join("; "));
        Ok(())
    }

    /// Holds both halves against the description; gives the endpoint and whether it succeeded.
    fn check_exchange(&self, exchange: &KeptExchange) -> anyhow::Result<(String, bool)> {
        let (name, endpoint) = self.find(exchange)?;
        for parameter in exchange.query.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name) {
            ensure!(endpoint.query.contains(parameter), "{name} has no query parameter {parameter}");
        }
        let (status, succeeded) = (exchange.status.to_string(), (200..300).contains(&exchange.status));
        if succeeded {
            match &endpoint.request {
                Some(schema) => {
                    self.check(&format!("the request {name}"), schema, &exchange.request)?;
                    let known = schema["properties"].as_object().context("properties")?;
                    let asked = exchange.request.as_object().context("a body")?;
                    let strange: Vec<_> = asked.keys().filter(|key| !known.contains_key(*key)).collect();
                    ensure!(strange.is_empty(), "the request {name} has {strange:?}");
                }
                None => ensure!(exchange.request.is_null(), "{name} takes no body"),
            }
        }
        let what = format!("the answer {status} to {name}");
        match (endpoint.responses.get(&status), succeeded) {
            (Some(Some(schema)), _) => self.check(&what, schema, &exchange.response)?,
            (Some(None), true) => ensure!(exchange.response.is_null(), "{what} has no body: {:#}", exchange.response),
            (None, true) => anyhow::bail!("GitHub describes no {what}"),
            // Not every refusal is listed at every endpoint, but all look the same.
            (_, false) => {
                self.check(&what, &json!({ "$ref": "#/definitions/basic-error" }), &exchange.response)?;
                ensure!(exchange.response["message"].is_string(), "{what} says nothing");
            }
        }
        Ok((name.to_owned(), succeeded))
    }
}

/// All that Slipway's client asks.
async fn ask_as_slipway(world: &ClientWorld) -> anyhow::Result<()> {
    let client = world.client(world.app())?;
    let (shop, main, commit) = (shop(), BranchName::new("main")?, world.push("main")?);
    put(&client, &[("A", "1"), ("B", "2")], &mut BTreeMap::new()).await?;
    put(&client, &[("A", "2")], &mut BTreeMap::new()).await?;
    ensure!(client.branch_head(&shop, &main, None).await?.is_some_and(|head| head.commit == commit));
    let run = world.github.begin_run(SHOP, "CI", "main", commit.as_str());
    ensure!(client.push_runs(&shop, &main, &commit).await? == PushRuns::Unfinished(1));
    world.github.hold_run(SHOP, run);
    ensure!(client.push_runs(&shop, &main, &commit).await? == PushRuns::Held { workflow: "CI".to_owned() });
    world.github.conclude_run(SHOP, run, "success");
    ensure!(client.push_runs(&shop, &main, &commit).await? == PushRuns::Succeeded);
    let id = DeploymentId(uuid::Uuid::new_v4());
    let number = client.create_deployment(&shop, &commit, "vps-1", id, true).await?;
    for state in [GithubDeploymentState::InProgress, GithubDeploymentState::Success] {
        client.add_deployment_status(&shop, number, state, "at it", Some("http://192.0.2.1:8080")).await?;
    }
    ensure!(client.present_name(&shop).await? == shop);
    // Refusals look as described as well.
    world.github.suspend_installation(world.installation, true);
    ensure!(put(&client, &[("A", "3")], &mut BTreeMap::new()).await.is_err());
    world.github.suspend_installation(world.installation, false);
    world.github.set_policy("acme", Some(OrganizationPolicy::IpAllowList(Vec::new())));
    ensure!(put(&client, &[("A", "4")], &mut BTreeMap::new()).await.is_err());
    world.github.set_policy("acme", None);
    Ok(())
}

/// What the stand-in has beyond that, by hand.
async fn ask_the_rest(world: &ClientWorld) -> anyhow::Result<()> {
    let (http, base) = (Client::new(), format!("http://{}", world.github.api_addr()));
    let token = world.github.add_token(&NewToken::classic(&["repo"]));
    let number = world.github.deployments(SHOP)[0].id;
    let repository = format!("/repos/{SHOP}");
    for (method, path, status) in [
        (Method::GET, repository.clone(), 200),
        (Method::GET, format!("{repository}/commits/main"), 200),
        (Method::GET, format!("{repository}/commits/nowhere"), 422),
        (Method::GET, format!("{repository}/actions/secrets"), 200),
        (Method::GET, format!("{repository}/actions/secrets/A"), 200),
        (Method::DELETE, format!("{repository}/actions/secrets/A"), 204),
        (Method::DELETE, format!("{repository}/actions/secrets/A"), 404),
        (Method::GET, format!("{repository}/deployments/{number}"), 200),
        (Method::GET, format!("{repository}/deployments/{number}/statuses"), 200),
        (Method::DELETE, "/installation/token".to_owned(), 403),
    ] {
        let request = http.request(method, format!("{base}{path}")).bearer_auth(&token);
        ensure!(request.header("user-agent", "tests").send().await?.status() == status, "{path}");
    }
    let installed = world.github.installation_tokens().pop().context("a token")?;
    let request = http.delete(format!("{base}/installation/token")).bearer_auth(installed);
    ensure!(request.header("user-agent", "tests").send().await?.status() == 204);
    let app = http.get(format!("{base}/app")).bearer_auth(world.web_token()?).header("user-agent", "tests");
    ensure!(app.send().await?.status() == 200);
    world.github.rename(SHOP, "New.Shop")?;
    let client = world.client(world.app())?;
    ensure!(client.present_name(&shop()).await?.as_str() == "acme/New.Shop");
    Ok(())
}

#[tokio::test]
async fn all_that_is_asked_and_answered_is_as_github_describes_it() -> anyhow::Result<()> {
    let description = Description::read()?;
    let world = ClientWorld::start_granting(&[
        ("contents", Level::Read),
        ("secrets", Level::Write),
        ("deployments", Level::Write),
        ("actions", Level::Read),
    ])?;
    world.github.keep_exchanges();
    ask_as_slipway(&world).await?;
    ask_the_rest(&world).await?;
    let mut seen = BTreeSet::new();
    for exchange in world.github.exchanges() {
        let (endpoint, succeeded) = description.check_exchange(&exchange)?;
        seen.extend(succeeded.then_some(endpoint));
    }
    let all: BTreeSet<_> = description.endpoints.keys().cloned().collect();
    ensure!(seen == all, "never succeeded: {:?}", all.difference(&seen));
    Ok(())
}
