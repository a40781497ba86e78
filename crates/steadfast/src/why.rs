//! `steadfast why`: why a set, a pod or a claim is not as desired, down to the root. Only reads, in any cluster.

use crate::args::{OutputFormat, WhyArgs};
use crate::cluster::Cluster;
use anyhow::bail;
use controllers_plan::why::{self, Finding};
use jiff::Timestamp;
use serde_json::json;
use std::process::ExitCode;

/// Explains what was asked about; the exit code is 0 if it is as desired and 2 if not.
///
/// # Errors
/// When the cluster cannot be read, or knows nothing of what was asked about.
pub(crate) async fn run(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let (kind, name) = split(&args.object)?;
    let cluster = Cluster::open(args.reading.kubeconfig.as_deref(), args.reading.namespace.as_deref()).await?;
    let facts = cluster.facts().await?;
    let now = Timestamp::now();
    let findings = match kind {
        "sts" => why::of_set(&facts, name, now),
        "pod" => why::of_pod(&facts, name, now),
        _ => why::of_claim(&facts, name, now),
    };
    let Some(findings) = findings else {
        bail!("there is no {kind}/{name} in namespace {}", cluster.namespace);
    };
    let object = format!("{kind}/{name}");
    match args.reading.output {
        Some(OutputFormat::Json) => {
            let told = json!({ "object": object, "asDesired": findings.is_empty(), "findings": findings });
            println!("{told:#}");
        }
        None => print!("{}", text(&object, &findings)),
    }
    Ok(ExitCode::from(if findings.is_empty() { 0 } else { 2 }))
}

/// Kind and name of `sts/web`, with the words that kubectl takes for the kinds.
fn split(object: &str) -> anyhow::Result<(&'static str, &str)> {
    let Some((kind, name)) = object.split_once('/').filter(|(_, name)| !name.is_empty()) else {
        bail!("{object:?} must look like sts/web, pod/web-2 or pvc/www-web-2");
    };
    let kind = match kind {
        "sts" | "statefulset" | "statefulsets" | "statefulset.apps" | "statefulsets.apps" => "sts",
        "pod" | "pods" | "po" => "pod",
        "pvc" | "persistentvolumeclaim" | "persistentvolumeclaims" => "pvc",
        _ => bail!("{kind:?} is not known here: ask about sts, pod or pvc"),
    };
    Ok((kind, name))
}

fn text(object: &str, findings: &[Finding]) -> String {
    if findings.is_empty() {
        return format!("{object} is as desired\n");
    }
    let mut text = String::new();
    for finding in findings {
        for (depth, link) in finding.chain.iter().enumerate() {
            let indent = "   ".repeat(depth);
            let arrow = if depth == 0 { "" } else { "└─ " };
            text.push_str(&format!(
                "{indent}{arrow}{}: {} ({})\n",
                link.object, link.message, link.reason
            ));
        }
        if !finding.also.is_empty() {
            text.push_str(&format!("   the same holds back {}\n", finding.also.join(", ")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use controllers_plan::why::Link;

    #[test]
    fn kinds_have_the_names_that_kubectl_takes() {
        assert_eq!(split("statefulset/web").unwrap(), ("sts", "web"));
        assert_eq!(split("pods/web-1").unwrap(), ("pod", "web-1"));
        assert_eq!(split("pvc/www-web-1").unwrap(), ("pvc", "www-web-1"));
        assert!(split("web").is_err() && split("sts/").is_err() && split("node/a").is_err());
    }

    #[test]
    fn a_chain_is_shown_from_what_was_asked_to_the_root() {
        let link = |object: &str, reason: &str, message: &str| Link {
            object: object.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let finding = Finding {
            chain: vec![
                link("pod/web-2", "WaitsForPredecessor", "web-2 waits for web-1"),
                link("pod/web-1", "NotReady", "it is not ready"),
            ],
            also: vec!["pod/web-3".to_owned()],
        };
        let expected = "pod/web-2: web-2 waits for web-1 (WaitsForPredecessor)\n   └─ pod/web-1: it is not ready (NotReady)\n   \
            the same holds back pod/web-3\n";
        assert_eq!(text("sts/web", &[finding]), expected);
        assert_eq!(text("sts/web", &[]), "sts/web is as desired\n");
    }
}
