//! Who a container's program is: numbers and names, looked up in the image's own files.

use serde::{Deserialize, Serialize};
use std::path::Path;
use trireme_cri::LinuxContainerUser;

/// A user with his groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

impl From<User> for LinuxContainerUser {
    fn from(user: User) -> Self {
        let supplemental_groups = user.groups.into_iter().map(i64::from).collect();
        Self { uid: user.uid.into(), gid: user.gid.into(), supplemental_groups }
    }
}

/// Files of an image larger than this are not read.
const LARGEST: u64 = 10 << 20;

fn lines(root: &Path, name: &str) -> Vec<Vec<String>> {
    let path = root.join("etc").join(name);
    // A link could lead out of the root.
    let plain = std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() < LARGEST);
    let text = if plain { std::fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
    text.lines().map(|l| l.split(':').map(str::to_owned).collect()).collect()
}

/// Finds `user[:group]` (names or numbers) in a root file system; `gid` overrides the group.
pub(crate) fn find(root: &Path, user: &str, gid: Option<u32>) -> Result<User, String> {
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let passwd = lines(root, "passwd");
    let groups = lines(root, "group");
    let number = name.parse::<u32>().ok();
    let field = |row: &[String], i: usize| row.get(i).and_then(|t| t.parse::<u32>().ok());
    let row = passwd.iter().find(|row| match number {
        Some(uid) => field(row, 2) == Some(uid),
        None => row.first().is_some_and(|n| n == name),
    });
    let mut found = User::default();
    match (row, number, name) {
        (Some(row), _, _) => {
            found.uid = field(row, 2).unwrap_or_default();
            found.gid = field(row, 3).unwrap_or_default();
        }
        (None, Some(uid), _) => found.uid = uid,
        (None, None, "") => {}
        (None, None, name) => return Err(format!("unable to find user {name}: no matching entries in passwd file")),
    }
    if !group.is_empty() {
        found.gid = match group.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let row = groups.iter().find(|row| row.first().is_some_and(|n| n == group));
                row.and_then(|row| field(row, 2))
                    .ok_or_else(|| format!("unable to find group {group}: no matching entries in group file"))?
            }
        };
    }
    if let Some(gid) = gid {
        found.gid = gid;
    }
    // Groups of which the image says that the user is a member.
    if let Some(name) = row.and_then(|row| row.first()) {
        let member = |row: &&Vec<String>| row.get(3).is_some_and(|list| list.split(',').any(|m| m == name));
        found.groups = groups.iter().filter(member).filter_map(|row| field(row, 2)).collect();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:\nweb:x:33:44::/:\n").unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nlog:x:7:web,other\n").unwrap();
        let find = |user: &str| find(dir.path(), user, None);
        assert_eq!(find("web").unwrap(), User { uid: 33, gid: 44, groups: vec![7] });
        assert_eq!(find("33").unwrap().gid, 44);
        assert_eq!(find("1000:log").unwrap(), User { uid: 1000, gid: 7, groups: vec![] });
        assert_eq!(find("").unwrap(), User::default());
        assert!(find("nobody-here").is_err());
    }
}
