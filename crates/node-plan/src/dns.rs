//! What a pod's `/etc/resolv.conf` says.

use api::k8s::api::core::v1::Pod;

/// The cluster's name service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Its addresses.
    pub servers: Vec<String>,
    /// The cluster's domain, e.g. `cluster.local`.
    pub domain: String,
}

/// The node's own `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostResolver {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// What the runtime writes into the pod's file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

impl HostResolver {
    /// Reads the text of a `resolv.conf`.
    pub fn parse(text: &str) -> Self {
        let mut host = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let keyword = words.next();
            let rest = words.map(str::to_owned);
            match keyword {
                Some("nameserver") => host.servers.extend(rest.take(1)),
                // The last search line counts.
                Some("search") => host.searches = rest.filter(|s| s != ".").collect(),
                Some("options") => host.options = rest.collect(),
                _ => {}
            }
        }
        host
    }
}

/// The DNS configuration of a pod.
pub fn dns_config(pod: &Pod, cluster: &Cluster, host: &HostResolver) -> DnsConfig {
    let Some(spec) = &pod.spec else {
        return DnsConfig::default();
    };
    let host_network = spec.host_network.unwrap_or(false);
    let from_cluster = !cluster.servers.is_empty()
        && match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
            "ClusterFirst" => !host_network,
            "ClusterFirstWithHostNet" => true,
            _ => false,
        };
    let mut config = if from_cluster {
        let domain = &cluster.domain;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut searches = vec![
            format!("{namespace}.svc.{domain}"),
            format!("svc.{domain}"),
            domain.clone(),
        ];
        searches.extend(host.searches.iter().cloned());
        DnsConfig {
            servers: cluster.servers.clone(),
            searches,
            options: vec!["ndots:5".into()],
        }
    } else if spec.dns_policy.as_deref() == Some("None") {
        DnsConfig::default()
    } else {
        DnsConfig {
            servers: host.servers.clone(),
            searches: host.searches.clone(),
            options: host.options.clone(),
        }
    };
    if let Some(own) = &spec.dns_config {
        config.servers.extend(own.nameservers.iter().flatten().cloned());
        config.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            config.options.retain(|o| o.split(':').next() != Some(name));
            config.options.push(match &option.value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            });
        }
    }
    keep_first(&mut config.servers);
    keep_first(&mut config.searches);
    config
}

fn keep_first(list: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::{PodDNSConfig, PodDNSConfigOption, PodSpec};
    use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn config(spec: PodSpec) -> DnsConfig {
        let metadata = ObjectMeta {
            namespace: Some("ns".into()),
            ..ObjectMeta::default()
        };
        let cluster = Cluster {
            servers: vec!["10.96.0.10".into()],
            domain: "cluster.local".into(),
        };
        let host = HostResolver::parse("# comment\nnameserver 9.9.9.9\nsearch example.org\noptions edns0\n");
        dns_config(
            &Pod {
                metadata,
                spec: Some(spec),
                status: None,
            },
            &cluster,
            &host,
        )
    }

    #[test]
    fn cluster_first() {
        let c = config(PodSpec::default());
        assert_eq!(c.servers, ["10.96.0.10"]);
        assert_eq!(
            c.searches,
            [
                "ns.svc.cluster.local",
                "svc.cluster.local",
                "cluster.local",
                "example.org"
            ]
        );
        assert_eq!(c.options, ["ndots:5"]);
    }

    #[test]
    fn host_network_uses_the_nodes_unless_asked() {
        let spec = PodSpec {
            host_network: Some(true),
            ..PodSpec::default()
        };
        assert_eq!(config(spec.clone()).servers, ["9.9.9.9"]);
        let with = PodSpec {
            dns_policy: Some("ClusterFirstWithHostNet".into()),
            ..spec
        };
        assert_eq!(config(with).servers, ["10.96.0.10"]);
    }

    #[test]
    fn own_config_is_merged() {
        let option = |name: &str, value: &str| PodDNSConfigOption {
            name: Some(name.into()),
            value: Some(value.into()).filter(|v: &String| !v.is_empty()),
        };
        let own = PodDNSConfig {
            nameservers: Some(vec!["1.1.1.1".into(), "10.96.0.10".into()]),
            searches: Some(vec!["my.domain".into()]),
            options: Some(vec![option("ndots", "2"), option("rotate", "")]),
        };
        let c = config(PodSpec {
            dns_config: Some(own.clone()),
            ..PodSpec::default()
        });
        assert_eq!(c.servers, ["10.96.0.10", "1.1.1.1"]);
        assert_eq!(c.options, ["ndots:2", "rotate"]);
        let none = config(PodSpec {
            dns_policy: Some("None".into()),
            dns_config: Some(own),
            ..PodSpec::default()
        });
        assert_eq!(none.servers, ["1.1.1.1", "10.96.0.10"]);
        assert_eq!(none.searches, ["my.domain"]);
    }
}
