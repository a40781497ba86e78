use super::*;

const FOUR: &[&str] = &["IPv4"];
const SIX: &[&str] = &["IPv6"];
const BOTH: &[&str] = &["IPv4", "IPv6"];
const SIX_FIRST: &[&str] = &["IPv6", "IPv4"];

fn service(spec: &Value) -> Value {
    let mut service = json!({"spec": {"type": "ClusterIP", "selector": {"a": "b"}}});
    for (field, value) in spec.as_object().unwrap() {
        service["spec"][field] = value.clone();
    }
    if let (Some(ip), true) = (
        service["spec"]["clusterIP"].as_str(),
        service["spec"]["clusterIPs"].is_null(),
    ) {
        service["spec"]["clusterIPs"] = json!([ip]);
    }
    service
}

/// `policy families` or the first error.
fn settled(spec: &Value, old: Option<&Value>, offered: &[&str]) -> String {
    let mut new = service(spec);
    let old = old.map(service);
    let errors = settle_families(&mut new, old.as_ref(), offered);
    if let Some(error) = errors.first() {
        return error.to_string();
    }
    let policy = new["spec"]["ipFamilyPolicy"].as_str().unwrap_or("-").to_owned();
    let ips = listed(&new, "clusterIPs").join(",");
    format!("{policy} {} {ips}", listed(&new, "ipFamilies").join(","))
        .trim()
        .to_owned()
}

#[test]
fn new_services_get_the_families_they_mean() {
    let check = |offered: &[&str], spec: Value, expected: &str| {
        assert_eq!(settled(&spec, None, offered), expected, "{spec} of {offered:?}");
    };
    check(FOUR, json!({}), "SingleStack IPv4");
    check(SIX, json!({}), "SingleStack IPv6");
    check(BOTH, json!({}), "SingleStack IPv4");
    check(SIX_FIRST, json!({}), "SingleStack IPv6");
    check(BOTH, json!({"ipFamilies": ["IPv6"]}), "SingleStack IPv6");
    check(BOTH, json!({"clusterIP": "fd00::5"}), "SingleStack IPv6 fd00::5");
    let prefer = json!({"ipFamilyPolicy": "PreferDualStack"});
    check(FOUR, prefer.clone(), "PreferDualStack IPv4");
    check(BOTH, prefer.clone(), "PreferDualStack IPv4,IPv6");
    check(SIX_FIRST, prefer, "PreferDualStack IPv6,IPv4");
    let require = json!({"ipFamilyPolicy": "RequireDualStack"});
    check(
        FOUR,
        require.clone(),
        "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
    );
    check(BOTH, require, "RequireDualStack IPv4,IPv6");
    check(
        BOTH,
        json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
        "RequireDualStack IPv6,IPv4",
    );
    check(
        BOTH,
        json!({"ipFamilyPolicy": "PreferDualStack", "clusterIP": "fd00::5", "clusterIPs": ["fd00::5", "10.0.0.5"]}),
        "PreferDualStack IPv6,IPv4 fd00::5,10.0.0.5",
    );
}

#[test]
fn what_the_cluster_does_not_have_or_does_not_go_together_is_refused() {
    let check = |offered: &[&str], spec: Value, expected: &str| {
        assert_eq!(settled(&spec, None, offered), expected, "{spec} of {offered:?}");
    };
    check(
        FOUR,
        json!({"ipFamilies": ["IPv6"]}),
        "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
    );
    check(
        FOUR,
        json!({"clusterIP": "fd00::5"}),
        "spec.clusterIPs[0]: Invalid value: [\"fd00::5\"]: IPv6 is not configured on this cluster",
    );
    check(
        BOTH,
        json!({"ipFamilies": ["IPv4", "IPv6"]}),
        "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when \
         multiple IP families are specified",
    );
    check(
        BOTH,
        json!({"clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5", "fd00::5"]}),
        "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when \
         multiple cluster IPs are specified",
    );
    check(
        BOTH,
        json!({"ipFamilies": ["IPv4"], "clusterIP": "fd00::5"}),
        "spec.clusterIPs[0]: Invalid value: \"fd00::5\": expected an IPv4 value as indicated by `ipFamilies[0]`",
    );
    check(
        BOTH,
        json!({"ipFamilies": ["IPv4", "IPv4"]}),
        "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
    );
    check(
        BOTH,
        json!({"clusterIPs": ["10.0.0.5"]}),
        "spec.clusterIPs: Invalid value: [\"10.0.0.5\"]: must be empty when `clusterIP` is not specified",
    );
    check(
        BOTH,
        json!({"clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5", "10.0.0.6"]}),
        "spec.clusterIPs: Invalid value: [\"10.0.0.5\",\"10.0.0.6\"]: may specify no more than one IP for each IP family",
    );
    let mut three = service(&json!({"clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5", "fd00::5", "10.0.0.6"]}));
    let errors = settle_families(&mut three, None, BOTH);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].to_string().ends_with("may only hold up to 2 values"),
        "{errors:?}"
    );
}

