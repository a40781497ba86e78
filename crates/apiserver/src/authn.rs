//! Who makes a request: the owner of the client certificate, or somebody that he may act for.

use crate::authz::{self, Action};
use crate::status::{Outcome, bad_request};
use crate::user::User;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The user of a verified client certificate: common name and organisations. `None` without a common name.
pub(crate) fn user(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().find_map(|name| name.as_str().ok())?;
    let groups = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok().map(str::to_owned));
    let mut groups: Vec<String> = groups.collect();
    groups.push("system:authenticated".to_owned());
    Some(User::new(name, groups))
}

/// The user that a request is made for: the one it came from, unless `Impersonate-*` headers name another one.
pub(crate) fn acting_user(user: User, headers: &HeaderMap) -> Outcome<User> {
    let values = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect()
    };
    let (names, groups) = (values("impersonate-user"), values("impersonate-group"));
    let Some(name) = names.into_iter().next() else {
        if groups.is_empty() {
            return Ok(user);
        }
        return Err(bad_request("requested groups without impersonating a user"));
    };
    let users = [("users", &name)].into_iter();
    for (resource, wanted) in users.chain(groups.iter().map(|group| ("groups", group))) {
        let action = Action {
            verb: "impersonate".to_owned(),
            resource: resource.to_owned(),
            name: wanted.clone(),
            ..Action::default()
        };
        if !authz::allows(&user, &action) {
            return Err(authz::forbidden(&user, &action));
        }
    }
    let is_anonymous = name == "system:anonymous";
    let own = if is_anonymous {
        "system:unauthenticated"
    } else {
        "system:authenticated"
    };
    Ok(User::new(name, groups.into_iter().chain([own.to_owned()])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    #[test]
    fn the_subject_names_user_and_groups() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "system:node:vm");
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let user = user(certificate.der()).unwrap();
        assert_eq!(user.name, "system:node:vm");
        assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);
    }

    #[test]
    fn only_those_who_may_act_for_others_do() {
        let mut headers = HeaderMap::new();
        let admin = User::new("admin", ["system:masters"]);
        assert_eq!(acting_user(admin.clone(), &headers).unwrap(), admin);
        headers.insert("impersonate-user", "x".parse().unwrap());
        headers.insert("impersonate-group", "y".parse().unwrap());
        assert_eq!(
            acting_user(admin, &headers).unwrap(),
            User::new("x", ["y", "system:authenticated"])
        );
        let node = User::new("system:node:vm", ["system:nodes"]);
        assert_eq!(acting_user(node, &headers).unwrap_err().code, 403);
    }
}
