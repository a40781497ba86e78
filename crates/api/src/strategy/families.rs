//! Which address families a Service has: what it asks for, what it had, and what the cluster offers.
//!
//! The rules are upstream's (`initIPFamilyFields`): a Service goes from one family to two, and back, only where a client
//! says so. What it means to say is inferred from whichever of the linked fields (`clusterIP`, `clusterIPs`,
//! `ipFamilies`, `ipFamilyPolicy`) are set.

use super::remove;
use super::service::kind_of;
use crate::error::FieldError;
use crate::validation;
use serde_json::{Value, json};
use std::net::IpAddr;

const FAMILIES: &str = "spec.ipFamilies";
const POLICY: &str = "spec.ipFamilyPolicy";
const SINGLE: &str = "SingleStack";
const REQUIRED: &str = "RequireDualStack";
const PREFERRED: &str = "PreferDualStack";

/// The family of an address by the name that Services give it. An IPv4 address in IPv6 clothes is an IPv4 address.
#[must_use]
pub fn family(address: IpAddr) -> &'static str {
    match address.to_canonical() {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// The texts of a list of a Service's specification.
#[must_use]
pub fn listed(service: &Value, field: &str) -> Vec<String> {
    let texts = service["spec"][field].as_array().into_iter().flatten();
    texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Whether a Service is one without an address of its own.
#[must_use]
pub fn is_headless(service: &Value) -> bool {
    let spec = &service["spec"];
    spec["clusterIP"] == "None" || spec["clusterIPs"][0] == "None"
}

/// What is settled, while it is being settled.
struct Families {
    policy: String,
    ips: Vec<String>,
    families: Vec<String>,
}

/// Fills in the families and the policy of a Service (new, or replacing `old`) where there are families of `offered`,
/// the cluster's, its default first. What cannot be is returned, and the Service is then of no use.
///
/// A Service that has fewer families afterwards has fewer `clusterIPs`, too; one that has more gets them from whoever
/// gives out addresses.
pub fn settle_families(service: &mut Value, old: Option<&Value>, offered: &[&str]) -> Vec<FieldError> {
    if kind_of(service) == "ExternalName" || old.is_some_and(|old| stays_preferred(service, old)) {
        return Vec::new();
    }
    let selects = service["spec"]["selector"].as_object().is_some_and(|s| !s.is_empty());
    let is_open = service["spec"]["clusterIP"] == "None" && !selects;
    let policy = policy(service, old, is_open);
    service["spec"]["ipFamilyPolicy"] = json!(policy);
    let errors = validation::service_families(service);
    if !errors.is_empty() {
        return errors;
    }
    let mut settled = Families {
        policy,
        ips: listed(service, "clusterIPs"),
        families: listed(service, "ipFamilies"),
    };
    let mut errors = old.map_or_else(Vec::new, |old| settled.reduce(service, old));
    settled.check_policy(&mut errors);
    settled.infer(offered, &mut errors);
    if errors.is_empty() && !is_open {
        settled.check_offer(offered, &mut errors);
    }
    if errors.is_empty() {
        settled.complete(offered, is_open);
    }
    settled.write(&mut service["spec"]);
    errors
}

/// A Service that prefers two families keeps what it has when the cluster gets or loses one.
fn stays_preferred(new: &Value, old: &Value) -> bool {
    let prefers = |service: &Value| service["spec"]["ipFamilyPolicy"] == PREFERRED;
    kind_of(new) == kind_of(old)
        && prefers(new)
        && (prefers(old) || old["spec"]["ipFamilyPolicy"].is_null())
        && listed(new, "clusterIPs") == listed(old, "clusterIPs")
        && listed(new, "ipFamilies") == listed(old, "ipFamilies")
}

fn policy(new: &Value, old: Option<&Value>, is_open: bool) -> String {
    let of = |service: &Value| service["spec"]["ipFamilyPolicy"].as_str().map(str::to_owned);
    // Nobody knows the families of endpoints that the user fills in, so a headless Service takes both.
    let default = if is_open { REQUIRED } else { SINGLE };
    of(new)
        .or_else(|| old.and_then(of))
        .unwrap_or_else(|| default.to_owned())
}

impl Families {
    fn is_single(&self) -> bool {
        self.policy == SINGLE
    }

    fn policy_error(&self, why: &str) -> FieldError {
        FieldError::invalid(POLICY, self.policy.as_str(), why)
    }

    /// A change to one family is enough to release the second one; without it, nothing may be left out.
    fn reduce(&mut self, new: &Value, old: &Value) -> Vec<FieldError> {
        let (old_ips, old_families) = (listed(old, "clusterIPs"), listed(old, "ipFamilies"));
        if self.is_single() {
            if listed(new, "clusterIPs") == old_ips {
                self.ips.truncate(1);
            }
            if listed(new, "ipFamilies") == old_families {
                self.families.truncate(1);
            }
            return Vec::new();
        }
        let is_reduced = |now: &[String], before: &[String]| !now.is_empty() && now.len() < before.len();
        let mut errors = Vec::new();
        if is_reduced(&self.ips, &old_ips) {
            errors.push(self.policy_error("must be 'SingleStack' to release the secondary cluster IP"));
        }
        if is_reduced(&self.families, &old_families) {
            errors.push(self.policy_error("must be 'SingleStack' to release the secondary IP family"));
        }
        errors
    }

    fn check_policy(&self, errors: &mut Vec<FieldError>) {
        let words =
            |what: &str| format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
        if self.is_single() && self.ips.len() == 2 {
            errors.push(self.policy_error(&words("cluster IPs")));
        }
        if self.is_single() && self.families.len() == 2 {
            errors.push(self.policy_error(&words("IP families")));
        }
    }

    /// An address says which family is meant.
    fn infer(&mut self, offered: &[&str], errors: &mut Vec<FieldError>) {
        for (index, ip) in self.ips.iter().enumerate().skip(self.families.len()) {
            let Ok(address) = ip.parse() else { break };
            let family = family(address);
            if offered.contains(&family) {
                self.families.push(family.to_owned());
            } else {
                let why = format!("{family} is not configured on this cluster");
                errors.push(FieldError::invalid(
                    format!("spec.clusterIPs[{index}]"),
                    json!(self.ips),
                    why,
                ));
            }
        }
    }

    fn check_offer(&self, offered: &[&str], errors: &mut Vec<FieldError>) {
        if self.policy == REQUIRED && offered.len() < 2 {
            errors.push(self.policy_error("this cluster is not configured for dual-stack services"));
        }
        for (index, family) in self.families.iter().enumerate() {
            if !offered.contains(&family.as_str()) {
                let path = format!("{FAMILIES}[{index}]");
                errors.push(FieldError::invalid(
                    path,
                    family.as_str(),
                    "not configured on this cluster",
                ));
            }
        }
    }

    /// Adds the families that are wanted and not named. An open Service, whose endpoints are up to the user, has both
    /// wherever it is.
    fn complete(&mut self, offered: &[&str], is_open: bool) {
        if self.families.is_empty() {
            self.families.extend(offered.first().map(|family| (*family).to_owned()));
        }
        if !self.is_single() && self.families.len() == 1 && (is_open || offered.len() == 2) {
            let other = if self.families[0] == "IPv4" { "IPv6" } else { "IPv4" };
            self.families.push(other.to_owned());
        }
    }

    fn write(self, spec: &mut Value) {
        spec["ipFamilyPolicy"] = json!(self.policy);
        spec["ipFamilies"] = json!(self.families);
        if self.ips.is_empty() {
            remove(spec, "clusterIPs");
        } else {
            spec["clusterIPs"] = json!(self.ips);
        }
    }
}

#[cfg(test)]
mod tests;
