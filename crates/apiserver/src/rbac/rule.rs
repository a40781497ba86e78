//! One rule of a role: what it allows, and which other rules it covers.

use crate::authz::Action;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// A `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rule {
    #[serde(default, deserialize_with = "list")]
    pub(crate) verbs: Vec<String>,
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_groups: Vec<String>,
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
    #[serde(
        default,
        rename = "nonResourceURLs",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) non_resource_urls: Vec<String>,
}

/// A list that may be null.
fn list<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    /// Whether the rule is about the resource of an action.
    pub(crate) fn names_resource(&self, action: &Action) -> bool {
        let (resource, part) = (&action.resource, &action.subresource);
        self.resources.iter().any(|own| match own.split_once('/') {
            _ if own == "*" => true,
            None => part.is_empty() && own == resource,
            Some((of, own_part)) => own_part == part && (of == "*" || of == resource),
        })
    }

    /// Whether the rule allows an action; its resources are taken to match already (see `Index`).
    pub(crate) fn allows_on_resource(&self, action: &Action) -> bool {
        has(&self.verbs, &action.verb)
            && has(&self.api_groups, &action.group)
            && (self.resource_names.is_empty() || self.resource_names.contains(&action.name))
    }

    pub(super) fn allows_path(&self, verb: &str, path: &str) -> bool {
        has(&self.verbs, verb) && self.non_resource_urls.iter().any(|url| url_covers(url, path))
    }

    /// The rule in pieces that allow one verb on one resource or path each.
    fn atoms(&self) -> Vec<Self> {
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            let verbs = vec![verb.clone()];
            for (group, resource) in self
                .api_groups
                .iter()
                .flat_map(|group| self.resources.iter().map(move |resource| (group, resource)))
            {
                let atom = Self {
                    verbs: verbs.clone(),
                    api_groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Self::default()
                };
                if self.resource_names.is_empty() {
                    atoms.push(atom);
                    continue;
                }
                atoms.extend(self.resource_names.iter().map(|name| Self {
                    resource_names: vec![name.clone()],
                    ..atom.clone()
                }));
            }
            atoms.extend(self.non_resource_urls.iter().map(|url| Self {
                verbs: verbs.clone(),
                non_resource_urls: vec![url.clone()],
                ..Self::default()
            }));
        }
        atoms
    }

    /// Whether whoever has this rule has all that the atom gives.
    fn covers(&self, atom: &Self) -> bool {
        let all = |own: &[String], wanted: &[String]| wanted.iter().all(|wanted| has(own, wanted));
        let resource = |wanted: &String| {
            let part = wanted.split_once('/').map(|(_, part)| format!("*/{part}"));
            has(&self.resources, wanted) || part.is_some_and(|part| self.resources.contains(&part))
        };
        let named = self.resource_names.is_empty()
            || (!atom.resource_names.is_empty()
                && atom
                    .resource_names
                    .iter()
                    .all(|name| self.resource_names.contains(name)));
        let url = |wanted: &String| self.non_resource_urls.iter().any(|own| url_covers(own, wanted));
        all(&self.verbs, &atom.verbs)
            && all(&self.api_groups, &atom.api_groups)
            && atom.resources.iter().all(resource)
            && named
            && atom.non_resource_urls.iter().all(url)
    }

    /// As messages show it.
    pub(crate) fn brief(&self) -> String {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let parts = parts.iter().filter(|(_, list)| !list.is_empty());
        let parts: Vec<String> = parts.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// A list as Go shows one of quoted texts.
pub(crate) fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(" "))
}

fn url_covers(own: &str, wanted: &str) -> bool {
    own == wanted || own.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix))
}

/// What of the wanted rules is not covered by those held, brought together by resource.
pub(crate) fn missing(held: &[&Rule], wanted: &[Rule]) -> Vec<Rule> {
    let atoms = wanted.iter().flat_map(Rule::atoms);
    let uncovered = atoms.filter(|atom| !held.iter().any(|rule| rule.covers(atom)));
    let mut together: BTreeMap<Rule, Vec<String>> = BTreeMap::new();
    for atom in uncovered {
        let what = Rule {
            verbs: Vec::new(),
            ..atom.clone()
        };
        let verbs = together.entry(what).or_default();
        for verb in atom.verbs {
            if !verbs.contains(&verb) {
                verbs.push(verb);
            }
        }
    }
    together
        .into_iter()
        .map(|(what, verbs)| Rule { verbs, ..what })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        Rule {
            verbs: owned(verbs),
            api_groups: owned(groups),
            resources: owned(resources),
            resource_names: owned(names),
            non_resource_urls: Vec::new(),
        }
    }

    fn urls(verbs: &[&str], urls: &[&str]) -> Rule {
        let owned = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        Rule {
            verbs: owned(verbs),
            non_resource_urls: owned(urls),
            ..Rule::default()
        }
    }

    #[track_caller]
    fn check(held: &[Rule], wanted: Rule, expected: &[&str]) {
        let held: Vec<&Rule> = held.iter().collect();
        let found: Vec<String> = missing(&held, &[wanted]).iter().map(Rule::brief).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_held_in_pieces_covers_the_whole() {
        let held = [
            rule(&["get"], &[""], &["pods"], &[]),
            rule(&["list"], &["*"], &["pods", "pods/log"], &[]),
        ];
        check(&held, rule(&["get", "list"], &[""], &["pods"], &[]), &[]);
        check(
            &held,
            rule(&["get", "list", "watch", "delete"], &[""], &["pods"], &[]),
            &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["watch" "delete"]}"#],
        );
    }

    #[test]
    fn names_narrow_a_rule_and_wildcards_widen_it() {
        let named = [rule(&["get"], &[""], &["secrets"], &["a", "b"])];
        check(&named, rule(&["get"], &[""], &["secrets"], &["b"]), &[]);
        check(
            &named,
            rule(&["get"], &[""], &["secrets"], &[]),
            &[r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#],
        );
        let scales = [rule(&["get"], &["*"], &["*/scale"], &[])];
        check(&scales, rule(&["get"], &["apps"], &["statefulsets/scale"], &[]), &[]);
        let everything = [rule(&["*"], &["*"], &["*"], &[])];
        check(&everything, rule(&["*"], &["*"], &["*"], &[]), &[]);
        check(
            &scales,
            rule(&["*"], &["*"], &["*"], &[]),
            &[r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#],
        );
    }

    #[test]
    fn paths_are_covered_by_their_prefix() {
        let held = [urls(&["get"], &["/api/*", "/version"])];
        check(&held, urls(&["get"], &["/api/v1", "/version"]), &[]);
        check(
            &held,
            urls(&["get"], &["/api"]),
            &[r#"{NonResourceURLs:["/api"], Verbs:["get"]}"#],
        );
    }
}
