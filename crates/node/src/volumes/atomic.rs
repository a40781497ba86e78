//! Volumes whose files change all at once, laid out as kubelets do:
//!
//! ```text
//! volume/key            → ..data/key
//! volume/..data         → ..2026_11_22_11_30_00.123456789      (replaced by rename)
//! volume/..2026_…/key
//! ```

use jiff::Timestamp;
use nix::unistd::{Gid, Uid, chown};
use node_plan::PayloadFile;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes a volume's directory hold exactly these files. Whether anything changed.
pub(crate) fn write(dir: &Path, files: &BTreeMap<String, PayloadFile>, group: Option<u32>) -> io::Result<bool> {
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && is_same(&dir.join(old), files, group)?
    {
        link_visible(dir, files)?;
        return Ok(false);
    }
    let name = version_name(dir);
    let version = dir.join(&name);
    write_version(&version, files, group)?;
    let new = dir.join(DATA_NEW);
    remove_if_there(&new)?;
    symlink(&name, &new)?;
    fs::rename(&new, dir.join(DATA))?;
    link_visible(dir, files)?;
    // What an earlier run left when it was killed goes, too.
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let text = file_name.to_string_lossy();
        if text.starts_with("..2") && *text != *name {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(true)
}

fn version_name(dir: &Path) -> String {
    let now = Timestamp::now();
    let mut nanos = now.subsec_nanosecond();
    loop {
        let name = format!("..{}.{nanos:09}", now.strftime("%Y_%m_%d_%H_%M_%S"));
        if !dir.join(&name).exists() {
            return name;
        }
        nanos += 1;
    }
}

fn write_version(version: &Path, files: &BTreeMap<String, PayloadFile>, group: Option<u32>) -> io::Result<()> {
    let own = |path: &Path, user: Option<u32>| match (user, group) {
        (None, None) => Ok(()),
        _ => chown(path, user.map(Uid::from_raw), group.map(Gid::from_raw)).map_err(io::Error::from),
    };
    let mut dirs = BTreeSet::from([version.to_path_buf()]);
    for (path, file) in files {
        let target = version.join(path);
        let parents = target.ancestors().skip(1).take_while(|p| p.starts_with(version));
        dirs.extend(parents.map(Path::to_path_buf));
        fs::create_dir_all(target.parent().unwrap_or(version))?;
        fs::write(&target, &file.content)?;
        own(&target, file.owner)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(mode_of(file, group)))?;
    }
    fs::create_dir_all(version)?;
    for dir in &dirs {
        own(dir, None)?;
        let setgid = if group.is_some() { 0o2000 } else { 0 };
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755 | setgid))?;
    }
    Ok(())
}

fn mode_of(file: &PayloadFile, group: Option<u32>) -> u32 {
    if group.is_some() { file.mode | 0o440 } else { file.mode }
}

fn is_same(version: &Path, files: &BTreeMap<String, PayloadFile>, group: Option<u32>) -> io::Result<bool> {
    let mut found = 0;
    let mut open = vec![version.to_path_buf()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            return Ok(false);
        };
        for entry in entries {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                open.push(path);
                continue;
            }
            let relative = path
                .strip_prefix(version)
                .map(|p| p.to_string_lossy().into_owned())
                .unwrap_or_default();
            let Some(file) = files.get(&relative) else {
                return Ok(false);
            };
            let is_owned = file.owner.is_none_or(|owner| owner == meta.uid());
            if !is_owned
                || meta.permissions().mode() & 0o7777 != mode_of(file, group)
                || fs::read(&path)? != file.content
            {
                return Ok(false);
            }
            found += 1;
        }
    }
    Ok(found == files.len())
}

/// Links each first path element into the data, and removes links to what is no more.
fn link_visible(dir: &Path, files: &BTreeMap<String, PayloadFile>) -> io::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = dir.join(name);
        let target = PathBuf::from(DATA).join(name);
        if fs::read_link(&link).ok().as_ref() != Some(&target) {
            remove_if_there(&link)?;
            symlink(target, &link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(name.as_str()) && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str, u32)]) -> BTreeMap<String, PayloadFile> {
        let file = |text: &str, mode| PayloadFile {
            content: text.as_bytes().to_vec(),
            mode,
            owner: None,
        };
        list.iter()
            .map(|(path, text, mode)| ((*path).to_owned(), file(text, *mode)))
            .collect()
    }

    #[test]
    fn content_changes_at_once_and_only_when_it_differs() {
        let dir = tempfile::tempdir().unwrap();
        let first = files(&[("a", "1", 0o644), ("d/b", "2", 0o400)]);
        assert!(write(dir.path(), &first, None).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("d/b")).unwrap(), "2");
        let mode = fs::metadata(dir.path().join("d/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o400);
        let version = fs::read_link(dir.path().join(DATA)).unwrap();
        assert!(!write(dir.path(), &first, None).unwrap());
        assert_eq!(fs::read_link(dir.path().join(DATA)).unwrap(), version);
        assert!(write(dir.path(), &files(&[("a", "3", 0o644)]), None).unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "3");
        assert!(!dir.path().join("d").exists() && !dir.path().join(version).exists());
    }

    #[test]
    fn an_empty_volume_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path(), &files(&[]), None).unwrap());
        assert!(!write(dir.path(), &files(&[]), None).unwrap());
    }
}
