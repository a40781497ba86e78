use super::*;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

fn request(spec: Value, status: Value) -> CertificateSigningRequest {
    serde_json::from_value(json!({
        "metadata": {"name": "r", "uid": "u", "creationTimestamp": "2026-11-22T12:00:00Z"},
        "spec": spec, "status": status,
    }))
    .unwrap()
}

fn node_contents() -> Contents {
    Contents {
        common_names: vec!["system:node:n1".to_owned()],
        organizations: vec!["system:nodes".to_owned()],
        ..Contents::default()
    }
}

fn of(signer: &str, usages: &[&str], status: Value) -> CertificateSigningRequest {
    let spec = json!({"signerName": signer, "usages": usages, "request": "", "username": "system:bootstrap:abcdef"});
    request(spec, status)
}

fn approved() -> Value {
    json!({"conditions": [{"type": "Approved", "status": "True", "lastUpdateTime": "2026-11-22T12:00:00Z"}]})
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn limits() -> Limits {
    Limits {
        life: SignedDuration::from_hours(24 * 365),
        authority_ends: at("2036-01-01T00:00:00Z"),
    }
}

const CLIENT: &[&str] = &["digital signature", "client auth"];

#[test]
fn kubelets_requests_are_recognized_and_their_own_first() {
    let asked = of(KUBELET_CLIENT, CLIENT, json!({}));
    assert_eq!(recognized(&asked, &node_contents()), [Recognized::NodeClient]);
    let mut own = asked.clone();
    own.spec.username = Some("system:node:n1".to_owned());
    let both = [Recognized::SelfNodeClient, Recognized::NodeClient];
    assert_eq!(recognized(&own, &node_contents()), both);
    assert_eq!(
        recognized(&of(KUBELET_CLIENT, CLIENT, approved()), &node_contents()),
        []
    );
    assert_eq!(recognized(&of(API_CLIENT, CLIENT, json!({})), &node_contents()), []);
    assert_eq!(
        recognized(&of(KUBELET_CLIENT, &["client auth"], json!({})), &node_contents()),
        []
    );
}

#[test]
fn a_kubelets_client_certificate_says_what_it_must_and_no_more() {
    let usages: Vec<String> = CLIENT.iter().map(|&usage| usage.to_owned()).collect();
    let check = |change: fn(&mut Contents)| {
        let mut contents = node_contents();
        change(&mut contents);
        contents.check_kubelet_client(&usages).err().unwrap_or_default()
    };
    assert_eq!(check(|_| {}), "");
    assert_eq!(
        check(|c| c.organizations.push("x".into())),
        "subject organization is not system:nodes"
    );
    assert_eq!(check(|c| c.dns_names = 1), "DNS subjectAltNames are not allowed");
    assert_eq!(
        check(|c| c.email_addresses = 1),
        "Email subjectAltNames are not allowed"
    );
    assert_eq!(check(|c| c.ip_addresses = 1), "IP subjectAltNames are not allowed");
    assert_eq!(check(|c| c.uris = 1), "URI subjectAltNames are not allowed");
    let no_node = "subject common name does not begin with system:node:";
    assert_eq!(check(|c| c.common_names = vec!["n1".into()]), no_node);
    assert_eq!(check(|c| c.common_names.push("system:node:n2".into())), no_node);
    assert_eq!(
        node_contents()
            .check_kubelet_client(&["client auth".to_owned()])
            .unwrap_err(),
        "usages did not match [client auth digital signature key encipherment]"
    );
}

#[test]
fn approval_is_a_condition_written_with_the_version_that_was_seen() {
    let asked = of(KUBELET_CLIENT, CLIENT, json!({}));
    let plan = plan_approval(&asked, &Access::Granted(Recognized::NodeClient));
    let Some(Write::Replace {
        subresource,
        body,
        target,
    }) = plan.actions().next().map(|action| action.write.clone())
    else {
        panic!("{plan:?}");
    };
    assert_eq!((subresource, target.uid.as_str()), ("approval", "u"));
    assert_eq!(body["status"]["conditions"][0]["reason"], "AutoApproved");
    let denied = plan_approval(&asked, &Access::Denied);
    assert!(denied.is_quiet() && denied.retry.is_some());
}

#[test]
fn what_was_approved_is_judged_by_its_signer() {
    let now = at("2026-11-22T12:00:00Z");
    let judged = |signer: &str, usages: &[&str], status: Value| {
        judge(&of(signer, usages, status), Ok(&node_contents()), limits(), now)
    };
    assert_eq!(judged(API_CLIENT, CLIENT, json!({})), Verdict::Rest);
    assert_eq!(judged("example.com/mine", CLIENT, approved()), Verdict::Rest);
    let refused = |why: &str| Verdict::Refuse(why.to_owned());
    assert_eq!(
        judged(API_CLIENT, &["server auth", "client auth"], approved()),
        refused("invalid usage for client certificate: server auth")
    );
    assert_eq!(
        judged(API_CLIENT, &["digital signature"], approved()),
        refused("missing required usage for client certificate: client auth")
    );
    assert_eq!(
        judged(KUBELET_SERVING, &["digital signature", "server auth"], approved()),
        refused("DNS or IP subjectAltName is required")
    );
    let legacy = "kubernetes.io/legacy-unknown";
    assert_eq!(judged(legacy, CLIENT, approved()), Verdict::Rest, "it has no rules");
    let mut two_names = node_contents();
    two_names.common_names.push("admin".to_owned());
    let verdict = judge(&of(API_CLIENT, CLIENT, approved()), Ok(&two_names), limits(), now);
    assert_eq!(verdict, refused("subject has more than one common name"));
    let mut master = node_contents();
    master.organizations.push("system:masters".to_owned());
    let verdict = judge(&of(API_CLIENT, CLIENT, approved()), Ok(&master), limits(), now);
    let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    assert_eq!(verdict, refused(why));
}

#[test]
fn usages_become_extensions_in_order() {
    let template = |usages: &[&str]| {
        let usages: Vec<String> = usages.iter().map(|&usage| usage.to_owned()).collect();
        signing::template(&usages, None, limits(), at("2026-11-22T12:00:00Z"))
    };
    let made = template(&["netscape sgc", "any", "crl sign", "signing"]).unwrap();
    assert_eq!(made.key_usages, [0, 6]);
    assert_eq!(
        made.extended_key_usages,
        [&[2, 5, 29, 37, 0][..], &[2, 16, 840, 1, 113_730, 4, 1]]
    );
    assert!(template(&["x"]).is_err());
}

#[test]
fn a_certificate_lasts_as_asked_within_limits() {
    let now = at("2026-11-22T12:00:00Z");
    let ends = |seconds: Option<i32>| {
        let mut asked = of(API_CLIENT, CLIENT, approved());
        asked.spec.expiration_seconds = seconds;
        match judge(&asked, Ok(&node_contents()), limits(), now) {
            Verdict::Sign(template) => {
                assert_eq!(template.not_before, at("2026-11-22T11:55:00Z"));
                template.not_after
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ends(None), at("2027-11-22T11:55:00Z"));
    assert_eq!(ends(Some(3600)), at("2026-11-22T13:00:00Z"));
    assert_eq!(ends(Some(60)), at("2026-11-22T12:10:00Z"));
    assert_eq!(ends(Some(28_800)), at("2026-11-22T19:55:00Z"));
    assert_eq!(ends(Some(i32::MAX)), at("2027-11-22T11:55:00Z"));
    let ending = Limits {
        authority_ends: at("2026-11-22T12:30:00Z"),
        ..limits()
    };
    let asked = of(API_CLIENT, CLIENT, approved());
    let Verdict::Sign(template) = judge(&asked, Ok(&node_contents()), ending, now) else {
        panic!("it is valid yet")
    };
    assert_eq!(template.not_after, at("2026-11-22T12:30:00Z"));
    let verdict = judge(&asked, Ok(&node_contents()), ending, at("2026-11-22T12:30:00Z"));
    assert!(matches!(verdict, Verdict::Hold(why) if why.contains("the signer has expired")));
}

#[test]
fn requests_are_forgotten_after_a_while() {
    let decided = |of: &str, certificate: Value| {
        let condition = json!({"type": of, "status": "True", "lastUpdateTime": "2026-11-22T12:00:00Z"});
        json!({"conditions": [condition], "certificate": certificate})
    };
    let goes = |status: Value, not_after: Option<&str>, now: &str| {
        let asked = of(API_CLIENT, CLIENT, status);
        !plan_cleaning(&asked, not_after.map(at), at(now)).is_quiet()
    };
    assert!(!goes(json!({}), None, "2026-11-23T12:00:00Z"));
    assert!(goes(json!({}), None, "2026-11-23T12:00:01Z"));
    for name in ["Denied", "Failed"] {
        assert!(!goes(decided(name, json!(null)), None, "2026-11-22T13:00:00Z"));
        assert!(goes(decided(name, json!(null)), None, "2026-11-22T13:00:01Z"));
    }
    assert!(
        !goes(decided("Approved", json!(null)), None, "2027-11-22T13:00:01Z"),
        "it may be signed yet"
    );
    assert!(goes(decided("Approved", json!("eA==")), None, "2026-11-22T13:00:01Z"));
    assert!(goes(
        decided("Approved", json!("eA==")),
        Some("2026-11-22T12:10:00Z"),
        "2026-11-22T12:10:01Z"
    ));
    let kept = plan_cleaning(&of(API_CLIENT, CLIENT, json!({})), None, at("2026-11-22T12:00:00Z"));
    assert_eq!(kept.again_at, Some(at("2026-11-23T12:00:01Z")));
}
