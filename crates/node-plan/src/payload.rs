//! The files of configMap, secret, downwardAPI and projected volumes, and the objects that a pod refers to.

use crate::definitions::definitions;
use crate::env::{Sources, field_value, resource_value};
use api::k8s::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, PodSpec, Secret, Volume, VolumeProjection,
};
use std::collections::{BTreeMap, BTreeSet};

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFile {
    /// Its content.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Whose it is, where that is not root.
    pub owner: Option<u32>,
}

/// Why a volume's files cannot be made; `Display` is the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadError(pub String);

impl std::fmt::Display for PayloadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PayloadError {}

/// An object that a pod refers to, by name in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// A ConfigMap.
    ConfigMap(String),
    /// A Secret.
    Secret(String),
    /// A PersistentVolumeClaim.
    Claim(String),
    /// A token of the pod's service account: audience and seconds.
    Token(String, i64),
}

/// The mode of files without one.
const DEFAULT_MODE: i32 = 0o644;
/// The life of a service account token without one.
const DEFAULT_TOKEN_S: i64 = 3600;

type Files = BTreeMap<String, PayloadFile>;

/// The files of a volume, by relative path; `None` if the volume is of another type.
///
/// # Errors
/// An object, key or field that is needed and absent; a path that would leave the volume.
pub fn volume_payload(pod: &Pod, volume: &Volume, sources: &Sources) -> Result<Option<Files>, PayloadError> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        add_config_map(
            &source.name,
            source.items.as_deref(),
            source.optional,
            mode,
            sources,
            &mut files,
        )?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        add_secret(
            name,
            source.items.as_deref(),
            source.optional,
            mode,
            sources,
            &mut files,
        )?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        add_downward(
            pod,
            source.items.as_deref().unwrap_or_default(),
            mode,
            sources,
            &mut files,
        )?;
    } else if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        for projection in source.sources.iter().flatten() {
            add_projection(pod, projection, mode, sources, &mut files)?;
        }
    } else {
        return Ok(None);
    }
    match files.keys().find(|path| !is_inside(path)) {
        Some(path) => Err(PayloadError(format!(
            "invalid path: must be relative and may not contain '..': {path}"
        ))),
        None => Ok(Some(files)),
    }
}

fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && path.split('/').all(|part| !part.is_empty() && part != "..")
        && !path.starts_with("..")
}

fn file(content: Vec<u8>, mode: Option<i32>, default_mode: i32) -> PayloadFile {
    PayloadFile {
        content,
        mode: u32::try_from(mode.unwrap_or(default_mode)).unwrap_or(0) & 0o777,
        owner: None,
    }
}

fn add_config_map(
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
    sources: &Sources,
    files: &mut Files,
) -> Result<(), PayloadError> {
    let all = match sources.config_maps.get(name) {
        Some(map) => contents_of_map(map),
        None if optional == Some(true) => return Ok(()),
        None => return Err(PayloadError(format!("configmap \"{name}\" not found"))),
    };
    add_keys(all, items, optional, mode, "config key", files)
}

fn add_secret(
    name: &str,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
    sources: &Sources,
    files: &mut Files,
) -> Result<(), PayloadError> {
    let all = match sources.secrets.get(name) {
        Some(secret) => contents_of_secret(secret),
        None if optional == Some(true) => return Ok(()),
        None => return Err(PayloadError(format!("secret \"{name}\" not found"))),
    };
    add_keys(all, items, optional, mode, "secret key", files)
}

fn contents_of_map(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    text.chain(
        map.binary_data
            .iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.0.clone())),
    )
    .collect()
}

fn contents_of_secret(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()))
        .collect()
}

fn add_keys(
    mut all: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    mode: i32,
    what: &str,
    files: &mut Files,
) -> Result<(), PayloadError> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        files.extend(all.into_iter().map(|(key, content)| (key, file(content, None, mode))));
        return Ok(());
    };
    for item in items {
        match all.get_mut(&item.key) {
            Some(content) => {
                files.insert(item.path.clone(), file(content.clone(), item.mode, mode));
            }
            None if optional == Some(true) => {}
            None => return Err(PayloadError(format!("references non-existent {what}: {}", item.key))),
        }
    }
    Ok(())
}

fn add_downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    sources: &Sources,
    files: &mut Files,
) -> Result<(), PayloadError> {
    for item in items {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => field_value(pod, &field.field_path, sources),
            (None, Some(resource)) => resource_value(pod, None, resource, sources),
            (None, None) => Ok(String::new()),
        };
        files.insert(
            item.path.clone(),
            file(value.map_err(PayloadError)?.into_bytes(), item.mode, mode),
        );
    }
    Ok(())
}

