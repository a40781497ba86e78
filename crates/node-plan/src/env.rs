//! A container's environment variables: literal, from fields, resources, ConfigMaps, Secrets and Services.

use crate::env_file::{self, EnvFiles};
use crate::resources::quantity_rounded_up;
use api::k8s::api::core::v1::{
    ConfigMap, Container, EnvFromSource, EnvVarSource, FileKeySelector, Pod, ResourceFieldSelector, Secret, Service,
};
use api::k8s::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// The objects and facts that variables and volume files are taken from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// ConfigMaps of the pod's namespace by name; absent ones are not in it.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets of the pod's namespace by name; absent ones are not in it.
    pub secrets: BTreeMap<String, Secret>,
    /// All Services of the cluster.
    pub services: Vec<Service>,
    /// The pod's addresses.
    pub pod_ips: Vec<String>,
    /// The node's addresses, the main one first.
    pub host_ips: Vec<String>,
    /// What the node offers, for limits that are not set.
    pub allocatable: BTreeMap<String, Quantity>,
    /// Service account tokens by (audience, requested seconds).
    pub tokens: BTreeMap<(String, i64), String>,
}

/// Why a container's environment cannot be made; `Display` is upstream's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvError(pub String);

impl std::fmt::Display for EnvError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EnvError {}

/// All variables of a container, by name. `files` has those that [`env_file::wanted_env_files`] names.
///
/// # Errors
/// A ConfigMap, Secret, file, key or field that is needed and absent, or a file that is not written as it should be.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    files: &EnvFiles,
) -> Result<BTreeMap<String, String>, EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let services = service_variables(&sources.services, namespace, links);
    let mut own = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        take_all(from, sources, &mut own)?;
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(text), _) if !text.is_empty() => expand(text, |name| own.get(name).or(services.get(name)).cloned()),
            (_, Some(from)) => match value_from(from, pod, container, sources, files)? {
                Some(value) => value,
                None => continue,
            },
            _ => String::new(),
        };
        own.insert(var.name.clone(), value);
    }
    let mut all = services;
    all.extend(own);
    Ok(all)
}

fn take_all(from: &EnvFromSource, sources: &Sources, own: &mut BTreeMap<String, String>) -> Result<(), EnvError> {
    let prefix = from.prefix.as_deref().unwrap_or_default();
    if let Some(reference) = &from.config_map_ref {
        match sources.config_maps.get(&reference.name) {
            Some(map) => {
                for (key, value) in map.data.iter().flatten() {
                    own.insert(format!("{prefix}{key}"), value.clone());
                }
            }
            None if reference.optional == Some(true) => {}
            None => return Err(EnvError(format!("configmap \"{}\" not found", reference.name))),
        }
    }
    if let Some(reference) = &from.secret_ref {
        match sources.secrets.get(&reference.name) {
            Some(secret) => {
                for (key, value) in secret.data.iter().flatten() {
                    own.insert(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                }
            }
            None if reference.optional == Some(true) => {}
            None => return Err(EnvError(format!("secret \"{}\" not found", reference.name))),
        }
    }
    Ok(())
}

/// The value of one variable; `None` leaves it out (something optional is absent).
fn value_from(
    from: &EnvVarSource,
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    files: &EnvFiles,
) -> Result<Option<String>, EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(field) = &from.field_ref {
        return field_value(pod, &field.field_path, sources).map(Some).map_err(EnvError);
    }
    if let Some(resource) = &from.resource_field_ref {
        return resource_value(pod, Some(container), resource, sources)
            .map(Some)
            .map_err(EnvError);
    }
    if let Some(key) = &from.config_map_key_ref {
        let optional = key.optional == Some(true);
        let Some(map) = sources.config_maps.get(&key.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(EnvError(format!("configmap \"{}\" not found", key.name)))
            };
        };
        return match map.data.as_ref().and_then(|d| d.get(&key.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(EnvError(format!(
                "couldn't find key {} in ConfigMap {namespace}/{}",
                key.key, key.name
            ))),
        };
    }
    if let Some(key) = &from.secret_key_ref {
        let optional = key.optional == Some(true);
        let Some(secret) = sources.secrets.get(&key.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(EnvError(format!("secret \"{}\" not found", key.name)))
            };
        };
        return match secret.data.as_ref().and_then(|d| d.get(&key.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(EnvError(format!(
                "couldn't find key {} in Secret {namespace}/{}",
                key.key, key.name
            ))),
        };
    }
    if let Some(key) = &from.file_key_ref {
        return file_value(key, files);
    }
    Err(EnvError(
        "this source of an environment variable is not supported by the node".into(),
    ))
}

fn file_value(key: &FileKeySelector, files: &EnvFiles) -> Result<Option<String>, EnvError> {
    let file = (key.volume_name.clone(), key.path.clone());
    let told = |what: String| {
        EnvError(format!(
            "env file {:?} of volume {:?}: {what}",
            key.path, key.volume_name
        ))
    };
    let absent = |what: String| match key.optional {
        Some(true) => Ok(None),
        _ => Err(told(what)),
    };
    let Some(text) = files.get(&file).and_then(Option::as_deref) else {
        return absent("it does not exist".into());
    };
    let variables = env_file::parse(text).map_err(told)?;
    match variables.get(key.key.as_str()) {
        Some(value) => Ok(Some((*value).to_owned())),
        None => absent(format!("there is no key {:?} in it", key.key)),
    }
}

