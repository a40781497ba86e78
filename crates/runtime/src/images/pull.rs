//! Pulls images from registries.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use futures::{FutureExt, StreamExt, TryStreamExt};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::manifest::{Descriptor, Document, ImageConfig, MANIFEST_TYPES, architecture, for_this_machine};
use super::reference::Reference;
use super::store::{Image, Store, chain_ids, check};
use super::unpack::hex;
use super::{Error, at};

/// Layers transferred at the same time.
const DOWNLOADS_MAX: usize = 3;

/// A registry that says nothing for so long is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How to present oneself to a registry.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) token: String,
}

/// Pulls `name` into the store.
///
/// # Errors
/// As [`Error`] tells; nothing of a failed pull can be seen.
pub(crate) async fn pull(store: &Store, name: &str, credentials: &Credentials) -> Result<Image, Error> {
    let reference = Reference::parse(name)?;
    let lease = store.lease()?;
    let pull = Pull {
        store,
        client: client(&reference),
        remote: remote(&reference)?,
        reference,
    };
    let image = pull.run(credentials).await;
    drop(lease);
    image
}

struct Pull<'a> {
    store: &'a Store,
    client: oci_client::Client,
    reference: Reference,
    remote: oci_client::Reference,
}

impl Pull<'_> {
    async fn run(&self, credentials: &Credentials) -> Result<Image, Error> {
        let auth = auth(credentials);
        let (bytes, digest) = self.manifest(&self.remote, &auth).await?;
        let (config, layers) = match Document::parse(&bytes)? {
            Document::Manifest { config, layers } => (config, layers),
            Document::Index { manifests } => {
                let chosen = for_this_machine(&manifests).ok_or_else(|| self.no_platform())?;
                let remote = self.remote.clone_with_digest(chosen.digest.clone());
                let (bytes, _) = self.manifest(&remote, &auth).await?;
                match Document::parse(&bytes)? {
                    Document::Manifest { config, layers } => (config, layers),
                    Document::Index { .. } => return Err(self.no_platform()),
                }
            }
        };
        let image_config = self.config(&config).await?;
        let names = self.layers(&image_config, &layers).await?;
        let image = Image {
            id: config.digest.clone(),
            tags: self.reference.tagged().into_iter().collect(),
            digests: [format!("{}@{digest}", self.reference.place())].into(),
            layers: names,
            size: config.size + layers.iter().map(|layer| layer.size).sum::<u64>(),
            config: image_config,
        };
        self.store.add(image)
    }

    fn no_platform(&self) -> Error {
        Error::Platform {
            name: self.reference.to_string(),
            architecture: architecture().to_owned(),
        }
    }

    async fn manifest(
        &self,
        remote: &oci_client::Reference,
        auth: &RegistryAuth,
    ) -> Result<(bytes::Bytes, String), Error> {
        let pulled = self.client.pull_manifest_raw(remote, auth, &MANIFEST_TYPES).await;
        let (bytes, _) = pulled.map_err(|error| self.explain(error))?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        if let Some(expected) = remote.digest() {
            check("the manifest", expected, &bytes)?;
        }
        Ok((bytes, digest))
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<ImageConfig, Error> {
        let path = self.download(descriptor).await?;
        let bytes = std::fs::read(&path).map_err(at("read", &path))?;
        let kept = self.store.blob(&descriptor.digest);
        std::fs::rename(&path, &kept).map_err(at("make", &kept))?;
        let config = ImageConfig::parse(&bytes)?;
        if !config.architecture.is_empty() && config.architecture != architecture() {
            return Err(self.no_platform());
        }
        Ok(config)
    }

    /// Downloads the missing layers, a few at a time, and unpacks each as soon as those below it are there.
    async fn layers(&self, config: &ImageConfig, layers: &[Descriptor]) -> Result<Vec<String>, Error> {
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            let reason = format!("it has {} layers, its configuration {}", layers.len(), diff_ids.len());
            return Err(Error::Content {
                what: self.reference.to_string(),
                reason,
            });
        }
        let chains = chain_ids(diff_ids);
        let downloads: Vec<_> = layers
            .iter()
            .zip(&chains)
            .map(|(layer, chain)| self.fetch(layer, chain).boxed())
            .collect();
        let mut downloads = futures::stream::iter(downloads).buffered(DOWNLOADS_MAX);
        let mut names: Vec<String> = Vec::new();
        for (diff_id, chain) in diff_ids.iter().zip(&chains) {
            let Some(path) = downloads.next().await.transpose()?.flatten() else {
                names.extend(self.store.layer(chain)?);
                continue;
            };
            let (store, lower) = (self.store.clone(), names.clone());
            let (diff_id, chain) = (diff_id.clone(), chain.clone());
            let unpack = move || {
                let name = store.unpack(&path, &diff_id, &chain, &lower)?;
                // Nothing reads the blob again; containers are made of the unpacked files.
                crate::disk::remove_file(&path).map_err(at("remove", &path))?;
                Ok(name)
            };
            names.push(
                tokio::task::spawn_blocking(unpack)
                    .await
                    .map_err(|error| Error::disk("unpack a layer")(error.into()))??,
            );
        }
        Ok(names)
    }

    /// Downloads a layer unless it is unpacked already.
    async fn fetch(&self, layer: &Descriptor, chain: &str) -> Result<Option<PathBuf>, Error> {
        match self.store.layer(chain)? {
            Some(_) => Ok(None),
            None => self.download(layer).await.map(Some),
        }
    }

    /// Downloads a blob under a name of its own; it is verified and whole when this returns.
    async fn download(&self, descriptor: &Descriptor) -> Result<PathBuf, Error> {
        if !super::reference::is_digest(&descriptor.digest) {
            let reason = format!("{:?} is not a sha256 digest", descriptor.digest);
            return Err(Error::Content {
                what: self.reference.to_string(),
                reason,
            });
        }
        let path = self
            .store
            .blob(&descriptor.digest)
            .with_extension(format!("{}.part", uuid::Uuid::new_v4()));
        let done = self.transfer(descriptor, &path).await;
        if done.is_err() {
            crate::disk::remove_file(&path).map_err(at("remove", &path))?;
        }
        done.map(|()| path)
    }

    async fn transfer(&self, descriptor: &Descriptor, path: &Path) -> Result<(), Error> {
        let stream = self
            .client
            .pull_blob_stream(&self.remote, descriptor.digest.as_str())
            .await;
        let mut stream = stream.map_err(|error| self.explain(error))?;
        let mut file = tokio::fs::File::create(path).await.map_err(at("make", path))?;
        let mut hash = Sha256::new();
        while let Some(bytes) = stream.try_next().await.map_err(|error| self.explain(error.into()))? {
            hash.update(&bytes);
            file.write_all(&bytes).await.map_err(at("write", path))?;
        }
        file.sync_all().await.map_err(at("write", path))?;
        let actual = format!("sha256:{}", hex(&hash.finalize()));
        if actual != descriptor.digest {
            return Err(Error::Digest {
                what: "a blob".to_owned(),
                expected: descriptor.digest.clone(),
                actual,
            });
        }
        Ok(())
    }

    fn explain(&self, error: OciDistributionError) -> Error {
        let name = self.reference.to_string();
        match &error {
            OciDistributionError::ImageManifestNotFoundError(reason) => Error::NotFound {
                name,
                reason: reason.clone(),
            },
            OciDistributionError::RegistryError { envelope, .. }
                if envelope.errors.iter().any(|error| {
                    matches!(
                        error.code,
                        OciErrorCode::ManifestUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound
                    )
                }) =>
            {
                Error::NotFound {
                    name,
                    reason: error.to_string(),
                }
            }
            OciDistributionError::ServerError { code: 404, .. } => Error::NotFound {
                name,
                reason: error.to_string(),
            },
            OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
                Error::NotAllowed {
                    name,
                    reason: error.to_string(),
                }
            }
            _ => Error::Registry {
                name,
                source: Box::new(error),
            },
        }
    }
}

