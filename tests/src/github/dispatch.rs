//! From an admitted request to its endpoint.
//!
//! Deliberately not here: who is admitted; `gate` decides that.

use std::net::IpAddr;

use super::apps::TokenForm;
use super::caller::Caller;
use super::error::{ApiError, Reply, parse_body};
use super::references::{self, Found};
use super::request::ApiRequest;
use super::route::{Endpoint, Route};
use super::secrets::ListPage;
use super::shared::SharedGithub;

pub(super) async fn dispatch(
    shared: &SharedGithub,
    asked: &ApiRequest,
    caller: &Caller,
    peer: IpAddr,
    route: Route,
) -> Result<Reply, ApiError> {
    let body = parse_body(&asked.body);
    let (repo, endpoint) = match route {
        Route::App => return shared.state().get_app(caller),
        Route::RevokeToken => return shared.state().revoke_token(caller),
        Route::CreateToken { installation } => {
            let form = match asked.header("x-github-stateless-s2s-token") {
                Some("disabled") => TokenForm::Opaque,
                _ => TokenForm::Stateless,
            };
            return shared.state().create_token(caller, installation, &body?, form);
        }
        Route::Repo { repo, endpoint } => (repo, endpoint),
    };
    shared.state().check_policy(caller, &repo, peer)?;
    let host = asked.header("host").unwrap_or("api.github.com");
    let base = format!("{}://{host}", shared.scheme);
    let path = asked.uri.path();
    if let Some(redirect) = shared.state().redirect(caller, &asked.method, &repo, &base, path) {
        return Ok(redirect);
    }
    // git runs before the lock is taken; whether the caller may see what it found is decided after.
    let found = match (&endpoint, &body) {
        (Endpoint::Commit { reference }, _) => references::find(shared, &repo, reference).await,
        (Endpoint::Reference { reference }, _) => references::find(shared, &repo, &format!("refs/{reference}")).await,
        (Endpoint::CreateDeployment, Ok(body)) => match body["ref"].as_str() {
            Some(reference) => references::find(shared, &repo, reference).await,
            None => Found::default(),
        },
        _ => Found::default(),
    };

    let query = asked.query();
    let mut state = shared.state();
    let Some(needs) = endpoint.needs() else {
        return state.get_installation(caller, &repo);
    };
    match endpoint {
        Endpoint::Installation => state.get_installation(caller, &repo),
        Endpoint::Get => state.get_repository(caller, &repo, needs),
        Endpoint::Commit { reference } => state.get_commit(caller, &repo, needs, &reference, found.sha.as_deref()),
        Endpoint::Reference { reference } => {
            state.get_reference(caller, &repo, needs, &reference, found.sha.as_deref())
        }
        Endpoint::ListRuns => state.list_runs(caller, &repo, needs, query),
        Endpoint::PublicKey => state.public_key(caller, &repo, needs),
        Endpoint::ListSecrets => {
            state.list_secrets(caller, &repo, needs, ListPage::of(query), &format!("{base}{path}"))
        }
        Endpoint::GetSecret { name } => state.get_secret(caller, &repo, needs, &name),
        Endpoint::PutSecret { name } => state.put_secret(caller, &repo, needs, &name, &body?),
        Endpoint::DeleteSecret { name } => state.delete_secret(caller, &repo, needs, &name),
        Endpoint::ListDeployments => state.list_deployments(caller, &repo, needs, query),
        Endpoint::CreateDeployment => state.create_deployment(caller, &repo, needs, &body?, found),
        Endpoint::GetDeployment { id } => state.get_deployment(caller, &repo, needs, id),
        Endpoint::ListStatuses { id } => state.list_statuses(caller, &repo, needs, id, query),
        Endpoint::CreateStatus { id } => state.create_status(caller, &repo, needs, id, &body?),
    }
}