/// The value of a field of a pod, as the downward API names it.
///
/// # Errors
/// A path that the downward API does not know.
pub fn field_value(pod: &Pod, path: &str, sources: &Sources) -> Result<String, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        let values = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(values.and_then(|v| v.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => meta.name.clone().unwrap_or_default(),
        "metadata.namespace" => meta.namespace.clone().unwrap_or_default(),
        "metadata.uid" => meta.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => sources.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => sources.host_ips.join(","),
        "status.podIP" => sources.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => sources.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// A map as the downward API prints it: `key="value"`, one a line, sorted.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let all: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quoted(value)))
        .collect();
    all.join("\n")
}

/// The value of a container's request or limit, in units of the divisor, rounded up.
///
/// # Errors
/// An unknown container, resource or divisor.
pub fn resource_value(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    sources: &Sources,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|n| !n.is_empty());
    let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
    let container = match named {
        Some(name) => {
            let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            all.into_iter()
                .find(|c| c.name == name)
                .ok_or_else(|| format!("container {name} not found"))?
        }
        None => own.ok_or("a container name is needed")?,
    };
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let (list, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.clone().unwrap_or_default();
    let quantity = match list {
        "limits" => resources
            .limits
            .and_then(|l| l.get(name).cloned())
            .or_else(|| sources.allocatable.get(name).cloned()),
        "requests" => resources.requests.and_then(|l| l.get(name).cloned()),
        _ => return Err(unsupported()),
    };
    let one = Quantity("1".into());
    let divisor = selector
        .divisor
        .as_ref()
        .filter(|d| !d.0.is_empty() && d.0 != "0")
        .unwrap_or(&one);
    let divisor = api::quantity::parse(&divisor.0)?.nanos.max(1);
    let quantity = quantity.unwrap_or(Quantity("0".into()));
    Ok(quantity_rounded_up(&quantity, divisor).unwrap_or(0).to_string())
}

/// `$(NAME)` replaced by the variable's value; unknown names stay as they stand; `$$` is a dollar sign.
pub fn expand(text: &str, value_of: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match value_of(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The variables that tell of Services: those of the pod's namespace if `links`, and always the API's own.
pub fn service_variables(services: &[Service], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for service in services {
        let meta = &service.metadata;
        let name = meta.name.as_deref().unwrap_or_default();
        let is_api = meta.namespace.as_deref() == Some("default") && name == "kubernetes";
        let is_linked = links && meta.namespace.as_deref() == Some(namespace);
        let ip = service
            .spec
            .as_ref()
            .and_then(|s| s.cluster_ip.as_deref())
            .filter(|ip| !ip.is_empty() && *ip != "None");
        if let (true, Some(ip)) = (is_api || is_linked, ip) {
            variables_of(service, name, ip, &mut all);
        }
    }
    all
}

fn variables_of(service: &Service, name: &str, ip: &str, all: &mut BTreeMap<String, String>) {
    let shout = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    let name = shout(name);
    let ports = service
        .spec
        .as_ref()
        .and_then(|s| s.ports.as_deref())
        .unwrap_or_default();
    for (i, port) in ports.iter().enumerate() {
        let number = port.port;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.to_owned()
        };
        let url = format!("{}://{host}:{number}", protocol.to_ascii_lowercase());
        if i == 0 {
            all.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
            all.insert(format!("{name}_SERVICE_PORT"), number.to_string());
            all.insert(format!("{name}_PORT"), url.clone());
        }
        if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            all.insert(format!("{name}_SERVICE_PORT_{}", shout(port_name)), number.to_string());
        }
        let prefix = format!("{name}_PORT_{number}_{protocol}");
        all.insert(prefix.clone(), url);
        all.insert(format!("{prefix}_PROTO"), protocol.to_ascii_lowercase());
        all.insert(format!("{prefix}_PORT"), number.to_string());
        all.insert(format!("{prefix}_ADDR"), ip.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::{EnvVar, PodSpec, ServicePort, ServiceSpec};
    use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use proptest::prelude::*;

    fn pod() -> Pod {
        let metadata = ObjectMeta {
            name: Some("web-0".into()),
            namespace: Some("default".into()),
            labels: Some([("app".into(), "a\"b".into()), ("b".into(), "c".into())].into()),
            ..ObjectMeta::default()
        };
        Pod {
            metadata,
            spec: Some(PodSpec::default()),
            status: None,
        }
    }

    #[test]
    fn expansion() {
        let value = |name: &str| (name == "A").then(|| "1".to_owned());
        let check = |text: &str, expected: &str| assert_eq!(expand(text, value), expected, "{text}");
        check("x$(A)y", "x1y");
        check("$(B)", "$(B)");
        check("$$(A)", "$(A)");
        check("$$$(A)", "$1");
        check("$A $( $", "$A $( $");
        check("", "");
    }

    #[test]
    fn later_variables_see_earlier_ones_and_services() {
        let service = Service {
            metadata: ObjectMeta {
                name: Some("my-db".into()),
                namespace: Some("default".into()),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                cluster_ip: Some("10.96.1.1".into()),
                ports: Some(vec![ServicePort {
                    name: Some("sql".into()),
                    port: 5432,
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            status: None,
        };
        let sources = Sources {
            services: vec![service],
            ..Sources::default()
        };
        let var = |name: &str, value: &str| EnvVar {
            name: name.into(),
            value: Some(value.into()),
            value_from: None,
        };
        let container = Container {
            env: Some(vec![
                var("A", "1"),
                var("B", "$(A)-$(MY_DB_SERVICE_HOST)-$(C)"),
                var("C", "3"),
            ]),
            ..Container::default()
        };
        let env = environment(&pod(), &container, &sources, &EnvFiles::new()).unwrap();
        assert_eq!(env["B"], "1-10.96.1.1-$(C)");
        assert_eq!(env["MY_DB_PORT_5432_TCP"], "tcp://10.96.1.1:5432");
        assert_eq!(env["MY_DB_SERVICE_PORT_SQL"], "5432");
    }

    #[test]
    fn absent_objects() {
        use api::k8s::api::core::v1::ConfigMapKeySelector;
        let check = |optional: bool| {
            let key = ConfigMapKeySelector {
                name: "c".into(),
                key: "k".into(),
                optional: Some(optional),
            };
            let from = EnvVarSource {
                config_map_key_ref: Some(key),
                ..EnvVarSource::default()
            };
            let var = EnvVar {
                name: "A".into(),
                value: None,
                value_from: Some(from),
            };
            let container = Container {
                env: Some(vec![var]),
                ..Container::default()
            };
            environment(&pod(), &container, &Sources::default(), &EnvFiles::new())
        };
        assert_eq!(check(true), Ok(BTreeMap::new()));
        assert_eq!(check(false).unwrap_err().to_string(), "configmap \"c\" not found");
    }

    #[test]
    fn files_of_volumes() {
        let check = |path: &str, key: &str, optional: Option<bool>| {
            let key = FileKeySelector {
                volume_name: "v".into(),
                path: path.into(),
                key: key.into(),
                optional,
            };
            let from = EnvVarSource {
                file_key_ref: Some(key),
                ..EnvVarSource::default()
            };
            let var = EnvVar {
                name: "A".into(),
                value: None,
                value_from: Some(from),
            };
            let container = Container {
                env: Some(vec![var]),
                ..Container::default()
            };
            let content = |path: &str| match path {
                "good" => Some("K='v'\n".to_owned()),
                "bad" => Some("K=v\n".to_owned()),
                _ => None,
            };
            let wanted = env_file::wanted_env_files(&container).into_iter();
            let files = wanted.map(|file| (file.clone(), content(&file.1))).collect();
            let env = environment(&pod(), &container, &Sources::default(), &files);
            env.map(|env| env.get("A").cloned()).map_err(|error| error.0)
        };
        assert_eq!(check("good", "K", None), Ok(Some("v".into())));
        assert_eq!(check("good", "L", Some(true)), Ok(None));
        assert_eq!(check("none", "K", Some(true)), Ok(None));
        let refused = |path, key, optional| check(path, key, optional).unwrap_err();
        assert_eq!(
            refused("good", "L", Some(false)),
            "env file \"good\" of volume \"v\": there is no key \"L\" in it"
        );
        assert_eq!(
            refused("none", "K", None),
            "env file \"none\" of volume \"v\": it does not exist"
        );
        // That it may be absent does not make it right.
        assert_eq!(
            refused("bad", "K", Some(true)),
            "env file \"bad\" of volume \"v\": line 1: a value stands in single quotes"
        );
    }

    #[test]
    fn fields() {
        let sources = Sources {
            pod_ips: vec!["10.244.0.2".into(), "fd00::2".into()],
            host_ips: vec!["192.0.2.2".into(), "fd01::2".into()],
            ..Sources::default()
        };
        let check = |path: &str, expected: Result<&str, &str>| {
            let value = field_value(&pod(), path, &sources);
            assert_eq!(value.as_deref().map_err(String::as_str), expected, "{path}");
        };
        check("metadata.name", Ok("web-0"));
        check("metadata.labels['b']", Ok("c"));
        check("metadata.labels", Ok("app=\"a\\\"b\"\nb=\"c\""));
        check("status.podIP", Ok("10.244.0.2"));
        check("status.podIPs", Ok("10.244.0.2,fd00::2"));
        check("status.hostIP", Ok("192.0.2.2"));
        check("status.hostIPs", Ok("192.0.2.2,fd01::2"));
        check("spec.nope", Err("unsupported fieldPath: spec.nope"));
    }

    proptest! {
        #[test]
        fn text_without_dollars_stays(text in "[^$]*") {
            prop_assert_eq!(expand(&text, |_| None), text);
        }

        #[test]
        fn never_panics(text in ".*") {
            expand(&text, |name| Some(name.to_owned()));
        }
    }
}
