//! The workflow runs of a push: of one without any, whether others on its branch had some is what matters.

use serde_json::json;
use slipway_deploy::github::PushRuns;
use slipway_protocol::names::{BranchName, CommitSha};
use wiremock::matchers::{method, path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{shop, token_client};

/// GitHub with `of_branch` runs on the branch, none of them the commit's.
async fn runs(of_branch: u32) -> PushRuns {
    let server = MockServer::start().await;
    let (branch, commit) = (BranchName::new("main").unwrap(), CommitSha::new("b".repeat(40)).unwrap());
    let asked = || {
        Mock::given(method("GET"))
            .and(path("/repos/acme/Shop.api/actions/runs"))
            .and(query_param("branch", "main"))
            .and(query_param("event", "push"))
    };
    let none = ResponseTemplate::new(200).set_body_json(json!({ "total_count": 0, "workflow_runs": [] }));
    asked().and(query_param("head_sha", commit.as_str())).respond_with(none).expect(1).mount(&server).await;
    let newest = json!({ "name": "CI", "status": "completed", "conclusion": "failure" });
    let listed: Vec<_> = std::iter::repeat_n(newest, of_branch.min(1) as usize).collect();
    let all = ResponseTemplate::new(200).set_body_json(json!({ "total_count": of_branch, "workflow_runs": listed }));
    let asked_for_any = asked().and(query_param_is_missing("head_sha")).and(query_param("per_page", "1"));
    asked_for_any.respond_with(all).expect(1).mount(&server).await;
    token_client(&server).push_runs(&shop(), &branch, &commit).await.unwrap()
}

#[tokio::test]
async fn a_push_without_runs_is_told_apart_from_one_to_a_branch_without_any() {
    assert_eq!(runs(0).await, PushRuns::None);
    assert_eq!(runs(40).await, PushRuns::NoneStarted);
}