fn remote(reference: &Reference) -> Result<oci_client::Reference, Error> {
    // A digest is exact; a tag beside it is only a name for people.
    let mut exact = reference.clone();
    if exact.digest.is_some() {
        exact.tag = None;
    }
    exact
        .to_string()
        .parse()
        .map_err(|error: oci_client::ParseError| Error::Name {
            name: reference.to_string(),
            reason: error.to_string(),
        })
}

fn client(reference: &Reference) -> oci_client::Client {
    static PROVIDER: Once = Once::new();
    // If another part of the process has chosen a provider, that one serves as well.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let protocol = if reference.is_local() {
        ClientProtocol::Http
    } else {
        ClientProtocol::Https
    };
    oci_client::Client::new(ClientConfig {
        protocol,
        read_timeout: Some(READ_TIMEOUT),
        connect_timeout: Some(CONNECT_TIMEOUT),
        user_agent: concat!("steadfast/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
}

fn auth(credentials: &Credentials) -> RegistryAuth {
    if !credentials.token.is_empty() {
        return RegistryAuth::Bearer(credentials.token.clone());
    }
    if credentials.username.is_empty() {
        return RegistryAuth::Anonymous;
    }
    RegistryAuth::Basic(credentials.username.clone(), credentials.password.clone())
}
