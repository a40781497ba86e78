//! Who a client certificate says its owner is.

use crate::user::User;
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
}
