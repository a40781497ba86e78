//! Bootstrap tokens: Secrets `kube-system/bootstrap-token-ID` that machines show when they join.

use super::bearer::{CREDENTIAL_ID, Refused};
use crate::admission::kind;
use crate::clock;
use crate::server::Server;
use crate::status::Outcome;
use crate::stored::Stored;
use crate::user::{AUTHENTICATED, User};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// Id and secret of a token, if it has the form of a bootstrap token: `[a-z0-9]{6}.[a-z0-9]{16}`.
pub(super) fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && is_plain(id) && is_plain(secret)).then_some((id, secret))
}

/// The user that a token stands for.
pub(super) async fn user(server: &Server, id: &str, secret: &str) -> Outcome<Result<User, Refused>> {
    let secrets = kind("", "secrets");
    let Some(kv) = server
        .read(secrets, "kube-system", &format!("bootstrap-token-{id}"))
        .await?
    else {
        return Ok(Err(Refused::new("there is no such bootstrap token")));
    };
    let object = Stored::from(&kv).object(secrets)?;
    Ok(of_secret(&object, id, secret, clock::now_s()))
}

fn of_secret(object: &Value, id: &str, secret: &str, now: i64) -> Result<User, Refused> {
    let data = |key: &str| -> String {
        let encoded = object["data"][key].as_str().unwrap_or("");
        let bytes = STANDARD.decode(encoded).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    let refuse = |why: &str| Err(Refused::new(why));
    if object["type"] != TYPE || !object["metadata"]["deletionTimestamp"].is_null() || data("token-id") != id {
        return refuse("there is no such bootstrap token");
    }
    if !same(data("token-secret").as_bytes(), secret.as_bytes()) {
        return refuse("the secret part of the bootstrap token is wrong");
    }
    let expiration = data("expiration");
    if !expiration.is_empty() && clock::parse_s(&expiration).is_none_or(|end| end <= now) {
        return refuse("the bootstrap token has expired");
    }
    if data("usage-bootstrap-authentication") != "true" {
        return refuse("the bootstrap token is not for authentication");
    }
    let mut groups = vec![GROUP.to_owned()];
    for group in data("auth-extra-groups").split(',').filter(|group| !group.is_empty()) {
        if !is_group(group) {
            return refuse("the bootstrap token is for groups that do not begin with system:bootstrappers:");
        }
        groups.push(group.to_owned());
    }
    groups.push(AUTHENTICATED.to_owned());
    let mut user = User::new(format!("system:bootstrap:{id}"), groups);
    user.extra
        .insert(CREDENTIAL_ID.to_owned(), vec![format!("BOOTSTRAPTOKENID={id}")]);
    Ok(user)
}

/// `system:bootstrappers:` and up to 256 characters, the last of them a letter or a digit.
fn is_group(group: &str) -> bool {
    let rest = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':'));
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    rest.is_some_and(|rest| {
        rest.len() <= 256
            && rest.bytes().all(|byte| plain(byte) || byte == b':' || byte == b'-')
            && rest.bytes().last().is_some_and(plain)
    })
}

/// Compares in a time that does not tell where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SECRET: &str = "0123456789abcdef";

    fn secret(change: &[(&str, &str)]) -> Value {
        let mut data = json!({});
        let usual = [
            ("token-id", "abcdef"),
            ("token-secret", SECRET),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", "2026-01-01T00:00:00Z"),
        ];
        for (key, value) in usual.iter().chain(change) {
            data[*key] = json!(STANDARD.encode(value));
        }
        json!({"type": TYPE, "metadata": {"name": "bootstrap-token-abcdef"}, "data": data})
    }

    #[test]
    fn the_form_is_six_and_sixteen_plain_characters() {
        assert_eq!(parts("abcdef.0123456789abcdef"), Some(("abcdef", SECRET)));
        for other in [
            "abcdef0123456789abcdef",
            "abcde.0123456789abcdef",
            "ABCDEF.0123456789abcdef",
            "a.b.c",
            "",
        ] {
            assert_eq!(parts(other), None, "{other}");
        }
    }

    #[test]
    fn a_secret_says_whose_groups_a_token_has() {
        let now = clock::parse_s("2025-12-31T00:00:00Z").unwrap();
        let groups = "system:bootstrappers:kubeadm:default-node-token";
        let user = of_secret(&secret(&[("auth-extra-groups", groups)]), "abcdef", SECRET, now).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, [GROUP, groups, AUTHENTICATED]);
    }

    #[test]
    fn what_is_wrong_with_a_secret_makes_its_token_useless() {
        let now = clock::parse_s("2025-12-31T00:00:00Z").unwrap();
        for wrong in [
            ("token-secret", "fedcba9876543210"),
            ("expiration", "2025-12-30T00:00:00Z"),
            ("expiration", "soon"),
            ("usage-bootstrap-authentication", "false"),
            ("auth-extra-groups", "system:masters"),
            ("token-id", "fedcba"),
        ] {
            assert!(
                of_secret(&secret(&[wrong]), "abcdef", SECRET, now).is_err(),
                "{wrong:?}"
            );
        }
    }
}
