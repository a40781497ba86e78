//! What admission changes and refuses.

use crate::scene::{Idea, Scene, pod};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

pub(crate) const IDEAS: &[Idea] = &[
    ("admission: limit ranges", |scene| Box::pin(limits(scene))),
    ("admission: quotas", |scene| Box::pin(quotas(scene))),
    ("admission: priorities", |scene| Box::pin(priorities(scene))),
    ("admission: pod security", |scene| Box::pin(pod_security(scene))),
    ("admission: accounts of pods", |scene| Box::pin(accounts(scene))),
    ("admission: storage", |scene| Box::pin(storage(scene))),
];

async fn limits(scene: Scene) -> anyhow::Result<()> {
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "2"},
            "min": {"cpu": "50m"}, "maxLimitRequestRatio": {"cpu": "10"}},
        {"type": "Pod", "max": {"cpu": "3"}},
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]}});
    scene.api.post(&scene.core("limitranges"), &range).await?.is(201)?;
    let pods = scene.core("pods");
    let with = |name: &str, resources: Value| {
        let mut own = pod(name);
        own["spec"]["containers"][0]["resources"] = resources;
        own
    };
    // The server may take a moment until it knows of the range.
    while scene
        .api
        .post(
            &format!("{pods}?dryRun=All"),
            &with("x", json!({"limits": {"cpu": "9"}})),
        )
        .await?
        .code
        == 201
    {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let made = scene.api.post(&pods, &with("p", json!({}))).await?.ok()?;
    let resources = json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}});
    ensure!(made["spec"]["containers"][0]["resources"] == resources, "{made}");
    for (resources, words) in [
        (
            json!({"limits": {"cpu": "3"}, "requests": {"cpu": "1"}}),
            "maximum cpu usage per Container is 2, but limit is 3",
        ),
        (
            json!({"limits": {"cpu": "100m"}, "requests": {"cpu": "10m"}}),
            "minimum cpu usage per Container is 50m, but request is 10m",
        ),
        (
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "50m"}}),
            "cpu max limit to request ratio per Container is 10",
        ),
    ] {
        scene
            .api
            .post(&pods, &with("q", resources))
            .await?
            .says(403, "Forbidden", words)?;
    }
    let claim = |size: &str| {
        json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "absent",
            "resources": {"requests": {"storage": size}}}})
    };
    let claims = scene.core("persistentvolumeclaims");
    scene.api.post(&claims, &claim("3Gi")).await?.says(
        403,
        "Forbidden",
        "maximum storage usage per PersistentVolumeClaim is 2Gi",
    )?;
    scene.api.post(&claims, &claim("1Gi")).await?.is(201)
}

