//! Images from a registry: Debian's docker-registry on loopback.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::bed::{Bed, busybox, hex, shell};
use cri::v1::*;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;

struct Registry {
    server: Child,
    host: String,
    _folder: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.kill().expect("killed");
        self.server.wait().expect("reaped");
    }
}

impl Registry {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // The registry cannot tell which port it chose, so we choose one that was free.
        let host = TcpListener::bind("127.0.0.1:0")
            .expect("a port")
            .local_addr()
            .expect("an address")
            .to_string();
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("config.yml"), config).expect("written");
        let mut server = Command::new("docker-registry");
        server
            .arg("serve")
            .arg(folder.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let registry = Self {
            server: server.spawn().expect("docker-registry is installed"),
            host,
            _folder: folder,
        };
        while tokio::net::TcpStream::connect(&registry.host).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        registry
    }

    /// Pushes an image with these layers behind an index of two machines; returns the digest of its configuration.
    async fn push(&self, name: &str, layers: &[Vec<u8>], config: &[u8]) -> String {
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = oci_client::Client::new(ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        });
        let reference: oci_client::Reference = format!("{}/{name}", self.host).parse().expect("a name");
        client
            .auth(
                &reference,
                &RegistryAuth::Anonymous,
                oci_client::RegistryOperation::Push,
            )
            .await
            .expect("allowed");
        let mut described = Vec::new();
        for layer in layers {
            let digest = format!("sha256:{}", hex(layer));
            client
                .push_blob(&reference, layer.clone(), &digest)
                .await
                .expect("pushed");
            described.push(serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": layer.len()}));
        }
        let digest = format!("sha256:{}", hex(config));
        client
            .push_blob(&reference, config.to_vec(), &digest)
            .await
            .expect("pushed");
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()},
            "layers": described,
        })
        .to_string();
        let manifest_digest = format!("sha256:{}", hex(manifest.as_bytes()));
        let by_digest = reference.clone_with_digest(manifest_digest.clone());
        let media_type = http::HeaderValue::from_static("application/vnd.oci.image.manifest.v1+json");
        client
            .push_manifest_raw(&by_digest, manifest.clone().into_bytes(), media_type)
            .await
            .expect("pushed");
        let architecture = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        let entry = |architecture: &str| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": manifest_digest,
                "size": manifest.len(),
                "platform": {"os": "linux", "architecture": architecture},
            })
        };
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [entry("s390x"), entry(architecture)],
        });
        let media_type = http::HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
        client
            .push_manifest_raw(&reference, index.to_string().into_bytes(), media_type)
            .await
            .expect("pushed");
        digest
    }
}

/// A tar of one file, or of a whiteout.
fn layer_of(path: &str, content: &[u8]) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    layer.append_data(&mut header, path, content).expect("added");
    layer.into_inner().expect("a layer")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, bytes).expect("memory");
    gzip.finish().expect("memory")
}

async fn pull(bed: &mut Bed, name: &str) -> Result<String, tonic::Status> {
    let image = Some(ImageSpec {
        image: name.into(),
        ..ImageSpec::default()
    });
    Ok(bed
        .images
        .pull_image(PullImageRequest {
            image,
            auth: None,
            sandbox_config: None,
        })
        .await?
        .into_inner()
        .image_ref)
}

