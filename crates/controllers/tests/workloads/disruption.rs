//! Budgets follow their pods.

use api::k8s::api::apps::v1::Deployment;
use api::k8s::api::policy::v1::PodDisruptionBudget;
use serde_json::json;

use crate::cluster::{Cluster, create, patch, template, until};

#[tokio::test]
async fn a_budget_counts_the_pods_of_a_deployment() {
    let cluster = Cluster::start().await;
    let (budgets, deployments) = (cluster.of::<PodDisruptionBudget>(), cluster.of::<Deployment>());
    let selector = json!({"matchLabels": {"app": "web"}});
    let budget = json!({"metadata": {"name": "web"}, "spec": {"selector": selector, "maxUnavailable": "34%"}});
    create(&budgets, budget).await;
    let counts = |budget: &PodDisruptionBudget| {
        let status = budget.status.clone().unwrap_or_default();
        [
            status.expected_pods,
            status.current_healthy,
            status.desired_healthy,
            status.disruptions_allowed,
        ]
        .map(Option::unwrap_or_default)
    };
    let observed = until(&budgets, "web", |b| {
        b.status.as_ref().is_some_and(|s| s.observed_generation.is_some())
    })
    .await;
    assert_eq!(counts(&observed), [0, 0, 0, 0]);
    let web = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3, "selector": selector, "template": template("web", "one")}});
    create(&deployments, web).await;
    until(&budgets, "web", |budget| counts(budget) == [3, 3, 1, 2]).await;
    patch(&deployments, "web", json!({"spec": {"replicas": 1}})).await;
    until(&budgets, "web", |budget| counts(budget) == [1, 1, 0, 1]).await;
}
