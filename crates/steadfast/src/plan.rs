//! `steadfast plan`: what a change would do to a set, step by step, before it is made. Only reads, in any cluster; what
//! the set would be is asked of the server itself, as a dry run.

use crate::args::{OutputFormat, PlanArgs};
use crate::cluster::Cluster;
use crate::manifests;
use anyhow::{Context, bail};
use controllers_plan::statefulset::{Beginning, Forecast, forecast};
use jiff::Timestamp;
use kube::core::Request;
use kube::core::params::{GetParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Who applies, as far as the dry run is concerned.
const MANAGER: &str = "steadfast-plan";

/// Nothing would change.
const UNCHANGED: u8 = 0;
/// Something would change, or the cluster could not be asked.
const BLOCKED: u8 = 1;
/// Something would change, and come to its end.
const CHANGES: u8 = 2;

/// Tells what would happen. The exit code is 0 if nothing would change, 2 if something would, 1 if it would get stuck.
///
/// # Errors
/// When the cluster cannot be read, or refuses the change.
pub(crate) async fn run(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let mut cluster = Cluster::open(args.reading.kubeconfig.as_deref(), args.reading.namespace.as_deref()).await?;
    let beginnings = beginnings(&args, &mut cluster).await?;
    let mut codes = Vec::new();
    let mut told = Vec::new();
    for beginning in beginnings {
        let name = beginning.set["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let forecast = forecast(&beginning, Timestamp::now());
        codes.push(code(&forecast));
        match args.reading.output {
            Some(OutputFormat::Json) => told.push(json!({ "object": format!("sts/{name}"), "forecast": forecast })),
            None => print!("{}", text(&name, &forecast)),
        }
    }
    if args.reading.output.is_some() {
        println!("{:#}", json!(told));
    }
    let worst = [BLOCKED, CHANGES].into_iter().find(|code| codes.contains(code));
    Ok(ExitCode::from(worst.unwrap_or(UNCHANGED)))
}

fn code(forecast: &Forecast) -> u8 {
    if !forecast.blocked.is_empty() {
        BLOCKED
    } else if forecast.is_empty() {
        UNCHANGED
    } else {
        CHANGES
    }
}

async fn beginnings(args: &PlanArgs, cluster: &mut Cluster) -> anyhow::Result<Vec<Beginning>> {
    if !args.files.is_empty() {
        let sets = manifests::read(&args.files)?
            .into_iter()
            .filter(|manifest| manifest.object["kind"] == "StatefulSet");
        let mut beginnings = Vec::new();
        for manifest in sets {
            if let (None, Some(namespace)) = (
                &args.reading.namespace,
                manifest.object["metadata"]["namespace"].as_str(),
            ) {
                namespace.clone_into(&mut cluster.namespace);
            }
            let set = dry_run(cluster, &manifest.object)
                .await
                .with_context(|| manifest.origin.clone())?;
            beginnings.push(around(cluster, set).await?);
        }
        if beginnings.is_empty() {
            bail!("there is no StatefulSet in these files");
        }
        return Ok(beginnings);
    }
    if let Some(scale) = &args.scale {
        let (name, replicas) = scale.split_once('=').context("--scale must look like web=5")?;
        let replicas: u32 = replicas
            .parse()
            .with_context(|| format!("--scale: {replicas:?} is no number of replicas"))?;
        let patch = json!({ "spec": { "replicas": replicas } });
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let request = Request::new(sets(cluster)).patch(name, &params, &Patch::Merge(patch))?;
        let set = cluster.client.request(request).await?;
        return Ok(vec![around(cluster, set).await?]);
    }
    let Some(delete) = &args.delete else {
        bail!("say what is to change: -f FILE, --scale SET=N or --delete pod/NAME");
    };
    let pod = delete
        .strip_prefix("pod/")
        .context("--delete must look like pod/web-1")?;
    let request = Request::new(cluster.path("api/v1", "pods")).get(pod, &GetParams::default())?;
    let found: Value = cluster.client.request(request).await?;
    let owner = found["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|owner| owner["kind"] == "StatefulSet");
    let owner = owner.with_context(|| format!("pod {pod} belongs to no StatefulSet"))?;
    let request = Request::new(sets(cluster)).get(owner["name"].as_str().unwrap_or_default(), &GetParams::default())?;
    let set = cluster.client.request(request).await?;
    let mut beginning = around(cluster, set).await?;
    beginning.deleted_pod = Some(pod.to_owned());
    Ok(vec![beginning])
}

fn sets(cluster: &Cluster) -> String {
    cluster.path("apis/apps/v1", "statefulsets")
}

/// What the server would make of a manifest.
async fn dry_run(cluster: &Cluster, manifest: &Value) -> anyhow::Result<Value> {
    let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
    let get = Request::new(sets(cluster)).get(name, &GetParams::default())?;
    let request = match cluster.client.request::<Value>(get).await {
        Ok(_) => {
            let params = PatchParams {
                dry_run: true,
                force: true,
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            Request::new(sets(cluster)).patch(name, &params, &Patch::Apply(manifest))?
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let params = PostParams {
                dry_run: true,
                field_manager: Some(MANAGER.to_owned()),
            };
            Request::new(sets(cluster)).create(&params, serde_json::to_vec(manifest)?)?
        }
        Err(error) => return Err(error.into()),
    };
    cluster
        .client
        .request(request)
        .await
        .context("the server does not take it")
}

/// The set and what is around it.
async fn around(cluster: &Cluster, set: Value) -> anyhow::Result<Beginning> {
    Ok(Beginning {
        set,
        pods: cluster.list(&cluster.path("api/v1", "pods")).await?,
        claims: cluster.list(&cluster.path("api/v1", "persistentvolumeclaims")).await?,
        revisions: cluster
            .list(&cluster.path("apis/apps/v1", "controllerrevisions"))
            .await?,
        ..Beginning::default()
    })
}

fn text(name: &str, forecast: &Forecast) -> String {
    let mut text = format!("sts/{name}\n");
    if forecast.is_empty() && forecast.blocked.is_empty() {
        text.push_str("  nothing changes\n");
        return text;
    }
    for (number, step) in forecast.steps.iter().enumerate() {
        let after = if step.after.is_empty() {
            String::new()
        } else {
            format!("   [after {}]", step.after.join(", "))
        };
        text.push_str(&format!("{:4}. {}{after}\n", number + 1, step.does));
    }
    let (before, lowest, last) = (forecast.ready_before, forecast.ready_lowest, forecast.ready_after);
    text.push_str(&format!(
        "  ready: {before} now, {lowest} at the lowest, {last} in the end\n"
    ));
    for (what, claims) in [
        ("created", &forecast.claims_created),
        ("deleted", &forecast.claims_deleted),
        ("left behind", &forecast.claims_orphaned),
    ] {
        if !claims.is_empty() {
            text.push_str(&format!("  claims {what}: {}\n", claims.join(", ")));
        }
    }
    for blocked in &forecast.blocked {
        text.push_str(&format!("  blocked: {blocked}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use controllers_plan::statefulset::Foreseen;

    #[test]
    fn the_exit_code_gates_a_pipeline() {
        let mut foreseen = Forecast::default();
        assert_eq!(code(&foreseen), 0);
        foreseen.steps.push(Foreseen {
            does: "create pod web-3".to_owned(),
            because: String::new(),
            after: Vec::new(),
        });
        assert_eq!(code(&foreseen), 2);
        foreseen.blocked.push("web-1 is not available".to_owned());
        assert_eq!(code(&foreseen), 1);
    }

    #[test]
    fn steps_are_numbered_and_say_what_they_wait_for() {
        let step = |does: &str, after: &[&str]| Foreseen {
            does: does.to_owned(),
            because: String::new(),
            after: after.iter().map(|&one| one.to_owned()).collect(),
        };
        let foreseen = Forecast {
            steps: vec![
                step("delete pod web-1", &[]),
                step("create pod web-1", &["web-1 is gone"]),
            ],
            ready_before: 2,
            ready_lowest: 1,
            ready_after: 2,
            claims_orphaned: vec!["www-web-2".to_owned()],
            ..Forecast::default()
        };
        let expected = "sts/web\n   1. delete pod web-1\n   2. create pod web-1   [after web-1 is gone]\n  \
            ready: 2 now, 1 at the lowest, 2 in the end\n  claims left behind: www-web-2\n";
        assert_eq!(text("web", &foreseen), expected);
        assert_eq!(text("web", &Forecast::default()), "sts/web\n  nothing changes\n");
    }
}
