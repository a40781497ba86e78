//! hostPath volumes: is the path of the type that the volume says, or can it be made so?

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Checks the path, making it where the type says so.
pub(crate) fn ensure(path: &Path, type_: &str) -> Result<(), String> {
    let shown = path.display();
    let failed = |what: &str| Err(format!("hostPath type check failed: {shown} is not {what}"));
    let meta = fs::metadata(path);
    match type_ {
        "" => Ok(()),
        "DirectoryOrCreate" => match meta {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => failed("a directory"),
            Err(_) => fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(|e| made(path, &e)),
        },
        "FileOrCreate" => match meta {
            Ok(meta) if meta.is_file() => Ok(()),
            Ok(_) => failed("a file"),
            Err(_) => {
                let file = fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o644)
                    .open(path);
                file.map(drop).map_err(|e| made(path, &e))
            }
        },
        "Directory" if meta.as_ref().is_ok_and(fs::Metadata::is_dir) => Ok(()),
        "File" if meta.as_ref().is_ok_and(fs::Metadata::is_file) => Ok(()),
        "Socket" if meta.as_ref().is_ok_and(|m| m.file_type().is_socket()) => Ok(()),
        "CharDevice" if meta.as_ref().is_ok_and(|m| m.file_type().is_char_device()) => Ok(()),
        "BlockDevice" if meta.as_ref().is_ok_and(|m| m.file_type().is_block_device()) => Ok(()),
        "Directory" => failed("a directory"),
        "File" => failed("a file"),
        "Socket" => failed("a socket file"),
        "CharDevice" => failed("a character device"),
        "BlockDevice" => failed("a block device"),
        other => Err(format!("{other} is an invalid hostPath type")),
    }
}

fn made(path: &Path, error: &io::Error) -> String {
    format!("hostPath {} cannot be made: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let sub = dir.path().join("a/b");
        assert!(ensure(&sub, "Directory").unwrap_err().ends_with("is not a directory"));
        ensure(&sub, "").unwrap();
        ensure(&sub, "DirectoryOrCreate").unwrap();
        ensure(&sub, "Directory").unwrap();
        ensure(&file, "FileOrCreate").unwrap();
        ensure(&file, "File").unwrap();
        assert!(ensure(&file, "DirectoryOrCreate").is_err());
        assert!(ensure(&file, "Socket").unwrap_err().ends_with("is not a socket file"));
        ensure(Path::new("/dev/null"), "CharDevice").unwrap();
        assert!(ensure(Path::new("/dev/null"), "BlockDevice").is_err());
        assert!(ensure(&file, "Nonsense").is_err());
    }
}
