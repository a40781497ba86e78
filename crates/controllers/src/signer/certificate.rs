//! An X.509 certificate of version 3 in DER (RFC 5280), written by hand: the libraries that make certificates keep one
//! organization of a subject, and a user may be in many groups.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use controllers_plan::certificates::Template;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rand::RngCore;
use rustls_pki_types::AlgorithmIdentifier;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use yasna::models::ObjectIdentifier;
use yasna::tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME};
use yasna::{DERWriter, DERWriterSeq, Tag, construct_der};

use super::{Issuer, names};

const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY_IDENTIFIER: &[u64] = &[2, 5, 29, 35];
const EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];

/// The first year that UTCTime cannot say (RFC 5280, 4.1.2.5).
const UTC_TIME_END: i16 = 2050;

/// TBSCertificate.
pub(super) fn to_be_signed(
    request: &X509CertificationRequest<'_>,
    template: &Template,
    issuer: &Issuer,
    algorithm: AlgorithmIdentifier,
) -> Vec<u8> {
    let asked = &request.certification_request_info;
    let names = alternative_names(request);
    construct_der(|writer| {
        writer.write_sequence(|writer| {
            // Version 3.
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
            writer.next().write_bigint_bytes(&serial(), true);
            write_algorithm(writer.next(), algorithm);
            writer.next().write_der(&issuer.name);
            writer.next().write_sequence(|writer| {
                write_time(writer.next(), template.not_before);
                write_time(writer.next(), template.not_after);
            });
            writer.next().write_der(asked.subject.as_raw());
            writer.next().write_der(asked.subject_pki.raw);
            writer.next().write_tagged(Tag::context(3), |writer| {
                writer.write_sequence(|writer| {
                    write_extensions(writer, template, issuer);
                    // Without a subject, the other names are all that it says.
                    let is_critical = asked.subject.iter().next().is_none();
                    if let Some(names) = &names {
                        write_extension(writer.next(), SUBJECT_ALT_NAME, is_critical, names);
                    }
                });
            });
        });
    })
}

/// Certificate.
pub(super) fn signed(to_be_signed: &[u8], algorithm: AlgorithmIdentifier, signature: &[u8]) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(to_be_signed);
            write_algorithm(writer.next(), algorithm);
            writer.next().write_bitvec_bytes(signature, signature.len() * 8);
        });
    })
}

/// A certificate as PEM (RFC 7468).
pub(super) fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line));
    let body: String = lines.map(|line| format!("{line}\n")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
}

fn write_extensions(writer: &mut DERWriterSeq<'_>, template: &Template, issuer: &Issuer) {
    if !template.key_usages.is_empty() {
        let usages = construct_der(|writer| write_bits(writer, &template.key_usages));
        write_extension(writer.next(), KEY_USAGE, true, &usages);
    }
    if !template.extended_key_usages.is_empty() {
        let usages = construct_der(|writer| {
            writer.write_sequence(|writer| {
                for usage in &template.extended_key_usages {
                    writer.next().write_oid(&ObjectIdentifier::from_slice(usage));
                }
            });
        });
        write_extension(writer.next(), EXTENDED_KEY_USAGE, false, &usages);
    }
    // Empty: it is no authority.
    let constraints = construct_der(|writer| writer.write_sequence(|_| {}));
    write_extension(writer.next(), BASIC_CONSTRAINTS, true, &constraints);
    if let Some(identifier) = &issuer.key_identifier {
        let identifier = construct_der(|writer| {
            writer.write_sequence(|writer| write_implicit(writer.next(), 0, identifier));
        });
        write_extension(writer.next(), AUTHORITY_KEY_IDENTIFIER, false, &identifier);
    }
}

/// The names of the kinds that Kubernetes knows; `None` if there are none.
fn alternative_names(request: &X509CertificationRequest<'_>) -> Option<Vec<u8>> {
    let known: Vec<(u64, &[u8])> = names(request)
        .filter_map(|name| match name {
            GeneralName::RFC822Name(text) => Some((1, text.as_bytes())),
            GeneralName::DNSName(text) => Some((2, text.as_bytes())),
            GeneralName::URI(text) => Some((6, text.as_bytes())),
            GeneralName::IPAddress(bytes) => Some((7, *bytes)),
            _ => None,
        })
        .collect();
    (!known.is_empty()).then(|| {
        construct_der(|writer| {
            writer.write_sequence(|writer| {
                for (tag, content) in known {
                    write_implicit(writer.next(), tag, content);
                }
            });
        })
    })
}

fn write_implicit(writer: DERWriter<'_>, tag: u64, content: &[u8]) {
    writer.write_tagged_implicit(Tag::context(tag), |writer| writer.write_bytes(content));
}

fn write_extension(writer: DERWriter<'_>, identifier: &[u64], is_critical: bool, content: &[u8]) {
    writer.write_sequence(|writer| {
        writer.next().write_oid(&ObjectIdentifier::from_slice(identifier));
        // DER leaves the default out.
        if is_critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(content);
    });
}

/// Named bits, of which DER leaves out the zeros at the end.
fn write_bits(writer: DERWriter<'_>, bits: &[usize]) {
    let last = bits.iter().max().copied().unwrap_or_default();
    let mut bytes = vec![0_u8; last / 8 + 1];
    for bit in bits {
        bytes[bit / 8] |= 0x80 >> (bit % 8);
    }
    writer.write_bitvec_bytes(&bytes, last + 1);
}

fn write_algorithm(writer: DERWriter<'_>, algorithm: AlgorithmIdentifier) {
    // The constants are what is in the sequence.
    writer.write_sequence(|writer| writer.next().write_der(algorithm.as_ref()));
}

fn write_time(writer: DERWriter<'_>, time: Timestamp) {
    let time = time.to_zoned(TimeZone::UTC);
    let (tag, text) = if time.year() < UTC_TIME_END {
        (TAG_UTCTIME, time.strftime("%y%m%d%H%M%SZ").to_string())
    } else {
        (TAG_GENERALIZEDTIME, time.strftime("%Y%m%d%H%M%SZ").to_string())
    };
    writer.write_tagged_implicit(tag, |writer| writer.write_bytes(text.as_bytes()));
}

/// A number that no other certificate has: 127 random bits, so that it is positive and has no zeros before it.
fn serial() -> [u8; 16] {
    let mut bytes = [0; 16];
    ambient::rng().fill_bytes(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    bytes
}
