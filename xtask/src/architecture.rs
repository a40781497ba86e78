//! The arrows between the crates: who may depend on whom, and what a crate that only decides must never link.

use crate::shell;
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Each crate and the crates of ours it may depend on. Nothing else is allowed; `steadfast` may use all.
const ARROWS: &[(&str, &[&str])] = &[
    ("ambient", &[]),
    ("cel", &[]),
    ("api", &["cel"]),
    ("controllers-plan", &["api"]),
    ("scheduler-plan", &["api"]),
    ("node-plan", &["api"]),
    ("store", &[]),
    ("store-embedded", &["store"]),
    ("store-etcd", &["store"]),
    ("leader-election", &[]),
    ("remotecommand", &[]),
    ("apiserver", &["ambient", "api", "store", "remotecommand"]),
    ("cri", &[]),
    ("csi", &[]),
    ("mountinfo", &[]),
    ("csi-local", &["csi", "mountinfo"]),
    ("csi-provisioner", &["api", "csi"]),
    ("oci", &[]),
    ("runtime", &["cri", "remotecommand"]),
    ("controllers", &["ambient", "api", "controllers-plan"]),
    ("scheduler", &["ambient", "api", "scheduler-plan"]),
    (
        "node",
        &["api", "node-plan", "cri", "csi", "mountinfo", "remotecommand"],
    ),
    ("service-watch", &["api"]),
    ("dns", &["api", "service-watch"]),
    ("proxy", &["api", "service-watch"]),
    (
        "sim",
        &["ambient", "api", "apiserver", "controllers", "scheduler", "store"],
    ),
    ("test-authority", &[]),
    ("conformance", &[]),
    ("bench", &[]),
    ("fuzz", &["api", "cel", "dns"]),
    ("xtask", &["conformance"]),
];

/// Crates that decide and cannot act.
const PURE: &[&str] = &["cel", "api", "controllers-plan", "scheduler-plan", "node-plan"];

/// What a crate that decides must not link, directly or through others.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "nix",
    "rustix",
    "kube-client",
    "reqwest",
    "rand",
    "getrandom",
    "mio",
    "socket2",
];

/// Fails with every wrong arrow.
///
/// # Errors
/// What is wrong, or that cargo failed.
pub(crate) fn check() -> anyhow::Result<()> {
    let text = shell::output(shell::cargo().args(["metadata", "--format-version=1", "--locked"]))?;
    let wrong = wrong_arrows(&serde_json::from_str(&text)?)?;
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("wrong arrows between crates:\n  {}", wrong.join("\n  "))
}

fn wrong_arrows(metadata: &Value) -> anyhow::Result<Vec<String>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> = list(&metadata["packages"])
        .iter()
        .map(|p| (text(&p["id"]), text(&p["name"])))
        .collect();
    let ours: BTreeSet<String> = list(&metadata["workspace_members"])
        .iter()
        .map(|id| names[&text(id)].clone())
        .collect();
    // Only what the product links counts: dependencies of kind null (normal), not those of tests and build scripts.
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let linked = list(&node["deps"])
            .into_iter()
            .filter(|d| list(&d["dep_kinds"]).iter().any(|k| k["kind"].is_null()));
        let targets = linked.map(|d| names[&text(&d["pkg"])].clone());
        edges
            .entry(names[&text(&node["id"])].clone())
            .or_default()
            .extend(targets);
    }
    let mut wrong = Vec::new();
    for name in ours.iter().filter(|name| *name != "steadfast") {
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| from == name) else {
            wrong.push(format!("{name} has no row in xtask/src/architecture.rs"));
            continue;
        };
        let direct = edges.get(name).context("a member without a node")?;
        wrong.extend(
            direct
                .iter()
                .filter(|to| ours.contains(*to) && !allowed.contains(&to.as_str()))
                .map(|to| format!("{name} -> {to}")),
        );
        if PURE.contains(&name.as_str()) {
            let all = closure(name, &edges);
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|to| all.contains(**to))
                    .map(|to| format!("{name} decides but links {to}")),
            );
        }
    }
    Ok(wrong)
}

fn closure<'a>(from: &'a str, edges: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
    while let Some(name) = todo.pop() {
        if seen.insert(name) {
            todo.extend(edges.get(name).into_iter().flatten().map(String::as_str));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metadata(edges: &[(&str, &[&str])], members: &[&str]) -> Value {
        let dep = |to: &&str| json!({"pkg": to, "dep_kinds": [{"kind": null}]});
        json!({
            "packages": edges.iter().map(|(n, _)| json!({"id": n, "name": n})).collect::<Vec<_>>(),
            "workspace_members": members,
            "resolve": {"nodes": edges.iter()
                .map(|(n, to)| json!({"id": n, "deps": to.iter().map(dep).collect::<Vec<_>>()})).collect::<Vec<_>>()},
        })
    }

    #[test]
    fn the_workspace_has_no_wrong_arrow() {
        check().unwrap();
    }

    #[test]
    fn a_shell_that_reaches_the_store_is_found() {
        let data = metadata(&[("dns", &["store"]), ("store", &[])], &["dns", "store"]);
        assert_eq!(wrong_arrows(&data).unwrap(), ["dns -> store"]);
    }

    #[test]
    fn a_clock_behind_a_dependency_of_a_plan_is_found() {
        let data = metadata(
            &[("node-plan", &["x"]), ("x", &["tokio"]), ("tokio", &[])],
            &["node-plan"],
        );
        assert_eq!(wrong_arrows(&data).unwrap(), ["node-plan decides but links tokio"]);
    }
}
