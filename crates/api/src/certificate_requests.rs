//! The one reading of the PEM text in a CertificateSigningRequest.
//!
//! What checks a request and what signs it must see the same request in the same bytes: two readers that differ by a
//! hair let one subject be checked and another be signed. So everybody reads with [`der`], which takes less than any
//! reader at hand would.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const FIRST_LINE: &[u8] = b"-----BEGIN CERTIFICATE REQUEST-----";
const LAST_LINE: &[u8] = b"-----END CERTIFICATE REQUEST-----";
/// Upstream's words for everything that is not the right block.
const WRONG_BLOCK: &str = "PEM block type must be CERTIFICATE REQUEST";

/// The DER of the request in PEM text: the first block, which must be whole and of the right type, and exactly one ASN.1
/// sequence in it. What stands before and after the block does not count.
///
/// # Errors
/// What is wrong, in upstream's words.
pub fn der(pem: &[u8]) -> Result<Vec<u8>, &'static str> {
    let der = first_block(pem).ok_or(WRONG_BLOCK)?;
    check_sequence(&der)?;
    Ok(der)
}

/// Unlike Go, which goes on to the next block when one is damaged, we take the first line that begins one at its word.
fn first_block(pem: &[u8]) -> Option<Vec<u8>> {
    let mut lines = pem.split(|byte| *byte == b'\n').map(without_end);
    let first = lines.find(|line| line.starts_with(BEGIN))?;
    if first != FIRST_LINE {
        return None;
    }
    let mut base64 = Vec::new();
    for line in lines {
        if line.starts_with(END) {
            let der = (line == LAST_LINE).then(|| STANDARD.decode(&base64).ok());
            return der.flatten();
        }
        // As in Go, whose Base64 skips line ends and whose PEM takes blanks away.
        base64.extend(line.iter().filter(|byte| !b" \t\r".contains(byte)));
    }
    None
}

/// A line without its carriage return, and without blanks before that.
fn without_end(line: &[u8]) -> &[u8] {
    let mut line = line.strip_suffix(b"\r").unwrap_or(line);
    while let [rest @ .., b' ' | b'\t'] = line {
        line = rest;
    }
    line
}

/// Whether the bytes are one ASN.1 sequence and nothing else.
fn check_sequence(der: &[u8]) -> Result<(), &'static str> {
    const TRUNCATED: &str = "asn1: syntax error: data truncated";
    let (tag, rest) = der.split_first().ok_or(TRUNCATED)?;
    if *tag != 0x30 {
        return Err("asn1: structure error: tags don't match");
    }
    let (first, rest) = rest.split_first().ok_or(TRUNCATED)?;
    let (length, content) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // A request of 16 MB would not get here.
        0x81..=0x83 => {
            let (digits, content) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(TRUNCATED)?;
            let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
            (length, content)
        }
        _ => return Err("asn1: structure error: length too large"),
    };
    match content.len().cmp(&length) {
        std::cmp::Ordering::Less => Err(TRUNCATED),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err("asn1: syntax error: trailing data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
    const END: &str = "-----END CERTIFICATE REQUEST-----";
    const DER: [u8; 5] = [0x30, 3, 2, 1, 0];

    fn read(pem: &str) -> Result<Vec<u8>, &'static str> {
        der(pem.as_bytes())
    }

    #[test]
    fn a_block_is_read_as_go_reads_it() {
        let good = [
            format!("{BEGIN}\nMAMCAQA=\n{END}\n"),
            format!("{BEGIN}\r\nMAMC\r\nAQA=\r\n{END}"),
            format!("{BEGIN} \nMA MC\tAQ\rA=\n{END}\t\n"),
            format!("a word before\n{BEGIN}\nMAMCAQA=\n{END}\nand one after"),
        ];
        for pem in good {
            assert_eq!(read(&pem), Ok(DER.to_vec()), "{pem}");
        }
    }

    #[test]
    fn only_the_first_block_counts_and_it_must_be_whole() {
        let good = format!("{BEGIN}\nMAMCAQA=\n{END}\n");
        let bad = [
            String::new(),
            "MAMCAQA=".to_owned(),
            format!("-----BEGIN X-----\nMAMCAQA=\n-----END X-----\n{good}"),
            format!("-----BEGIN CERTIFICATE REQUEST-----x\n{good}"),
            format!("-----BEGIN NEW CERTIFICATE REQUEST-----\nMAMCAQA=\n{END}\n"),
            format!("{BEGIN}\rMAMCAQA=\r{END}\r"),
            format!("{BEGIN}\rMAMCAQA=\r{END}\n{good}"),
            format!("{BEGIN}\n!\n{END}\n{good}"),
            format!("{BEGIN}\nMAMCAQA\n{END}\n"),
            format!("{BEGIN}\nMAMCAQA=\n-----END X-----\n{good}"),
            format!("{BEGIN}\nMAMCAQA={END}\n"),
            format!("{BEGIN}\nA: b\n\nMAMCAQA=\n{END}\n"),
            format!(" {BEGIN}\nMAMCAQA=\n{END}\n"),
            format!("{BEGIN}\nMAMCAQA=\n"),
        ];
        for pem in bad {
            assert_eq!(read(&pem), Err(WRONG_BLOCK), "{pem}");
        }
    }

    #[test]
    fn the_block_holds_one_sequence() {
        let of = |der: &[u8]| read(&format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode(der)));
        let mut long = vec![0x30, 0x82, 1, 0];
        long.extend([0; 256]);
        assert_eq!(of(&long), Ok(long.clone()));
        long.push(0);
        let trailing = Err("asn1: syntax error: trailing data");
        assert_eq!((of(&long), of(&[0x30, 0, 0])), (trailing.clone(), trailing));
        let truncated = Err("asn1: syntax error: data truncated");
        for der in [&[][..], &[0x30], &[0x30, 1], &[0x30, 0x82, 1], &[0x30, 0x81, 2, 0]] {
            assert_eq!(of(der), truncated);
        }
        assert_eq!(of(&[2, 1, 0]), Err("asn1: structure error: tags don't match"));
        assert_eq!(of(&[0x30, 0x80, 0, 0]), Err("asn1: structure error: length too large"));
    }
}
