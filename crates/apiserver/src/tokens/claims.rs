//! What a token of a service account says.

use serde::{Deserialize, Serialize};

/// The claims of a token, those of RFC 7519 and Kubernetes' own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub(crate) aud: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exp: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) iat: Option<i64>,
    pub(crate) iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) jti: String,
    #[serde(default, rename = "kubernetes.io", skip_serializing_if = "Option::is_none")]
    pub(crate) kubernetes: Option<Binding>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<i64>,
    pub(crate) sub: String,
    #[serde(flatten)]
    pub(crate) legacy: LegacyBinding,
}

/// Whom a token is for, and what it dies with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Named>,
    pub(crate) serviceaccount: Named,
    /// From when on its user should have got a new one, though it is still taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warnafter: Option<i64>,
}

/// An object as a token names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) uid: String,
}

/// The claims of a token that stands in a Secret and does not expire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LegacyBinding {
    #[serde(
        default,
        rename = "kubernetes.io/serviceaccount/namespace",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) namespace: String,
    #[serde(
        default,
        rename = "kubernetes.io/serviceaccount/secret.name",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) secret: String,
    #[serde(
        default,
        rename = "kubernetes.io/serviceaccount/service-account.name",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) account: String,
    #[serde(
        default,
        rename = "kubernetes.io/serviceaccount/service-account.uid",
        skip_serializing_if = "String::is_empty"
    )]
    pub(crate) account_uid: String,
}

/// An audience may stand alone or in a list.
fn one_or_many<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(input)? {
        Audience::One(audience) => vec![audience],
        Audience::Many(audiences) => audiences,
    })
}

/// The user name of a service account.
pub(crate) fn user_name(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn claims_have_upstreams_names() {
        let claims = Claims {
            aud: vec!["a".into()],
            exp: Some(20),
            iat: Some(10),
            iss: "i".into(),
            jti: "j".into(),
            kubernetes: Some(Binding {
                namespace: "n".into(),
                pod: Some(Named {
                    name: "p".into(),
                    uid: "1".into(),
                }),
                serviceaccount: Named {
                    name: "s".into(),
                    uid: "2".into(),
                },
                warnafter: Some(15),
                ..Binding::default()
            }),
            nbf: Some(10),
            sub: user_name("n", "s"),
            legacy: LegacyBinding::default(),
        };
        let text = json!({"aud": ["a"], "exp": 20, "iat": 10, "iss": "i", "jti": "j", "nbf": 10,
            "sub": "system:serviceaccount:n:s", "kubernetes.io": {"namespace": "n", "pod": {"name": "p", "uid": "1"},
            "serviceaccount": {"name": "s", "uid": "2"}, "warnafter": 15}});
        assert_eq!(serde_json::to_value(&claims).unwrap(), text);
        assert_eq!(serde_json::from_value::<Claims>(text).unwrap(), claims);
    }

    #[test]
    fn an_audience_may_stand_alone() {
        let claims: Claims = serde_json::from_value(json!({"aud": "a", "iss": "i", "sub": "s"})).unwrap();
        assert_eq!(claims.aud, ["a"]);
    }
}