#[test]
fn headless_services_have_families_too() {
    let check = |offered: &[&str], spec: Value, expected: &str| {
        assert_eq!(settled(&spec, None, offered), expected, "{spec} of {offered:?}");
    };
    check(BOTH, json!({"clusterIP": "None"}), "SingleStack IPv4 None");
    check(
        BOTH,
        json!({"clusterIP": "None", "ipFamilyPolicy": "PreferDualStack"}),
        "PreferDualStack IPv4,IPv6 None",
    );
    // Whose endpoints are up to the user, whatever the cluster has.
    let open = json!({"clusterIP": "None", "selector": {}});
    check(FOUR, open.clone(), "RequireDualStack IPv4,IPv6 None");
    check(SIX, open, "RequireDualStack IPv6,IPv4 None");
    let open = |policy: &str, families: Value| json!({"clusterIP": "None", "selector": {}, "ipFamilyPolicy": policy, "ipFamilies": families});
    check(FOUR, open("SingleStack", json!(["IPv6"])), "SingleStack IPv6 None");
    check(
        FOUR,
        open("PreferDualStack", json!(null)),
        "PreferDualStack IPv4,IPv6 None",
    );
    check(BOTH, json!({"type": "ExternalName"}), "-");
}

#[test]
fn a_service_gets_and_gives_back_a_second_family_only_when_told() {
    let single = json!({"clusterIP": "10.0.0.5", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
    let preferring = json!({"clusterIP": "10.0.0.5", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack"});
    let ips = json!(["10.0.0.5", "fd00::5"]);
    let dual = json!({"clusterIP": "10.0.0.5", "clusterIPs": ips, "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "RequireDualStack"});
    let change = |old: &Value, changes: Value| {
        let mut new = old.clone();
        for (field, value) in changes.as_object().unwrap() {
            new[field] = value.clone();
        }
        settled(&new, Some(old), BOTH)
    };
    let both = "IPv4,IPv6 10.0.0.5";
    assert_eq!(
        change(&single, json!({"ipFamilyPolicy": "PreferDualStack"})),
        format!("PreferDualStack {both}")
    );
    assert_eq!(
        change(&single, json!({"ipFamilyPolicy": "RequireDualStack"})),
        format!("RequireDualStack {both}")
    );
    assert_eq!(
        change(&single, json!({"ipFamilyPolicy": null})),
        "SingleStack IPv4 10.0.0.5"
    );
    assert_eq!(
        change(&preferring, json!({"externalIPs": ["1.2.3.4"]})),
        "PreferDualStack IPv4 10.0.0.5"
    );
    assert_eq!(
        change(&preferring, json!({"ipFamilyPolicy": "RequireDualStack"})),
        format!("RequireDualStack {both}")
    );
    assert_eq!(change(&dual, json!({})), "RequireDualStack IPv4,IPv6 10.0.0.5,fd00::5");
    assert_eq!(
        change(&dual, json!({"ipFamilies": null})),
        "RequireDualStack IPv4,IPv6 10.0.0.5,fd00::5"
    );
    assert_eq!(
        change(&dual, json!({"ipFamilyPolicy": "SingleStack"})),
        "SingleStack IPv4 10.0.0.5"
    );
    assert_eq!(
        change(&dual, json!({"clusterIPs": ["10.0.0.5"]})),
        "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary \
         cluster IP"
    );
    assert_eq!(
        change(&dual, json!({"ipFamilies": ["IPv4"]})),
        "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP \
         family"
    );
    // From a name of somewhere else to addresses.
    let external = json!({"type": "ExternalName"});
    assert_eq!(settled(&json!({}), Some(&external), SIX_FIRST), "SingleStack IPv6");
}
