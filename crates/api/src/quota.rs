//! What objects count against a ResourceQuota, and whether one more fits.
//!
//! Two parties use this: the API server charges each write before it is stored, and the quota controller counts all
//! objects again when some have gone. They must never disagree, so there is one function for the usage of an object.

mod amounts;
mod pods;
mod scopes;

use crate::quantity::Amount;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub use pods::asked as asked_by_pod;
pub use scopes::selects;

/// Amounts by resource name, e.g. `requests.cpu` or `count/widgets.example.com`.
pub type ResourceList = BTreeMap<String, Amount>;

/// What divides a StorageClass's name from a resource in the name of a quota for the class.
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";

/// Names of resources that are counted under a shorter name as well.
const SHORT_NAMES: &[&str] = &["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

/// What one object counts, in all resources that any quota could limit. `group` and `plural` name its resource; `now_s`
/// decides whether a pod is past its end.
pub fn usage(group: &str, plural: &str, object: &Value, now_s: i64) -> ResourceList {
    let one = || Amount::count(1);
    let mut used = ResourceList::from([(count_name(group, plural), one())]);
    match (group, plural) {
        ("", "pods") => used.extend(pods::usage(object, now_s)),
        ("", "services") => used.extend(service(object)),
        ("", "persistentvolumeclaims") => used.extend(claim(object)),
        ("", _) if SHORT_NAMES.contains(&plural) => {
            used.insert(plural.to_owned(), one());
        }
        _ => {}
    }
    used
}

/// The name under which objects of a resource are counted, whatever they are.
pub fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() {
        format!("count/{plural}")
    } else {
        format!("count/{plural}.{group}")
    }
}

/// Whether objects of a resource count in the quota's resource `name`.
pub fn is_counted(name: &str, group: &str, plural: &str) -> bool {
    if name == count_name(group, plural) {
        return true;
    }
    match (group, plural) {
        ("", "pods") => pods::counts(name),
        ("", "services") => ["services", "services.nodeports", "services.loadbalancers"].contains(&name),
        ("", "persistentvolumeclaims") => {
            let plain = name.split_once(BY_CLASS).map_or(name, |(_, plain)| plain);
            ["persistentvolumeclaims", "requests.storage"].contains(&plain)
        }
        ("", _) => SHORT_NAMES.contains(&plural) && name == plural,
        _ => false,
    }
}

/// The resources that a quota limits, by name.
pub fn hard(limits: &Value) -> ResourceList {
    amounts::of(limits)
}

/// A resource list as objects have it.
pub fn to_value(list: &ResourceList) -> Value {
    let entries = list
        .iter()
        .map(|(name, amount)| (name.clone(), json!(amount.to_string())));
    Value::Object(entries.collect::<Map<String, Value>>())
}

/// What all these objects use together of what a quota limits: its `status.used`. The objects are those of the quota's
/// namespace, each with the group and plural of its resource.
pub fn total<'a>(quota: &Value, objects: impl Iterator<Item = (&'a str, &'a str, &'a Value)>, now_s: i64) -> Value {
    let mut used = hard(&quota["spec"]["hard"]);
    used.values_mut().for_each(|amount| *amount = Amount::default());
    for (group, plural, object) in objects {
        if selects(quota, group, plural, object) {
            for (name, amount) in usage(group, plural, object, now_s) {
                if let Some(sum) = used.get_mut(&name) {
                    *sum = *sum + amount;
                }
            }
        }
    }
    to_value(&used)
}

/// A write that is to be charged.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// The group of the object's resource.
    pub group: &'a str,
    /// The plural of the object's resource.
    pub plural: &'a str,
    /// The object as it would be stored.
    pub object: &'a Value,
    /// The object as it is stored now, for a change.
    pub old: Option<&'a Value>,
    /// Seconds since 1970.
    pub now_s: i64,
}

