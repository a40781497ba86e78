//! A pod's host name and its `/etc/hosts`.

use api::k8s::api::core::v1::Pod;
use std::fmt::Write;

/// Linux takes host names of up to 64 bytes; Kubernetes cuts at 63.
const HOSTNAME_MAX: usize = 63;

/// Host name and DNS domain (empty without subdomain) of a pod. With `setHostnameAsFQDN` the host name is the full one;
/// `hostnameOverride` is the host name whatever else is said.
///
/// # Errors
/// A full name that is too long to be a host name.
pub fn pod_hostname(pod: &Pod, cluster_domain: &str) -> Result<(String, String), String> {
    let spec = pod.spec.as_ref();
    let overriding = spec.and_then(|s| s.hostname_override.as_deref());
    if let Some(host) = overriding.filter(|host| !host.is_empty()) {
        return Ok((host.to_owned(), String::new()));
    }
    let given = spec.and_then(|s| s.hostname.as_deref()).filter(|h| !h.is_empty());
    let name = given.or(pod.metadata.name.as_deref()).unwrap_or_default();
    let cut: String = name.chars().take(HOSTNAME_MAX).collect();
    let host = cut.trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec.and_then(|s| s.subdomain.as_deref()).filter(|s| !s.is_empty());
    let Some(subdomain) = subdomain else {
        return Ok((host, String::new()));
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = format!("{subdomain}.{namespace}.svc.{cluster_domain}");
    if spec.and_then(|s| s.set_hostname_as_fqdn) != Some(true) {
        return Ok((host, domain));
    }
    let full = format!("{host}.{domain}");
    if full.len() > 64 {
        return Err(format!(
            "Failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok((full, domain))
}

/// The content of a pod's `/etc/hosts`. `node_hosts` is the node's own file, for pods in the node's network.
pub fn hosts_file(pod: &Pod, ips: &[String], cluster_domain: &str, node_hosts: Option<&str>) -> String {
    let mut text = match node_hosts {
        Some(node) => format!("# Kubernetes-managed hosts file (host network).\n{node}"),
        None => own_hosts(pod, ips, cluster_domain),
    };
    let aliases = pod.spec.iter().flat_map(|s| s.host_aliases.iter().flatten());
    for (i, alias) in aliases.enumerate() {
        if i == 0 {
            text.push_str("\n# Entries added by HostAliases.\n");
        }
        let names: Vec<&str> = alias.hostnames.iter().flatten().map(String::as_str).collect();
        writeln!(text, "{}\t{}", alias.ip, names.join("\t")).expect("writing to a string cannot fail");
    }
    text
}

fn own_hosts(pod: &Pod, ips: &[String], cluster_domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    let (host, domain) = pod_hostname(pod, cluster_domain).unwrap_or_default();
    let short = host.split('.').next().unwrap_or_default();
    for ip in ips {
        let line = if domain.is_empty() {
            format!("{ip}\t{host}\n")
        } else {
            format!("{ip}\t{short}.{domain}\t{short}\n")
        };
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::{HostAlias, PodSpec};
    use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn pod(spec: PodSpec) -> Pod {
        let metadata = ObjectMeta {
            name: Some("web-0".into()),
            namespace: Some("default".into()),
            ..ObjectMeta::default()
        };
        Pod {
            metadata,
            spec: Some(spec),
            status: None,
        }
    }

    #[test]
    fn a11_6_pod_of_a_set_has_its_full_name() {
        let pod = pod(PodSpec {
            hostname: Some("web-0".into()),
            subdomain: Some("nginx".into()),
            host_aliases: Some(vec![HostAlias {
                ip: "1.2.3.4".into(),
                hostnames: Some(vec!["a".into(), "b".into()]),
            }]),
            ..PodSpec::default()
        });
        let text = hosts_file(&pod, &["10.244.0.5".into()], "cluster.local", None);
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("10.244.0.5\tweb-0.nginx.default.svc.cluster.local\tweb-0\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
    }

    #[test]
    fn long_names_are_cut() {
        let mut pod = pod(PodSpec::default());
        pod.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b".repeat(20)));
        assert_eq!(
            pod_hostname(&pod, "cluster.local").unwrap(),
            ("a".repeat(62), String::new())
        );
    }

    #[test]
    fn the_overridingis_the_host_name_whatever_else_is_said() {
        let spec = PodSpec {
            hostname: Some("web-0".into()),
            subdomain: Some("nginx".into()),
            hostname_override: Some("db.example.host".into()),
            ..PodSpec::default()
        };
        let (host, domain) = pod_hostname(&pod(spec.clone()), "cluster.local").unwrap();
        assert_eq!((host.as_str(), domain.as_str()), ("db.example.host", ""));
        let hosts = hosts_file(&pod(spec), &["10.244.0.2".into()], "cluster.local", None);
        assert!(hosts.contains("\n10.244.0.2\tdb.example.host\n"), "{hosts}");
    }

    #[test]
    fn full_name_as_host_name() {
        let spec = PodSpec {
            subdomain: Some("nginx".into()),
            set_hostname_as_fqdn: Some(true),
            ..PodSpec::default()
        };
        let (host, _) = pod_hostname(&pod(spec.clone()), "cluster.local").unwrap();
        assert_eq!(host, "web-0.nginx.default.svc.cluster.local");
        assert!(pod_hostname(&pod(spec), &"x".repeat(60)).is_err());
    }
}
