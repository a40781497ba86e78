//! The standards by example, with upstream's words.

use super::*;
use serde_json::json;

fn bound(level: &str, version: &str) -> Bound {
    let labels =
        json!({"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/enforce-version": version});
    let (policy, errors) = Policy::of(&labels);
    assert_eq!(errors, []);
    policy.enforce
}

#[track_caller]
fn check(level: &str, version: &str, spec: &Value, expected: &str) {
    assert_eq!(details(&violations(bound(level, version), &json!({}), spec)), expected);
}

/// A pod that complies with everything.
fn hardened() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}}}],
    })
}

#[test]
fn a_plain_pod_is_baseline_but_not_restricted() {
    let plain = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    check("baseline", "latest", &plain, "");
    check(
        "privileged",
        "latest",
        &json!({"hostNetwork": true, "containers": []}),
        "",
    );
    check(
        "restricted",
        "latest",
        &plain,
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"a\", \"b\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"a\", \"b\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
    );
    check("restricted", "latest", &hardened(), "");
}

#[test]
fn what_baseline_refuses() {
    let refuse = |patch: Value, expected: &str| {
        let mut spec = hardened();
        json_patch_merge(&mut spec, patch);
        check("baseline", "latest", &spec, expected);
    };
    refuse(
        json!({"hostNetwork": true, "hostPID": true}),
        "host namespaces (hostNetwork=true, hostPID=true)",
    );
    refuse(
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
        "hostPath volumes (volume \"v\")",
    );
    let container = |context: Value| json!({"containers": [{"name": "a", "securityContext": context}]});
    refuse(
        container(json!({"privileged": true})),
        "privileged (container \"a\" must not set securityContext.privileged=true)",
    );
    refuse(
        container(json!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}})),
        "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
    );
    refuse(
        container(json!({"procMount": "Unmasked"})),
        "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
    );
    refuse(
        container(json!({"seccompProfile": {"type": "Unconfined"}})),
        "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
    );
    refuse(
        container(json!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
        "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not \
         be set)",
    );
    refuse(
        container(json!({"appArmorProfile": {"type": "Unconfined"}})),
        "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
    );
    refuse(
        json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 8080}]}]}),
        "hostPort (container \"a\" uses hostPorts 80, 8080)",
    );
    refuse(
        json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h"}}}]}),
        "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"h\")",
    );
    refuse(
        json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
        "forbidden sysctls (kernel.msgmax)",
    );
    refuse(
        json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
        "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
    );
}

#[test]
fn what_restricted_refuses() {
    let refuse = |patch: Value, expected: &str| {
        let mut spec = hardened();
        json_patch_merge(&mut spec, patch);
        check("restricted", "latest", &spec, expected);
    };
    refuse(
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "emptyDir": {}}]}),
        "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")",
    );
    refuse(
        json!({"securityContext": {"runAsUser": 0, "runAsNonRoot": false}}),
        "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set \
         runAsUser=0)",
    );
    refuse(
        json!({"securityContext": {"runAsUser": 0, "runAsNonRoot": false}, "hostUsers": false}),
        "",
    );
}

#[test]
fn a_version_knows_only_its_own_checks() {
    let plain = json!({"containers": [{"name": "a", "securityContext": {"runAsNonRoot": true}}]});
    check(
        "restricted",
        "v1.8",
        &plain,
        "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false)",
    );
    check("restricted", "v1.7", &plain, "");
    let sysctl = json!({"containers": [], "securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
    check("baseline", "v1.31", &sysctl, "forbidden sysctls (net.ipv4.tcp_rmem)");
    check("baseline", "v1.99", &sysctl, "");
}

#[test]
fn labels_that_cannot_be_read_are_the_strictest_for_enforce() {
    let (policy, errors) = Policy::of(&json!({
        "pod-security.kubernetes.io/enforce": "strict", "pod-security.kubernetes.io/audit": "x",
        "pod-security.kubernetes.io/warn-version": "1.22",
    }));
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, \
             baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"x\": must be one of privileged, \
             baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.22\": must be \"latest\" or \
             \"v1.x\"",
        ]
    );
    assert_eq!(policy.enforce.to_string(), "restricted:latest");
    assert_eq!(policy.audit.level, Level::Privileged);
    assert_eq!(policy.warn.level, Level::Privileged);
}

#[test]
fn who_enforces_also_warns() {
    let (policy, _) = Policy::of(&json!({
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.24",
    }));
    assert_eq!(policy.warn.to_string(), "baseline:v1.24");
    assert!(!policy.is_privileged());
    assert!(Policy::of(&Value::Null).0.is_privileged());
}

/// Merges an object into another one, as a merge patch does.
fn json_patch_merge(target: &mut Value, patch: Value) {
    *target = crate::patch::merge(target, &patch).expect("a merge patch always applies");
}
