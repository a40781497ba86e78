//! One scripted session of both kubectls with a control plane: what they print of success and of what goes wrong.

use anyhow::{Context, ensure};
use conformance::control_plane::ControlPlane;
use conformance::kubectl::Kubectl;
use std::path::PathBuf;

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: 'web:1'}]}
";

/// A line of the session: what is typed, and what must be in the answer.
enum Line {
    /// It succeeds.
    Says(&'static str, &'static str),
    /// It gets the Deployment with this image on standard input, and succeeds.
    Given(&'static str, &'static str, &'static str),
    /// It gets the Deployment with this image on standard input, and fails.
    Refused(&'static str, &'static str, &'static str),
    /// It fails.
    Fails(&'static str, &'static str),
    /// It runs this editor, and says this.
    Edits(&'static str, &'static str),
}

use Line::{Edits, Fails, Given, Refused, Says};

const APPLYING: &[Line] = &[
    Given("apply -f -", "web:1", "deployment.apps/web created"),
    Given("apply -f -", "web:1", "deployment.apps/web unchanged"),
    Given("diff -f -", "web:1", ""),
    // A difference is exit code 1.
    Refused("diff -f -", "web:2", ""),
    Refused(
        "apply --server-side --field-manager=other -f -",
        "web:2",
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: \
         .spec.template.spec.containers[name=\"c\"].image",
    ),
    Given(
        "apply --server-side --field-manager=other --force-conflicts -f -",
        "web:2",
        "serverside-applied",
    ),
    Given("apply -f - --dry-run=server", "web:7", "configured (server dry run)"),
    Says(
        "get deployment web -o jsonpath={.spec.template.spec.containers[*].image}",
        "web:2",
    ),
    Given("apply -f -", "web:1", "configured"),
    Refused("create -f -", "web:1", "Error from server (AlreadyExists)"),
    Given("replace -f -", "web:3", "replaced"),
];

const CHANGING: &[Line] = &[
    Edits("sed -i s/web:3/web:4/", "deployment.apps/web edited"),
    Edits("true", "Edit cancelled, no changes made."),
    Edits(
        "sed -i s/replicas:.*/replicas:\\x20-1/",
        "deployments.apps \"web\" is invalid",
    ),
    Says(
        r#"patch deployment web --type=json -p [{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"web:5"}]"#,
        "patched",
    ),
    Says(
        r#"patch deployment web --type=merge -p {"metadata":{"labels":{"a":"b"}}}"#,
        "patched",
    ),
    Says(
        r#"patch deployment web --type=merge -p {"metadata":{"labels":{"a":"b"}}}"#,
        "patched (no change)",
    ),
    Says(
        r#"patch deployment web -p {"spec":{"template":{"spec":{"containers":[{"name":"d","image":"d:1"}]}}}}"#,
        "patched",
    ),
    Says(
        "get deployment web -o jsonpath={.spec.template.spec.containers[*].image}",
        "d:1 web:5",
    ),
    Says(
        r#"patch deployment web -p {"spec":{"template":{"spec":{"containers":[{"name":"d","$patch":"delete"}]}}}}"#,
        "patched",
    ),
    Fails(
        r#"patch deployment web --type=json -p [{"op":"remove","path":"/spec/absent"}]"#,
        "The request is invalid",
    ),
    Fails(
        r#"patch deployment web --type=merge -p {"spec":{"selector":{"matchLabels":{"app":"x"}}}}"#,
        "* spec.selector: Invalid value",
    ),
    Says("set image deployment/web c=web:6", "image updated"),
    Says("label deployment web x=y", "labeled"),
    Fails(
        "label deployment web x=z",
        "already has a value (y), and --overwrite is false",
    ),
    Says("annotate deployment web note=here", "annotated"),
    Says("rollout status deployment/web --timeout=60s", "successfully rolled out"),
    Says("rollout history deployment/web", "REVISION"),
    Says("rollout undo deployment/web", "rolled back"),
    Says("rollout restart deployment/web", "restarted"),
    Fails(
        "scale deployment web --replicas=2 --current-replicas=7",
        "Expected replicas to be 7, was 0",
    ),
    Says("scale deployment web --replicas=0", "scaled"),
    Says(
        "wait --for=condition=Available deployment/web --timeout=60s",
        "condition met",
    ),
    Fails(
        "wait --for=condition=Nonsense deployment/web --timeout=1s",
        "timed out waiting for the condition",
    ),
];

const ASKING: &[Line] = &[
    Says("explain deployment.spec.replicas", "Number of desired pods"),
    Says("explain pod --recursive", "terminationGracePeriodSeconds"),
    Fails("explain deployment.spec.nonsense", "field \"nonsense\" does not exist"),
    Says("auth can-i create pods", "yes"),
    Fails("auth can-i create pods --as=nobody", "no"),
    Says(
        "auth can-i --list --as=nobody",
        "selfsubjectaccessreviews.authorization.k8s.io",
    ),
    Fails(
        "get pods --as=nobody",
        "Error from server (Forbidden): pods is forbidden: User \"nobody\" cannot list resource \"pods\" in API group \"\" \
         in the namespace \"default\"",
    ),
    Fails("get sofas", "the server doesn't have a resource type \"sofas\""),
    Fails(
        "get deployment absent",
        "Error from server (NotFound): deployments.apps \"absent\" not found",
    ),
    Says("get deployment,replicaset", "replicaset.apps/web-"),
    Says("get deployment web -o wide", "app=web"),
    Says("describe deployment web", "StrategyType:           RollingUpdate"),
    Says("api-versions", "apiextensions.k8s.io/v1"),
    Says("api-resources --verbs=list -o name", "statefulsets.apps"),
    Says("create configmap m --from-literal=a=b --dry-run=server -o yaml", "a: b"),
    Fails("get configmap m", "NotFound"),
];

const DEBUGGING: &[Line] = &[
    Says("run p --image=x --restart=Never", "pod/p created"),
    Fails(
        "debug absent --image=x",
        "Error from server (NotFound): pods \"absent\" not found",
    ),
    Says(
        "debug p --copy-to=q --image=y --attach=false",
        "Defaulting debug container name",
    ),
    Says("get pod q -o jsonpath={.spec.containers[*].image}", "x y"),
    Fails("exec p -- true", "pod p does not have a host assigned"),
    Fails("exec absent -- true", "pods \"absent\" not found"),
    Fails("logs p -c nonsense", "container nonsense is not valid for pod p"),
    Fails("cordon nowhere", "nodes \"nowhere\" not found"),
    Says("delete pod p q --now", "\"q\" "),
    Says("expose deployment web --port=80", "service/web exposed"),
    Says("create role r --verb=get --resource=pods", "created"),
    Fails("certificate approve nonsense", "\"nonsense\" not found"),
    Says("delete deployment web --wait", "deployment.apps \"web\" deleted"),
    Fails("get deployment web", "NotFound"),
    Refused("replace -f -", "web:1", "Error from server (NotFound)"),
    Says("create namespace other", "created"),
    Says("delete namespace other --timeout=100s", "deleted"),
    Fails("delete namespace default", "this namespace may not be deleted"),
];

fn play(kubectl: &Kubectl, lines: &[Line]) -> anyhow::Result<()> {
    for line in lines {
        let (typed, image, succeeds, words) = match line {
            Says(typed, words) => (*typed, None, true, words),
            Fails(typed, words) => (*typed, None, false, words),
            Given(typed, image, words) => (*typed, Some(image), true, words),
            Refused(typed, image, words) => (*typed, Some(image), false, words),
            Edits(editor, words) => {
                let mut command = kubectl.command(["edit", "deployment", "web"]);
                let output = command.env("KUBE_EDITOR", editor).output()?;
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said).into_owned();
                ensure!(said.contains(words), "{editor}: no {words:?} in {said}");
                continue;
            }
        };
        let input = image.map(|image| WEB.replace("web:1", image));
        let output = kubectl.output_of(typed.split(' '), input.as_deref()).context(typed)?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(output.status.success() == succeeds, "kubectl {typed}: {said}");
        ensure!(said.contains(words), "kubectl {typed}: no {words:?} in {said}");
    }
    Ok(())
}

fn session(kubectl: &Kubectl) -> anyhow::Result<()> {
    play(kubectl, APPLYING)?;
    play(kubectl, CHANGING)?;
    play(kubectl, ASKING)?;
    play(kubectl, DEBUGGING)
}

#[test]
fn of_today() -> anyhow::Result<()> {
    let server = ControlPlane::alone("session")?;
    let kubectl = server.kubectl();
    session(&kubectl)?;
    play(
        &kubectl,
        &[
            Says("run p --image=x --restart=Never", "pod/p created"),
            Says("debug p --image=y -c=look --attach=false --profile=general", ""),
            Says("get pod p -o jsonpath={.spec.ephemeralContainers[*].name}", "look"),
            Says("create token default --duration=10m", "."),
            Says("auth whoami", "system:masters"),
            Says("get pod p --subresource=status -o name", "pod/p"),
            Says("events", "FailedScheduling"),
        ],
    )
}

#[test]
fn of_1_20() -> anyhow::Result<()> {
    let server = ControlPlane::alone("session")?;
    let default = conformance::cluster::target().join("debian/kubernetes-client/usr/bin/kubectl");
    let program = std::env::var_os("STEADFAST_OLD_KUBECTL").map_or(default, PathBuf::from);
    session(&Kubectl::new(program, &server.kubeconfig()))
}