impl Charge<'_> {
    /// Charges the write to a quota of its namespace: the new `status.used`, or `None` if the quota does not mind it.
    ///
    /// # Errors
    /// Upstream's words for why the quota does not allow it.
    pub fn to(&self, quota: &Value) -> Result<Option<Value>, String> {
        let name = quota["metadata"]["name"].as_str().unwrap_or_default();
        let status = &quota["status"];
        let (limits, used) = (amounts::of(&status["hard"]), amounts::of(&status["used"]));
        let is_counted = |name: &&String| is_counted(name, self.group, self.plural);
        let watched: Vec<&String> = limits.keys().filter(is_counted).collect();
        if watched.is_empty() || !selects(quota, self.group, self.plural, self.object) {
            return Ok(None);
        }
        if (self.group, self.plural) == ("", "pods")
            && let Some(missing) = pods::missing(self.object, &watched)
        {
            return Err(format!("failed quota: {name}: {missing}"));
        }
        if watched.iter().any(|resource| !used.contains_key(*resource)) {
            let names: Vec<&str> = watched.iter().map(|name| name.as_str()).collect();
            let names = names.join(",");
            return Err(format!("status unknown for quota: {name}, resources: {names}"));
        }
        let mut asked = self.growth(quota)?;
        asked.retain(|name, amount| limits.contains_key(name) && !amount.is_zero());
        if asked.is_empty() {
            return Ok(None);
        }
        let new_used = amounts::sum(&used, &asked);
        let mut exceeded = asked.clone();
        exceeded.retain(|name, _| new_used[name].quantity > limits[name].quantity);
        if exceeded.is_empty() {
            return Ok(Some(to_value(&new_used)));
        }
        let text = |list: &ResourceList| amounts::text(list, exceeded.keys());
        let (asked, used, limits) = (text(&asked), text(&used), text(&limits));
        Err(format!(
            "exceeded quota: {name}, requested: {asked}, used: {used}, limited: {limits}"
        ))
    }

    /// What the write adds to what is used.
    fn growth(&self, quota: &Value) -> Result<ResourceList, String> {
        let usage = |object| usage(self.group, self.plural, object, self.now_s);
        let now = usage(self.object);
        let negative: Vec<&str> = now
            .iter()
            .filter(|(_, amount)| amount.quantity.nanos < 0)
            .map(|(name, _)| name.as_str())
            .collect();
        if !negative.is_empty() {
            return Err(format!(
                "quota usage is negative for resource(s): {}",
                negative.join(",")
            ));
        }
        Ok(match self.old {
            Some(old) if selects(quota, self.group, self.plural, old) => amounts::growth(&usage(old), &now),
            _ => now,
        })
    }
}

fn service(service: &Value) -> ResourceList {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let with_own_port = || ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0);
    let (node_ports, balancers) = match spec["type"].as_str() {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => (with_own_port().count(), 1),
        Some("LoadBalancer") => (ports.len(), 1),
        _ => (0, 0),
    };
    ResourceList::from([
        ("services".to_owned(), Amount::count(1)),
        ("services.nodeports".to_owned(), Amount::count(node_ports)),
        ("services.loadbalancers".to_owned(), Amount::count(balancers)),
    ])
}

fn claim(claim: &Value) -> ResourceList {
    let mut used = ResourceList::from([("persistentvolumeclaims".to_owned(), Amount::count(1))]);
    let amount = |list: &Value| list["storage"].as_str().and_then(|text| Amount::parse(text).ok());
    if let Some(requested) = amount(&claim["spec"]["resources"]["requests"]) {
        let allocated = amount(&claim["status"]["allocatedResources"]);
        let larger = allocated.filter(|allocated| allocated.quantity > requested.quantity);
        used.insert("requests.storage".to_owned(), larger.unwrap_or(requested).rounded_up());
    }
    let by_annotation = &claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    let class = by_annotation.as_str().or(claim["spec"]["storageClassName"].as_str());
    if let Some(class) = class.filter(|class| !class.is_empty()) {
        let of_class = used
            .iter()
            .map(|(name, amount)| (format!("{class}{BY_CLASS}{name}"), *amount));
        let of_class: ResourceList = of_class.collect();
        used.extend(of_class);
    }
    used
}

#[cfg(test)]
mod tests;