fn add_projection(
    pod: &Pod,
    projection: &VolumeProjection,
    mode: i32,
    sources: &Sources,
    files: &mut Files,
) -> Result<(), PayloadError> {
    if let Some(p) = &projection.config_map {
        add_config_map(&p.name, p.items.as_deref(), p.optional, mode, sources, files)
    } else if let Some(p) = &projection.secret {
        add_secret(&p.name, p.items.as_deref(), p.optional, mode, sources, files)
    } else if let Some(p) = &projection.downward_api {
        add_downward(pod, p.items.as_deref().unwrap_or_default(), mode, sources, files)
    } else if let Some(p) = &projection.service_account_token {
        let key = (
            p.audience.clone().unwrap_or_default(),
            p.expiration_seconds.unwrap_or(DEFAULT_TOKEN_S),
        );
        let token = sources
            .tokens
            .get(&key)
            .ok_or_else(|| PayloadError("failed to fetch token".into()))?;
        files.insert(p.path.clone(), token_file(pod, token, mode));
        Ok(())
    } else {
        Err(PayloadError(
            "this source of a projected volume is not supported by the node".into(),
        ))
    }
}

/// A token is read by its pod's user and group only, where the pod says who they are.
fn token_file(pod: &Pod, token: &str, mode: i32) -> PayloadFile {
    let owner = pod.spec.as_ref().and_then(only_user);
    let security = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let is_known = owner.is_some() || security.is_some_and(|s| s.fs_group.is_some());
    PayloadFile {
        owner,
        ..file(token.as_bytes().to_vec(), None, if is_known { 0o600 } else { mode })
    }
}

/// The user that all containers of a pod run as, if it is said of all and is the same.
fn only_user(spec: &PodSpec) -> Option<u32> {
    let of_pod = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = definitions(spec).map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod));
    let first = users.next()??;
    if users.all(|user| user == Some(first)) {
        u32::try_from(first).ok()
    } else {
        None
    }
}

/// The objects that a pod refers to.
pub fn wanted_objects(pod: &Pod) -> BTreeSet<Wanted> {
    let mut wanted = BTreeSet::new();
    let Some(spec) = &pod.spec else { return wanted };
    for volume in spec.volumes.iter().flatten() {
        wanted_by_volume(pod, volume, &mut wanted);
    }
    for container in definitions(spec) {
        for from in container.env_from.iter().flatten() {
            wanted.extend(from.config_map_ref.iter().map(|r| Wanted::ConfigMap(r.name.clone())));
            wanted.extend(from.secret_ref.iter().map(|r| Wanted::Secret(r.name.clone())));
        }
        for from in container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            wanted.extend(
                from.config_map_key_ref
                    .iter()
                    .map(|r| Wanted::ConfigMap(r.name.clone())),
            );
            wanted.extend(from.secret_key_ref.iter().map(|r| Wanted::Secret(r.name.clone())));
        }
    }
    let pull_secrets = spec.image_pull_secrets.iter().flatten();
    wanted.extend(
        pull_secrets
            .filter(|s| !s.name.is_empty())
            .map(|s| Wanted::Secret(s.name.clone())),
    );
    wanted
}

