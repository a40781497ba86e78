//! Objects in an etcd cluster instead of the data directory, shared by several control planes.

use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use std::path::{Path, PathBuf};
use store_etcd::{EtcdStore, Tls};

/// Everything that the API keeps is below this.
const OBJECTS: &str = "/registry/";

/// What may be typed; a configuration file takes the same names.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct EtcdArgs {
    /// Keep objects in this etcd cluster, e.g. https://a:2379,https://b:2379 [default: in the data directory]
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub(crate) etcd_servers: Option<Vec<String>>,
    /// The authority (PEM) that signed the certificates of etcd
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_cafile: Option<PathBuf>,
    /// Our certificate (PEM) for etcd
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_certfile: Option<PathBuf>,
    /// The key (PEM) of our certificate for etcd
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_keyfile: Option<PathBuf>,
    /// Put in front of all keys in etcd, so that several clusters can share it [default: nothing]
    #[arg(long, value_name = "PREFIX")]
    pub(crate) etcd_prefix: Option<String>,
}

/// The cluster to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Etcd {
    pub(crate) servers: Vec<String>,
    pub(crate) cafile: Option<PathBuf>,
    /// The certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    pub(crate) prefix: String,
}

/// What was typed over what the file says; `None` if objects stay in the data directory.
pub(crate) fn resolve(typed: &EtcdArgs, file: EtcdArgs, errors: &mut Vec<String>) -> Option<Etcd> {
    let cafile = typed.etcd_cafile.clone().or(file.etcd_cafile);
    let certfile = typed.etcd_certfile.clone().or(file.etcd_certfile);
    let keyfile = typed.etcd_keyfile.clone().or(file.etcd_keyfile);
    let prefix = typed.etcd_prefix.clone().or(file.etcd_prefix);
    let Some(servers) = typed.etcd_servers.clone().or(file.etcd_servers) else {
        if cafile.is_some() || certfile.is_some() || keyfile.is_some() || prefix.is_some() {
            errors.push("etcd-cafile, etcd-certfile, etcd-keyfile and etcd-prefix need etcd-servers".to_owned());
        }
        return None;
    };
    let client = match (certfile, keyfile) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            errors.push("etcd-certfile and etcd-keyfile go together".to_owned());
            None
        }
    };
    if client.is_some() && cafile.is_none() {
        errors.push("etcd-certfile needs etcd-cafile".to_owned());
    }
    let prefix = prefix.unwrap_or_default();
    if !prefix.is_empty() && (!prefix.starts_with('/') || prefix.ends_with('/') || !prefix.is_ascii()) {
        errors.push(format!("etcd-prefix {prefix:?} must look like /name"));
    }
    Some(Etcd {
        servers,
        cafile,
        client,
        prefix,
    })
}

impl Etcd {
    /// Connects, and makes sure that the keys are Steadfast's own.
    ///
    /// # Errors
    /// When a file cannot be read, the cluster does not answer, or holds another program's objects.
    pub(crate) async fn connect(&self) -> anyhow::Result<EtcdStore> {
        let client = match &self.client {
            Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
            None => None,
        };
        let tls = match &self.cafile {
            Some(ca) => Some(Tls { ca: read(ca)?, client }),
            None => None,
        };
        let config = store_etcd::Config {
            endpoints: self.servers.clone(),
            tls,
            prefix: self.prefix.clone(),
            ..store_etcd::Config::default()
        };
        let store = EtcdStore::connect(&config).await?;
        store.claim(OBJECTS).await?;
        Ok(store)
    }
}

/// The rows of a configuration file: what each entry means, its name, its value.
pub(crate) fn rows(etcd: Option<&Etcd>) -> [(&'static str, &'static str, Option<String>); 5] {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let path = |path: &Path| quoted(&path.display().to_string());
    let client = etcd.and_then(|etcd| etcd.client.as_ref());
    [
        (
            "The etcd cluster that keeps objects; without it the data directory does.",
            "etcd-servers",
            etcd.map(|etcd| serde_json::Value::from(etcd.servers.clone()).to_string()),
        ),
        (
            "The authority (PEM) that signed the certificates of etcd.",
            "etcd-cafile",
            etcd.and_then(|etcd| etcd.cafile.as_deref()).map(path),
        ),
        (
            "Our certificate (PEM) for etcd.",
            "etcd-certfile",
            client.map(|(certificate, _)| path(certificate)),
        ),
        (
            "The key (PEM) of our certificate for etcd.",
            "etcd-keyfile",
            client.map(|(_, key)| path(key)),
        ),
        (
            "Put in front of all keys in etcd, so that several clusters can share it.",
            "etcd-prefix",
            etcd.filter(|etcd| !etcd.prefix.is_empty())
                .map(|etcd| quoted(&etcd.prefix)),
        ),
    ]
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if !path.is_file() {
        bail!("there is no file {}", path.display());
    }
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(change: impl FnOnce(&mut EtcdArgs)) -> Vec<String> {
        let mut typed = EtcdArgs::default();
        change(&mut typed);
        let mut errors = Vec::new();
        resolve(&typed, EtcdArgs::default(), &mut errors);
        errors
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let servers = Some(vec!["https://a:2379".to_owned()]);
        assert!(errors(|_| {}).is_empty());
        assert!(errors(|a| a.etcd_servers = servers.clone()).is_empty());
        assert_eq!(errors(|a| a.etcd_cafile = Some("ca".into())).len(), 1);
        let half = errors(|a| {
            a.etcd_servers = servers.clone();
            a.etcd_keyfile = Some("key".into());
        });
        assert_eq!(half, ["etcd-certfile and etcd-keyfile go together"]);
        let odd = errors(|a| {
            a.etcd_servers = servers.clone();
            a.etcd_prefix = Some("a".into());
        });
        assert_eq!(odd, [r#"etcd-prefix "a" must look like /name"#]);
    }
}
