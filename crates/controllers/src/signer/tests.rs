use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType};

const SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];

fn authority(key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "the authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.self_signed(key).unwrap().pem()
}

fn request(params: &CertificateParams) -> String {
    params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap()
}

fn asked() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "system:node:n1");
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.subject_alt_names = vec![
        SanType::DnsName("n1.example.com".try_into().unwrap()),
        SanType::IpAddress([192, 0, 2, 7].into()),
        SanType::URI("spiffe://a/b".try_into().unwrap()),
        SanType::Rfc822Name("a@example.com".try_into().unwrap()),
    ];
    params
}

fn template() -> Template {
    Template {
        key_usages: vec![0, 2],
        extended_key_usages: vec![SERVER_AUTH],
        not_before: "2026-11-22T12:00:00Z".parse().unwrap(),
        not_after: "2051-11-22T12:00:00Z".parse().unwrap(),
    }
}

#[test]
fn what_a_request_says_is_read() {
    let found = contents(request(&asked()).as_bytes()).unwrap();
    assert_eq!(found.common_name(), Some("system:node:n1"));
    assert_eq!(found.organizations, ["system:nodes"]);
    let counts = (found.dns_names, found.ip_addresses, found.email_addresses, found.uris);
    assert_eq!(counts, (1, 1, 1, 1));
    assert!(contents(b"x").is_err());
    // What the API server does not read is not read here either.
    let pem = request(&asked());
    assert!(contents(format!("-----BEGIN X-----\nAA==\n-----END X-----\n{pem}").as_bytes()).is_err());
    assert!(contents(pem.replace("\r\n", "\n").replace('\n', "\r").as_bytes()).is_err());
}

#[test]
fn a_certificate_says_what_was_asked_and_what_the_template_says() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let root = authority(&key);
        let signer = Signer::from_pem(&root, &key.serialize_pem()).unwrap();
        let request = request(&asked());
        let pem = signer.sign(request.as_bytes(), &template()).unwrap();
        assert_eq!(end_of(pem.as_bytes()), Some(template().not_after));
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
        let (rest, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(&root).unwrap();
        assert!(rest.is_empty());
        certificate.verify_signature(Some(root.public_key())).unwrap();
        assert_eq!(certificate.issuer(), root.subject());
        assert_eq!(certificate.version().0, 2);
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        assert!(certificate.extended_key_usage().unwrap().unwrap().value.server_auth);
        assert!(!certificate.basic_constraints().unwrap().unwrap().value.ca);
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert!(!names.critical);
        assert_eq!(names.value.general_names.len(), 4);
        assert_eq!(
            certificate.validity().not_before.timestamp(),
            template().not_before.as_second()
        );
    }
}

#[test]
fn all_groups_of_a_subject_stay() {
    // `openssl req -new -subj /O=b/O=a/CN=anna -newkey ec:...`: no library at hand makes a request with two groups.
    let pem = include_bytes!("two_groups.csr");
    assert_eq!(contents(pem).unwrap().organizations, ["b", "a"]);
    let key = KeyPair::generate().unwrap();
    let signer = Signer::from_pem(&authority(&key), &key.serialize_pem()).unwrap();
    let certificate = signer.sign(pem, &template()).unwrap();
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let groups: Vec<_> = certificate
        .subject()
        .iter_organization()
        .map(|group| group.as_str().unwrap())
        .collect();
    assert_eq!(groups, ["b", "a"]);
}

#[test]
fn a_request_whose_maker_has_not_its_key_is_not_signed() {
    let key = KeyPair::generate().unwrap();
    let signer = Signer::from_pem(&authority(&key), &key.serialize_pem()).unwrap();
    let mut der = certificate_requests::der(request(&asked()).as_bytes()).unwrap();
    *der.last_mut().unwrap() ^= 1;
    let forged = certificate::pem(&der).replace("CERTIFICATE", "CERTIFICATE REQUEST");
    let refused = signer.sign(forged.as_bytes(), &template()).unwrap_err();
    assert!(matches!(refused, SignError::Signature), "{refused:?}");
}

#[test]
fn the_key_must_be_that_of_the_certificate() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let refused = Signer::from_pem(&authority(&key), &other.serialize_pem()).unwrap_err();
    assert!(matches!(refused, SignerError::Mismatch), "{refused}");
    assert!(Signer::from_pem("x", &key.serialize_pem()).is_err());
    assert!(Signer::from_pem(&authority(&key), "x").is_err());
}

#[test]
fn keys_of_older_forms_sign_too() {
    // Made with `openssl`: an RSA key as PKCS #1, as kubeadm writes the CA's, and one of an elliptic curve as SEC 1.
    let pairs = [
        (include_str!("rsa.crt"), include_str!("rsa.key")),
        (include_str!("sec1.crt"), include_str!("sec1.key")),
    ];
    for (root, key) in pairs {
        let signer = Signer::from_pem(root, key).unwrap();
        let pem = signer.sign(request(&asked()).as_bytes(), &template()).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(&root).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        certificate.verify_signature(Some(root.public_key())).unwrap();
    }
}
