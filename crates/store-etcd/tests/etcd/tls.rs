//! Encrypted connections, in both directions authenticated.

use crate::{all, commit, put, texts};
use conformance::etcd::{Certificates, Etcd};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use std::path::Path;
use std::time::Duration;
use store_etcd::{Config, ConnectError, EtcdStore, Tls};

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for servers and clients, and its key.
fn leaf(authority: &CertifiedIssuer<'_, KeyPair>, name: &str) -> (String, String) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn write(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn etcd_with_certificates_is_used_and_a_stranger_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (address, authority, stranger) = (Etcd::address(), authority(), authority());
    let (certificate, key) = leaf(&authority, &address.to_string());
    let certificates = Certificates {
        ca: write(dir.path(), "ca", &authority.pem()),
        certificate: write(dir.path(), "certificate", &certificate),
        key: write(dir.path(), "key", &key),
    };
    let etcd = Etcd::start_with(1, address, Some(certificates)).unwrap();
    let config = |ca: String, client: Option<(String, String)>| Config {
        endpoints: etcd.endpoints(),
        tls: Some(Tls {
            ca: ca.into_bytes(),
            client: client.map(|(certificate, key)| (certificate.into_bytes(), key.into_bytes())),
        }),
        patience: Duration::from_secs(3),
        ..Config::default()
    };
    let us = leaf(&authority, "us");
    let store = EtcdStore::connect(&config(authority.pem(), Some(us.clone())))
        .await
        .unwrap();
    commit(&store, put("/a", "1", None)).await;
    assert_eq!(texts(&all(&store, None).await), ["/a=1"]);

    let (nobody, misled) = (config(authority.pem(), None), config(stranger.pem(), Some(us)));
    let (without, wrong_server) = tokio::join!(EtcdStore::connect(&nobody), EtcdStore::connect(&misled));
    assert!(matches!(without, Err(ConnectError::Load(_))), "{without:?}");
    assert!(matches!(wrong_server, Err(ConnectError::Load(_))), "{wrong_server:?}");
}

#[tokio::test]
async fn half_a_protection_is_refused() {
    let connect = async |endpoint: &str, tls: bool| {
        let config = Config {
            endpoints: vec![endpoint.to_owned()],
            tls: tls.then(|| Tls {
                ca: Vec::new(),
                client: None,
            }),
            ..Config::default()
        };
        EtcdStore::connect(&config).await.err().unwrap()
    };
    assert!(matches!(
        connect("https://127.0.0.1:1", false).await,
        ConnectError::NoAuthority(_)
    ));
    assert!(matches!(
        connect("http://127.0.0.1:1", true).await,
        ConnectError::NotEncrypted(_)
    ));
    assert!(matches!(connect("127.0.0.1:1", false).await, ConnectError::Scheme(_)));
    let none = EtcdStore::connect(&Config::default()).await;
    assert!(matches!(none, Err(ConnectError::NoEndpoint)));
}
