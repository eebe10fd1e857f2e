//! Whatever compose's view of a project holds, the override file stays one.
#![expect(clippy::expect_used, reason = "tests")]

use slipway_protocol::names::ServiceName;
use slipway_protocol::{DeploymentId, ProjectReady};

use super::compose::{ServiceVariables, render_override};
use super::labels::deployment_of;
use super::limits::DefaultsInForce;
use super::model::ComposeProject;
use crate::ProjectLimits;

#[test]
fn fuzzed_models_give_no_service_a_name_that_others_made_up() {
    let model = br#"{"name": "shop", "services": {"backend": {"image": "a:b", "profiles": ["x"], "restart": "no",
        "deploy": {"restart_policy": {"condition": "any"}}, "volumes": [{"type": "bind", "source": "/x/y", "target": "/y"}],
        "depends_on": {"db": {"condition": "service_completed_successfully"}}, "environment": {"A": "b", "C": null}},
        "db": {"image": "postgres:16", "environment": {"POSTGRES_DB": null, "SLIPWAY_READS_ENV": "1"}}}}"#;
    let sample = include_str!("../../../protocol/samples/project-ready.v1.json");
    let event: serde_json::Value = serde_json::from_str(sample).expect("a sample");
    let request: ProjectReady = serde_json::from_value(event["data"].clone()).expect("a request");
    let deployment = DeploymentId(uuid::Uuid::nil());
    let set = ProjectLimits::DEFAULT.containers;
    let defaults = DefaultsInForce::anew(set);
    slipway_protocol::fuzz::run("compose models", &[model], |input| {
        let Ok(project) = ComposeProject::parse(input) else { return };
        let project = project.with_mounted([("/x/y".to_owned(), "0f".to_owned())].into());
        let _ = project.check(&request);
        let text = render_override(&request, &project, &ServiceVariables::new(), deployment, &defaults);
        let names = text.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
        for name in names {
            let name = name.strip_suffix(':').expect("a service");
            assert!(ServiceName::new(name).is_ok() && project.has(name), "{name}");
        }
        assert_eq!(deployment_of(&text).is_some(), text.contains("slipway.deployment: "));
    });
}