#[tokio::test]
async fn images_are_pulled_from_a_registry() {
    let (mut bed, registry) = (Bed::new(15).await, Registry::start().await);
    let (base, config) = busybox();
    let added = layer_of("tmp/added", b"from the second layer\n");
    let hidden = layer_of("root/.wh.gone", b"");
    let lower = layer_of("root/gone", b"x");
    let mut config: serde_json::Value = serde_json::from_slice(&config).expect("json");
    let plain = [base.clone(), lower.clone(), added.clone(), hidden.clone()];
    config["rootfs"]["diff_ids"] = plain
        .iter()
        .map(|layer| serde_json::json!(format!("sha256:{}", hex(layer))))
        .collect();
    config["config"]["User"] = serde_json::json!("app");
    let layers = [
        gzip(&base),
        lower,
        zstd::encode_all(added.as_slice(), 1).expect("memory"),
        gzip(&hidden),
    ];
    let id = registry
        .push("team/app:v1", &layers, config.to_string().as_bytes())
        .await;
    let name = format!("{}/team/app:v1", registry.host);
    assert_eq!(pull(&mut bed, &name).await.expect("pulled"), id);
    assert_eq!(pull(&mut bed, &name).await.expect("pulled again"), id);
    let image = Some(ImageSpec {
        image: name.clone(),
        ..ImageSpec::default()
    });
    let status = bed
        .images
        .image_status(ImageStatusRequest { image, verbose: false })
        .await
        .expect("a status")
        .into_inner()
        .image
        .expect("there");
    assert_eq!(
        (status.repo_tags, status.username.as_str()),
        (vec![name.clone()], "app")
    );
    let sandbox = bed.sandbox("web-0").await;
    let script = "id; cat /tmp/added; ls -ld /tmp; ls -a /root";
    let container = bed
        .run(
            &sandbox,
            ContainerConfig {
                image: Some(ImageSpec {
                    image: id.clone(),
                    ..ImageSpec::default()
                }),
                ..shell("main", script)
            },
        )
        .await;
    bed.ended(&container).await;
    let output = bed.output("web-0", "main");
    // A layer that does not name /tmp must not change it.
    for text in ["uid=1000(app)", "from the second layer", "drwxrwxrwt"] {
        assert!(output.contains(text), "{text:?} is not in {output}");
    }
    assert!(!output.contains("gone"), "{output}");
    let error = pull(&mut bed, &format!("{}/team/app:nope", registry.host))
        .await
        .expect_err("no such tag");
    assert_eq!(error.code(), tonic::Code::NotFound, "{error}");
    let error = pull(&mut bed, "127.0.0.1:1/x").await.expect_err("no such registry");
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
    assert_eq!(
        pull(&mut bed, "Bad Name").await.expect_err("no name").code(),
        tonic::Code::InvalidArgument
    );
}

#[tokio::test]
async fn what_does_not_match_its_digest_is_refused() {
    let (mut bed, registry) = (Bed::new(16).await, Registry::start().await);
    let (base, config) = busybox();
    let other = gzip(&layer_of("evil", b"x"));
    let mut lying: serde_json::Value = serde_json::from_slice(&config).expect("json");
    lying["rootfs"]["diff_ids"] = serde_json::json!([format!("sha256:{}", hex(b"something else"))]);
    registry.push("bad:v1", &[other], lying.to_string().as_bytes()).await;
    let error = pull(&mut bed, &format!("{}/bad:v1", registry.host))
        .await
        .expect_err("refused");
    assert_eq!(error.code(), tonic::Code::DataLoss, "{error}");
    let images = bed
        .images
        .list_images(ListImagesRequest::default())
        .await
        .expect("listed")
        .into_inner()
        .images;
    assert_eq!(images.len(), 1);
    // Removing the last name removes the image and its layers, but not those under a container.
    registry.push("good:v1", &[gzip(&base)], &config).await;
    let layers = bed.root().join("images/layers");
    let sandbox = bed.sandbox("web-0").await;
    let container = bed.run(&sandbox, shell("main", "sleep 1000")).await;
    let remove = |name: &str| RemoveImageRequest {
        image: Some(ImageSpec {
            image: name.into(),
            ..ImageSpec::default()
        }),
    };
    bed.images.remove_image(remove("busybox:test")).await.expect("removed");
    bed.images
        .remove_image(remove("busybox:test"))
        .await
        .expect("removed again");
    assert_eq!(std::fs::read_dir(&layers).expect("listed").count(), 1);
    bed.exec(&container, &["ls", "/bin"]).await.expect("the layer is there");
    bed.runtime
        .remove_container(RemoveContainerRequest {
            container_id: container,
        })
        .await
        .expect("removed");
    pull(&mut bed, &format!("{}/good:v1", registry.host))
        .await
        .expect("pulled");
    bed.images
        .remove_image(remove(&format!("{}/good:v1", registry.host)))
        .await
        .expect("removed");
    assert_eq!(std::fs::read_dir(&layers).expect("listed").count(), 0);
}
