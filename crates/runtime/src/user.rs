//! Who a container's process is: names and numbers from CRI and the image, looked up in the image's own files.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use crate::within::Root;

/// A user as the kernel knows one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) uid: Option<i64>,
    pub(crate) username: &'a str,
    pub(crate) gid: Option<i64>,
    /// The image's `user[:group]`.
    pub(crate) image: &'a str,
    pub(crate) supplemental: &'a [i64],
    /// Only the supplemental groups that are asked for, none of the image's.
    pub(crate) strict: bool,
}

/// Finds the user in the root filesystem.
///
/// # Errors
/// A text that says which name or number is no good.
pub(crate) fn resolve(root: &Root, wanted: &Wanted<'_>) -> Result<User, String> {
    let passwd = read(root, "etc/passwd")?;
    let group = read(root, "etc/group")?;
    resolve_in(&passwd, &group, wanted)
}

/// A missing file is an empty one: many images have none.
fn read(root: &Root, path: &str) -> Result<String, String> {
    match root.file(Path::new(path)).and_then(io::read_to_string) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(|error| format!("cannot read the image's /{path}: {error}")),
    }
}

fn resolve_in(passwd: &str, group: &str, wanted: &Wanted<'_>) -> Result<User, String> {
    let (image_user, image_group) = wanted.image.split_once(':').unwrap_or((wanted.image, ""));
    let user = match wanted.uid {
        Some(uid) => id(uid)?.to_string(),
        None if !wanted.username.is_empty() => wanted.username.to_owned(),
        None => image_user.to_owned(),
    };
    // The image's group belongs to the image's user only.
    let from_image = wanted.uid.is_none() && wanted.username.is_empty();
    let entry = find_user(passwd, &user)?;
    let gid = match wanted.gid {
        Some(gid) => id(gid)?,
        None if from_image && !image_group.is_empty() => find_group(group, image_group)?,
        None => entry.gid,
    };
    let mut groups = BTreeSet::new();
    if !wanted.strict {
        groups.extend(memberships(group, &entry.name));
    }
    for supplemental in wanted.supplemental {
        groups.insert(id(*supplemental)?);
    }
    // The process has its own group in any case, and runc and containerd list it too.
    groups.insert(gid);
    Ok(User {
        uid: entry.uid,
        gid,
        groups: groups.into_iter().collect(),
    })
}

fn id(id: i64) -> Result<u32, String> {
    u32::try_from(id)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| format!("{id} is not a user or group id"))
}

#[derive(Default)]
struct Entry {
    name: String,
    uid: u32,
    gid: u32,
}

fn find_user(passwd: &str, user: &str) -> Result<Entry, String> {
    let number = if user.is_empty() {
        Some(0)
    } else {
        user.parse::<u32>().ok()
    };
    let mut entries = passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        Some(Entry {
            name: (*fields.first()?).to_owned(),
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
        })
    });
    match number {
        Some(uid) => Ok(entries.find(|entry| entry.uid == uid).unwrap_or(Entry {
            uid,
            ..Entry::default()
        })),
        None => entries
            .find(|entry| entry.name == user)
            .ok_or_else(|| format!("unable to find user {user}: no matching entries in passwd file")),
    }
}

fn find_group(group: &str, name: &str) -> Result<u32, String> {
    if let Ok(gid) = name.parse::<u32>() {
        return Ok(gid);
    }
    let gid = groups(group)
        .find(|(entry, _, _)| *entry == name)
        .map(|(_, gid, _)| gid);
    gid.ok_or_else(|| format!("unable to find group {name}: no matching entries in group file"))
}

fn memberships<'a>(group: &'a str, name: &'a str) -> impl Iterator<Item = u32> + 'a {
    let member = move |members: &str| !name.is_empty() && members.split(',').any(|member| member == name);
    groups(group)
        .filter(move |(_, _, members)| member(members))
        .map(|(_, gid, _)| gid)
}

fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        Some((
            *fields.first()?,
            fields.get(2)?.parse().ok()?,
            fields.get(3).copied().unwrap_or_default(),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nredis:x:101:102::/data:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nredis:x:102:\nlog:x:7:redis,root\nssl:x:8:redis\n";

    fn check(wanted: &Wanted<'_>, expected: Result<(u32, u32, &[u32]), &str>) {
        let user = resolve_in(PASSWD, GROUP, wanted);
        match expected {
            Ok((uid, gid, groups)) => assert_eq!(
                user,
                Ok(User {
                    uid,
                    gid,
                    groups: groups.to_vec()
                }),
                "{wanted:?}"
            ),
            Err(text) => assert!(
                user.as_ref().is_err_and(|error| error.contains(text)),
                "{wanted:?}: {user:?}"
            ),
        }
    }

    #[test]
    fn users_are_found() {
        let none = Wanted::default();
        check(&none, Ok((0, 0, &[0, 7])));
        check(
            &Wanted {
                image: "redis",
                ..none.clone()
            },
            Ok((101, 102, &[7, 8, 102])),
        );
        check(
            &Wanted {
                image: "redis:ssl",
                ..none.clone()
            },
            Ok((101, 8, &[7, 8])),
        );
        check(
            &Wanted {
                image: "101",
                strict: true,
                ..none.clone()
            },
            Ok((101, 102, &[102])),
        );
        check(
            &Wanted {
                uid: Some(5000),
                image: "redis:ssl",
                ..none.clone()
            },
            Ok((5000, 0, &[0])),
        );
        check(
            &Wanted {
                uid: Some(101),
                gid: Some(9),
                supplemental: &[20],
                ..none.clone()
            },
            Ok((101, 9, &[7, 8, 9, 20])),
        );
        check(
            &Wanted {
                username: "redis",
                ..none.clone()
            },
            Ok((101, 102, &[7, 8, 102])),
        );
        check(
            &Wanted {
                image: "nobody",
                ..none.clone()
            },
            Err("unable to find user nobody"),
        );
        check(
            &Wanted {
                image: "0:nogroup",
                ..none.clone()
            },
            Err("unable to find group nogroup"),
        );
        check(&Wanted { uid: Some(-1), ..none }, Err("not a user"));
    }
}
