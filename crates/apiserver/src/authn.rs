//! Who makes a request: the owner of the client certificate. For tokens see `tokens::bearer`.

use crate::tokens::bearer::CREDENTIAL_ID;
use crate::user::{AUTHENTICATED, User};
use ring::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The user of a verified client certificate: common name and organisations. `None` without a common name.
pub(crate) fn user(der: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().find_map(|name| name.as_str().ok())?;
    let groups = subject
        .iter_organization()
        .filter_map(|group| group.as_str().ok().map(str::to_owned));
    let mut groups: Vec<String> = groups.collect();
    groups.push(AUTHENTICATED.to_owned());
    let mut user = User::new(name, groups);
    let digest = digest::digest(&digest::SHA256, der);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    user.extra
        .insert(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={hex}")]);
    Some(user)
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
