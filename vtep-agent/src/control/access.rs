//! Who may speak to the agent. The socket's mode says so to the kernel, when a client connects; here it
//! is asked once more, since a mode and the directories above are easily changed, and a socket may be
//! mounted into a container whose root is nobody here.

use std::{
    fmt, fs, io,
    os::unix::fs::{MetadataExt as _, chown},
    path::Path,
};

use nix::unistd::{Gid, Group};
use tokio::net::UnixStream;

use crate::sockopt;

/// More supplementary groups than this are not looked at.
const MAX_GROUPS: usize = 1024;

/// The owner of the socket, its group, and root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    owner: u32,
    group: u32,
}

/// A client that may not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    user: u32,
    group: u32,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, group } = self;
        write!(
            f,
            "user {user} may not use this socket; run this as root or in group {group}"
        )
    }
}

impl Access {
    /// That of the socket at `path`, which is given to a group first: a name or a number.
    pub(super) fn of(path: &Path, group: Option<&str>) -> io::Result<Self> {
        if let Some(group) = group {
            chown(path, None, Some(group_id(group)?))?;
        }
        let socket = fs::symlink_metadata(path)?;
        Ok(Self {
            owner: socket.uid(),
            group: socket.gid(),
        })
    }

    /// Whether the process that connected may do so.
    pub(super) fn check(self, stream: &UnixStream) -> Result<(), Refused> {
        // Without an answer of the kernel it is nobody.
        let Ok(peer) = stream.peer_cred() else {
            let (user, group) = (u32::MAX, self.group);
            return Err(Refused { user, group });
        };
        let groups = || supplementary(stream).unwrap_or_default();
        let may = peer.uid() == 0
            || peer.uid() == self.owner
            || peer.gid() == self.group
            || groups().contains(&self.group);
        match may {
            true => Ok(()),
            false => Err(Refused {
                user: peer.uid(),
                group: self.group,
            }),
        }
    }
}

/// The supplementary groups that the peer had when it connected (Linux 4.13).
fn supplementary(stream: &UnixStream) -> io::Result<Vec<u32>> {
    const BYTES: usize = MAX_GROUPS * size_of::<u32>();
    let groups = sockopt::get::<BYTES>(stream, libc::SOL_SOCKET, libc::SO_PEERGROUPS)?;
    let groups = groups.as_chunks().0.iter();
    Ok(groups.map(|group| u32::from_ne_bytes(*group)).collect())
}

fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let unknown = || {
        let message = format!("there is no group {group:?}: make it, or change vtep.socket_group");
        io::Error::new(io::ErrorKind::NotFound, message)
    };
    let found = Group::from_name(group)?.ok_or_else(unknown)?;
    Ok(Gid::as_raw(found.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_name_and_number() {
        assert_eq!(group_id("root").unwrap(), 0);
        assert_eq!(group_id("4711").unwrap(), 4711);
        let error = group_id("no-such-group").unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no group \"no-such-group\": make it, or change vtep.socket_group"
        );
    }

    #[tokio::test]
    async fn owner_root_and_group() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let us = stream.peer_cred().unwrap();
        let access = |owner, group| Access { owner, group }.check(&stream);
        assert_eq!(access(us.uid(), u32::MAX), Ok(()));
        assert_eq!(access(u32::MAX, us.gid()), Ok(()));
        for group in supplementary(&stream).unwrap() {
            assert_eq!(access(u32::MAX, group), Ok(()));
        }
        let stranger = access(u32::MAX, u32::MAX);
        assert_eq!(stranger.is_ok(), us.uid() == 0, "{stranger:?}");
    }
}
