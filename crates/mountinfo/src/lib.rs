//! What is mounted where, as the kernel tells it in `/proc/self/mountinfo` (proc(5)).
//!
//! Paths are told by the kernel without links on the way and stay the bytes that they are.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub point: PathBuf,
    /// The device, or what the file system's type has in place of one.
    pub source: PathBuf,
    /// Whether the mount is read-only.
    pub is_read_only: bool,
    /// Whether the file system itself is, as after errors.
    pub is_file_system_read_only: bool,
}

/// All mounts of this process' namespace, in the order of their making.
///
/// # Errors
/// The kernel's list cannot be read.
pub fn all() -> io::Result<Vec<Mounted>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// The uppermost mount at exactly this path.
///
/// # Errors
/// As of [`all`].
pub fn at(path: &Path) -> io::Result<Option<Mounted>> {
    Ok(all()?.into_iter().rev().find(|mounted| mounted.point == path))
}

/// `36 35 98:0 /root /point options [fields] - type source options`.
fn parse(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (point, options) = (fields.nth(4)?, fields.next()?);
    fields.find(|field| *field == b"-")?;
    let (source, of_all) = (fields.nth(1)?, fields.next()?);
    let is_read_only = |options: &[u8]| options.split(|byte| *byte == b',').any(|option| option == b"ro");
    Some(Mounted {
        point: unescape(point),
        source: unescape(source),
        is_read_only: is_read_only(options),
        is_file_system_read_only: is_read_only(of_all),
    })
}

/// Blanks and the like are written as octal numbers.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel() {
        let line =
            br"36 35 7:3 /data/pvc\0401 /mnt/a\134b\040- ro,noatime shared:1 - ext4 /dev/loop3 rw,errors=continue";
        let expected = Mounted {
            point: PathBuf::from(r"/mnt/a\b -"),
            source: PathBuf::from("/dev/loop3"),
            is_read_only: true,
            is_file_system_read_only: false,
        };
        assert_eq!(parse(line), Some(expected));
        let failed = parse(b"22 27 0:21 / /data rw,relatime - ext4 /dev/vda ro").unwrap();
        assert!(!failed.is_read_only && failed.is_file_system_read_only);
        assert_eq!(parse(b"22 27 0:21 / /proc rw"), None);
    }

    #[test]
    fn paths_need_not_be_text() {
        let line = b"22 27 0:21 / /mnt/\xff\xfe rw - tmpfs none rw";
        let point = parse(line).unwrap().point;
        assert_eq!(point, PathBuf::from(OsString::from_vec(b"/mnt/\xff\xfe".to_vec())));
    }

    #[test]
    fn proc_is_mounted() {
        assert!(at(Path::new("/proc")).unwrap().is_some());
        assert!(at(Path::new("/proc/self")).unwrap().is_none());
    }
}
