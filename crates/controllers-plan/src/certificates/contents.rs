//! What a certificate request says, and whether it is one that a kubelet would make.

use std::collections::BTreeSet;

use super::API_CLIENT;

/// The group that may do everything.
const MASTERS: &str = "system:masters";

/// What the PKCS #10 request within a CertificateSigningRequest asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The common names of the subject; more than one is nobody's name.
    pub common_names: Vec<String>,
    /// The organizations of the subject, which are groups.
    pub organizations: Vec<String>,
    /// How many DNS names it lists.
    pub dns_names: usize,
    /// How many addresses it lists.
    pub ip_addresses: usize,
    /// How many e-mail addresses it lists.
    pub email_addresses: usize,
    /// How many URIs it lists.
    pub uris: usize,
}

impl Contents {
    /// The one name of the subject.
    pub fn common_name(&self) -> Option<&str> {
        match self.common_names.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    fn is_of_a_node(&self) -> Result<(), String> {
        let is_node = |name: &str| name.starts_with("system:node:");
        if self.common_name().is_some_and(is_node) {
            Ok(())
        } else {
            Err("subject common name does not begin with system:node:".to_owned())
        }
    }

    fn is_in_nodes(&self) -> Result<(), String> {
        if self.organizations == ["system:nodes"] {
            Ok(())
        } else {
            Err("subject organization is not system:nodes".to_owned())
        }
    }

    /// Why nobody gets such a certificate to show to the API server. The API server refuses these requests already; what
    /// it once took must not become the key to everything either.
    pub(super) fn check_api_client(&self) -> Result<(), String> {
        if self.organizations.iter().any(|group| group == MASTERS) {
            return Err(format!(
                "use of {API_CLIENT} signer with {MASTERS} group is not allowed"
            ));
        }
        Ok(())
    }

    /// Why it is not a request for the certificate that a kubelet shows to the API server.
    pub(super) fn check_kubelet_client(&self, usages: &[String]) -> Result<(), String> {
        self.is_in_nodes()?;
        none(self.dns_names, "DNS")?;
        none(self.email_addresses, "Email")?;
        none(self.ip_addresses, "IP")?;
        none(self.uris, "URI")?;
        self.is_of_a_node()?;
        kubelet_usages(usages, "client auth")
    }

    /// Why it is not a request for the certificate that a kubelet shows as a server.
    pub(super) fn check_kubelet_serving(&self, usages: &[String]) -> Result<(), String> {
        self.is_in_nodes()?;
        if self.dns_names == 0 && self.ip_addresses == 0 {
            return Err("DNS or IP subjectAltName is required".to_owned());
        }
        none(self.email_addresses, "Email")?;
        none(self.uris, "URI")?;
        kubelet_usages(usages, "server auth")?;
        self.is_of_a_node()
    }
}

fn none(count: usize, what: &str) -> Result<(), String> {
    if count == 0 {
        Ok(())
    } else {
        Err(format!("{what} subjectAltNames are not allowed"))
    }
}

/// Keys that are no RSA keys cannot encipher other keys, so that usage may be left out.
fn kubelet_usages(usages: &[String], auth: &str) -> Result<(), String> {
    let asked: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let all = BTreeSet::from(["digital signature", "key encipherment", auth]);
    let fewest = BTreeSet::from(["digital signature", auth]);
    if asked == all || asked == fewest {
        return Ok(());
    }
    // As Go prints a sorted list.
    let words: Vec<&str> = all.into_iter().collect();
    Err(format!("usages did not match [{}]", words.join(" ")))
}