fn wanted_by_volume(pod: &Pod, volume: &Volume, wanted: &mut BTreeSet<Wanted>) {
    wanted.extend(volume.config_map.iter().map(|s| Wanted::ConfigMap(s.name.clone())));
    wanted.extend(
        volume
            .secret
            .iter()
            .filter_map(|s| s.secret_name.clone())
            .map(Wanted::Secret),
    );
    wanted.extend(
        volume
            .persistent_volume_claim
            .iter()
            .map(|s| Wanted::Claim(s.claim_name.clone())),
    );
    if volume.ephemeral.is_some() {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        wanted.insert(Wanted::Claim(format!("{name}-{}", volume.name)));
    }
    for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
        wanted.extend(source.config_map.iter().map(|s| Wanted::ConfigMap(s.name.clone())));
        wanted.extend(source.secret.iter().map(|s| Wanted::Secret(s.name.clone())));
        wanted.extend(source.service_account_token.iter().map(|s| {
            Wanted::Token(
                s.audience.clone().unwrap_or_default(),
                s.expiration_seconds.unwrap_or(DEFAULT_TOKEN_S),
            )
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::core::v1::{ConfigMapVolumeSource, Container, PodSecurityContext, SecurityContext};

    fn sources() -> Sources {
        let map = ConfigMap {
            data: Some([("a".into(), "1".into()), ("b".into(), "2".into())].into()),
            ..ConfigMap::default()
        };
        Sources {
            config_maps: [("c".to_owned(), map)].into(),
            ..Sources::default()
        }
    }

    fn volume(source: ConfigMapVolumeSource) -> Volume {
        Volume {
            name: "v".into(),
            config_map: Some(source),
            ..Volume::default()
        }
    }

    #[test]
    fn all_keys_or_the_listed_ones() {
        let all = volume(ConfigMapVolumeSource {
            name: "c".into(),
            ..ConfigMapVolumeSource::default()
        });
        let files = volume_payload(&Pod::default(), &all, &sources()).unwrap().unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            files["a"],
            PayloadFile {
                content: b"1".to_vec(),
                mode: 0o644,
                owner: None
            }
        );
        let item = KeyToPath {
            key: "b".into(),
            path: "x/y".into(),
            mode: Some(0o400),
        };
        let some = volume(ConfigMapVolumeSource {
            name: "c".into(),
            items: Some(vec![item]),
            ..ConfigMapVolumeSource::default()
        });
        let files = volume_payload(&Pod::default(), &some, &sources()).unwrap().unwrap();
        assert_eq!(
            files["x/y"],
            PayloadFile {
                content: b"2".to_vec(),
                mode: 0o400,
                owner: None
            }
        );
    }

    #[test]
    fn tokens_are_their_users_alone() {
        let check = |of_pod: PodSecurityContext, of_containers: &[Option<i64>], expected: (u32, Option<u32>)| {
            let container = |user: &Option<i64>| Container {
                security_context: user.map(|user| SecurityContext {
                    run_as_user: Some(user),
                    ..SecurityContext::default()
                }),
                ..Container::default()
            };
            let spec = PodSpec {
                containers: of_containers.iter().map(container).collect(),
                security_context: Some(of_pod),
                ..PodSpec::default()
            };
            let pod = Pod {
                spec: Some(spec),
                ..Pod::default()
            };
            let file = token_file(&pod, "t", 0o644);
            assert_eq!((file.mode, file.owner), expected);
        };
        let user = |user| PodSecurityContext {
            run_as_user: user,
            ..PodSecurityContext::default()
        };
        check(user(None), &[None], (0o644, None));
        check(user(Some(1000)), &[None, None], (0o600, Some(1000)));
        check(user(Some(1000)), &[None, Some(2000)], (0o644, None));
        check(user(None), &[Some(7), Some(7)], (0o600, Some(7)));
        let group = PodSecurityContext {
            fs_group: Some(5),
            ..PodSecurityContext::default()
        };
        check(group, &[None], (0o600, None));
    }

    #[test]
    fn what_is_absent() {
        let check = |name: &str, key: &str, optional: bool| {
            let item = KeyToPath {
                key: key.into(),
                path: "p".into(),
                mode: None,
            };
            let source = ConfigMapVolumeSource {
                name: name.into(),
                items: Some(vec![item]),
                optional: Some(optional),
                ..ConfigMapVolumeSource::default()
            };
            volume_payload(&Pod::default(), &volume(source), &sources())
                .map(|f| f.unwrap().len())
                .map_err(|e| e.0)
        };
        assert_eq!(check("d", "a", true), Ok(0));
        assert_eq!(check("d", "a", false), Err("configmap \"d\" not found".into()));
        assert_eq!(
            check("c", "z", false),
            Err("references non-existent config key: z".into())
        );
        assert_eq!(check("c", "z", true), Ok(0));
    }

    #[test]
    fn paths_stay_inside() {
        for (path, fine) in [
            ("a", true),
            ("a/b", true),
            ("../a", false),
            ("/a", false),
            ("a/../b", false),
            ("..data", false),
            ("", false),
        ] {
            assert_eq!(is_inside(path), fine, "{path}");
        }
    }

    #[test]
    fn references_are_found() {
        let all = volume(ConfigMapVolumeSource {
            name: "c".into(),
            ..ConfigMapVolumeSource::default()
        });
        let pod = Pod {
            spec: Some(PodSpec {
                volumes: Some(vec![all]),
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        assert_eq!(wanted_objects(&pod), [Wanted::ConfigMap("c".into())].into());
    }
}
