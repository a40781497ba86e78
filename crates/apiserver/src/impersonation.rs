//! Acting for somebody else: `Impersonate-*` headers of those who may.

use crate::authz::{self, Action};
use crate::path::decode;
use crate::server::Server;
use crate::status::{Outcome, bad_request};
use crate::user::{AUTHENTICATED, User};
use http::HeaderMap;
use std::collections::BTreeMap;

const EXTRA: &str = "impersonate-extra-";
const ACCOUNT: &str = "system:serviceaccount:";
const REVIEWED: &str = "authentication.k8s.io";

/// The user that headers ask for; `None` if they ask for nobody.
fn wanted(headers: &HeaderMap) -> Outcome<Option<User>> {
    let values = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect()
    };
    let name = values("impersonate-user").into_iter().next().unwrap_or_default();
    let mut wanted = User::new(name, values("impersonate-group"));
    wanted.uid = values("impersonate-uid").into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for header in headers.keys().filter_map(|name| name.as_str().strip_prefix(EXTRA)) {
        extra.insert(decode(header).to_lowercase(), values(&format!("{EXTRA}{header}")));
    }
    wanted.extra = extra;
    if !wanted.name.is_empty() {
        return Ok(Some(wanted));
    }
    if wanted == User::default() {
        return Ok(None);
    }
    Err(bad_request(
        "requested groups, a uid or extra values without impersonating a user",
    ))
}

/// What must be allowed to act for a user.
fn needed(wanted: &User) -> Vec<Action> {
    let action = |group: &str, resource: &str, subresource: &str, name: &str| Action {
        verb: "impersonate".to_owned(),
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: name.to_owned(),
        ..Action::default()
    };
    let account = wanted.name.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':'));
    let mut needed = vec![match account {
        Some((namespace, name)) => Action {
            namespace: namespace.to_owned(),
            ..action("", "serviceaccounts", "", name)
        },
        None => action("", "users", "", &wanted.name),
    }];
    needed.extend(wanted.groups.iter().map(|group| action("", "groups", "", group)));
    if !wanted.uid.is_empty() {
        needed.push(action(REVIEWED, "uids", "", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        needed.extend(values.iter().map(|value| action(REVIEWED, "userextras", key, value)));
    }
    needed
}

/// The user that a request is made for: the one it came from, unless headers name another one.
pub(crate) async fn acting_user(server: &Server, user: User, headers: &HeaderMap) -> Outcome<User> {
    let Some(mut wanted) = wanted(headers)? else {
        return Ok(user);
    };
    for action in needed(&wanted) {
        authz::check(server, &user, &action).await?;
    }
    complete(&mut wanted);
    Ok(wanted)
}

/// The groups that a user is in without being told.
fn complete(user: &mut User) {
    let account = user.name.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':'));
    if let (Some((namespace, _)), true) = (account, user.groups.is_empty()) {
        user.groups.push("system:serviceaccounts".to_owned());
        user.groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    let own = if user.name == "system:anonymous" {
        "system:unauthenticated"
    } else {
        AUTHENTICATED
    };
    if !user.is_in(own) {
        user.groups.push(own.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn headers_name_user_groups_uid_and_extra_values() {
        let headers = headers(&[
            ("impersonate-user", "anna"),
            ("impersonate-group", "a"),
            ("impersonate-group", "b"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-acme.com%2fproject", "x"),
        ]);
        let user = wanted(&headers).unwrap().unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("anna", "7"));
        assert_eq!(user.groups, ["a", "b"]);
        assert_eq!(user.extra["acme.com/project"], ["x"]);
        let needed: Vec<String> = needed(&user)
            .iter()
            .map(|action| {
                format!(
                    "{}/{}/{} {}",
                    action.group, action.resource, action.subresource, action.name
                )
            })
            .collect();
        let expected = [
            "/users/ anna",
            "/groups/ a",
            "/groups/ b",
            "authentication.k8s.io/uids/ 7",
            "authentication.k8s.io/userextras/acme.com/project x",
        ];
        assert_eq!(needed, expected);
    }

    #[test]
    fn a_service_account_is_in_the_groups_of_its_namespace() {
        let mut user = wanted(&headers(&[("impersonate-user", "system:serviceaccount:n:web")]))
            .unwrap()
            .unwrap();
        assert_eq!(needed(&user)[0].resource, "serviceaccounts");
        complete(&mut user);
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:n", AUTHENTICATED]
        );
        assert!(wanted(&headers(&[("impersonate-group", "a")])).is_err());
        assert_eq!(wanted(&headers(&[])).unwrap(), None);
    }
}