async fn quotas(scene: Scene) -> anyhow::Result<()> {
    let quotas = scene.core("resourcequotas");
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1", "requests.cpu": "1", "secrets": "10",
        "count/leases.coordination.k8s.io": "2", "services": "1"}}});
    scene.api.post(&quotas, &quota).await?.is(201)?;
    let counted =
        |what: &'static str, wanted: &'static str| move |quota: &Value| quota["status"]["used"][what] == wanted;
    scene.until(&quotas, "q", counted("pods", "0")).await?;
    let pods = scene.core("pods");
    let mut own = pod("p");
    // A quota for processors asks every pod to say what it needs.
    scene
        .api
        .post(&pods, &own)
        .await?
        .says(403, "Forbidden", "must specify requests.cpu")?;
    own["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}});
    let refused = scene.api.post(&pods, &own).await?;
    refused.says(
        403,
        "Forbidden",
        "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=0, limited: requests.cpu=1",
    )?;
    own["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "600m"}});
    scene.api.post(&pods, &own).await?.is(201)?;
    scene.until(&quotas, "q", counted("requests.cpu", "600m")).await?;
    own["metadata"]["name"] = json!("second");
    let refused = scene.api.post(&pods, &own).await?;
    refused.says(
        403,
        "Forbidden",
        "exceeded quota: q, requested: pods=1,requests.cpu=600m, used: pods=1,requests.cpu=600m",
    )?;
    let services = scene.core("services");
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    scene.api.post(&services, &service("a")).await?.is(201)?;
    scene
        .api
        .post(&services, &service("b"))
        .await?
        .says(403, "Forbidden", "exceeded quota: q")?;
    let leases = scene.of("coordination.k8s.io/v1", "leases");
    for (name, code) in [("a", 201), ("b", 201), ("c", 403)] {
        scene
            .api
            .post(&leases, &json!({"metadata": {"name": name}}))
            .await?
            .is(code)?;
    }
    // What goes is given back.
    scene.api.delete(&format!("{pods}/p"), &Value::Null).await?.ok()?;
    scene.until(&quotas, "q", counted("pods", "0")).await?;
    scene.api.post(&pods, &own).await?.is(201)
}

async fn priorities(scene: Scene) -> anyhow::Result<()> {
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let name = scene.unique("class");
    let class = json!({"metadata": {"name": name}, "value": 77, "preemptionPolicy": "Never"});
    scene.api.post(classes, &class).await?.is(201)?;
    let pods = scene.core("pods");
    let mut own = pod("p");
    own["spec"]["priorityClassName"] = json!(name);
    while scene.api.post(&format!("{pods}?dryRun=All"), &own).await?.code == 403 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let made = scene.api.post(&pods, &own).await?.ok()?;
    ensure!(
        made["spec"]["priority"] == 77 && made["spec"]["preemptionPolicy"] == "Never",
        "{made}"
    );
    let plain = scene.api.post(&pods, &pod("plain")).await?.ok()?;
    ensure!(plain["spec"]["priority"] == 0, "{plain}");
    let mut absent = pod("absent");
    absent["spec"]["priorityClassName"] = json!("absent");
    let refused = scene.api.post(&pods, &absent).await?;
    refused.says(403, "Forbidden", "no PriorityClass with name absent was found")?;
    let mut own = pod("own");
    own["spec"]["priority"] = json!(5);
    scene.api.post(&pods, &own).await?.fails(403, "Forbidden")?;
    for class in ["system-cluster-critical", "system-node-critical"] {
        scene.api.get(&format!("{classes}/{class}")).await?.ok()?;
    }
    let high = json!({"metadata": {"name": scene.unique("high")}, "value": 1_000_000_001});
    let refused = scene.api.post(classes, &high).await?;
    ensure!(matches!(refused.code, 403 | 422), "{}", refused.text);
    scene
        .api
        .delete(&format!("{classes}/{name}"), &Value::Null)
        .await?
        .ok()
        .map(drop)
}

async fn pod_security(scene: Scene) -> anyhow::Result<()> {
    let namespace = format!("/api/v1/namespaces/{}", scene.namespace);
    let label = |mode: &str, level: &str| json!({"metadata": {"labels": {format!("pod-security.kubernetes.io/{mode}"): level}}});
    scene
        .api
        .patch(&namespace, "merge", &label("enforce", "baseline"))
        .await?
        .ok()?;
    scene
        .api
        .patch(&namespace, "merge", &label("warn", "restricted"))
        .await?
        .ok()?;
    let pods = scene.core("pods");
    let mut privileged = pod("p");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let refused = loop {
        let answer = scene.api.post(&format!("{pods}?dryRun=All"), &privileged).await?;
        if answer.code != 201 {
            break answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    refused.says(
        403,
        "Forbidden",
        "violates PodSecurity \"baseline:latest\": privileged (container \"c\" must not set securityContext.privileged=true)",
    )?;
    let mut network = pod("p");
    network["spec"]["hostNetwork"] = json!(true);
    scene
        .api
        .post(&pods, &network)
        .await?
        .says(403, "Forbidden", "host namespaces (hostNetwork=true)")?;
    let warned = scene.api.post(&pods, &pod("p")).await?;
    warned.is(201)?;
    let said = warned
        .warnings
        .iter()
        .any(|text| text.contains("would violate PodSecurity \\\"restricted:latest\\\""));
    ensure!(said, "{:?}", warned.warnings);
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": privileged["spec"]}}});
    let warned = scene.api.post(&scene.of("apps/v1", "deployments"), &deployment).await?;
    warned.is(201)?;
    ensure!(
        warned
            .warnings
            .iter()
            .any(|text| text.contains("would violate PodSecurity")),
        "{:?}",
        warned.warnings
    );
    let wrong = scene
        .api
        .patch(&namespace, "merge", &label("enforce", "severe"))
        .await?;
    wrong.fails(422, "Invalid")
}

async fn accounts(scene: Scene) -> anyhow::Result<()> {
    let pods = scene.core("pods");
    let made = scene.api.post(&pods, &pod("p")).await?.ok()?;
    ensure!(made["spec"]["serviceAccountName"] == "default", "{made}");
    let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
    ensure!(
        mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount",
        "{made}"
    );
    ensure!(mount["readOnly"] == true, "{made}");
    let mut absent = pod("q");
    absent["spec"]["serviceAccountName"] = json!("absent");
    scene
        .api
        .post(&pods, &absent)
        .await?
        .says(403, "Forbidden", "serviceaccount \"absent\" not found")?;
    let quiet = json!({"metadata": {"name": "quiet"}, "automountServiceAccountToken": false,
        "imagePullSecrets": [{"name": "pull"}]});
    scene.api.post(&scene.core("serviceaccounts"), &quiet).await?.is(201)?;
    let mut own = pod("r");
    own["spec"]["serviceAccountName"] = json!("quiet");
    while scene.api.post(&format!("{pods}?dryRun=All"), &own).await?.code == 403 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let made = scene.api.post(&pods, &own).await?.ok()?;
    ensure!(made["spec"]["containers"][0].get("volumeMounts").is_none(), "{made}");
    ensure!(made["spec"]["imagePullSecrets"] == json!([{"name": "pull"}]), "{made}");
    // Who is not ready or not to be reached is left, but not at once.
    let tolerations = made["spec"]["tolerations"].as_array().context("no tolerations")?;
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let own = tolerations.iter().find(|own| own["key"] == key).context(key)?;
        ensure!(
            own["tolerationSeconds"] == 300 && own["effect"] == "NoExecute",
            "{made}"
        );
    }
    Ok(())
}

async fn storage(scene: Scene) -> anyhow::Result<()> {
    let claims = scene.core("persistentvolumeclaims");
    let claim = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let made = scene.api.post(&claims, &claim("c")).await?.ok()?;
    ensure!(
        made["metadata"]["finalizers"] == json!(["kubernetes.io/pvc-protection"]),
        "{made}"
    );
    let classes = scene.api.get("/apis/storage.k8s.io/v1/storageclasses").await?.ok()?;
    let default = classes["items"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|class| class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true");
    if let Some(default) = default {
        ensure!(
            made["spec"]["storageClassName"] == default["metadata"]["name"],
            "{made}"
        );
    }
    let mut none = claim("none");
    none["spec"]["storageClassName"] = json!("");
    let none = scene.api.post(&claims, &none).await?.ok()?;
    ensure!(none["spec"]["storageClassName"] == "", "{none}");
    // A claim that a pod uses stays until the pod is gone.
    let mut user = pod("p");
    user["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    scene.api.post(&scene.core("pods"), &user).await?.is(201)?;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "nowhere"}});
    scene
        .api
        .post(&format!("{}/p/binding", scene.core("pods")), &binding)
        .await?
        .is(201)?;
    let dying = scene.api.delete(&format!("{claims}/c"), &Value::Null).await?.ok()?;
    ensure!(!dying["metadata"]["deletionTimestamp"].is_null(), "{dying}");
    scene.api.delete(&format!("{claims}/none"), &Value::Null).await?.ok()?;
    scene.until_gone(&claims, "none").await?;
    scene
        .api
        .get(&format!("{claims}/c"))
        .await?
        .ok()
        .context("a claim goes under its pod")?;
    let now = json!({"gracePeriodSeconds": 0});
    scene
        .api
        .delete(&format!("{}/p", scene.core("pods")), &now)
        .await?
        .ok()?;
    scene.until_gone(&claims, "c").await
}
