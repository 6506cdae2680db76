"""Where a database may lie: what is looked at before SQLite opens anything.

Protects against other users of the machine, who could read the file or put another in its place, and against
file systems whose locks don't hold: two machines on one network share corrupt a database silently.

Does not protect: against root, against members of a group that may write into the directory, and on systems
without /proc/self/mountinfo (macOS) against network file systems.

Sources: https://www.sqlite.org/howtocorrupt.html, 2.1; https://www.sqlite.org/wal.html ("all processes using
a database must be on the same host computer"); proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from thebes.errors import ConfigurationError, StoreUnavailable

MOUNTS = Path("/proc/self/mountinfo")
# File systems whose other side is another machine, or the host of a virtual one. `fuse.` ones are listed by
# name: local ones (fuse.ext4, fuseblk) work.
REMOTE: Final = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|gfs2?|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|pvfs2|smb3|smbfs"
    r"|vboxsf|virtiofs|vmhgfs"
    r"|fuse\.(ceph|cephfs|gcsfuse|glusterfs|grpcfuse|juicefs|rclone|s3fs|sshfs|vmhgfs-fuse)"
)


def prepared(path: Path) -> Path:
    """Return where the database lies, links resolved, with an empty file there if there was none.

    Raises:
        ConfigurationError: It must not lie there: others may write into the directory, or the file system is
            remote.
        StoreUnavailable: The file can't be made, or it is another user's.
    """
    try:
        path = path.absolute()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path = path.resolve()
        refuse_shared(path.parent)
        refuse_remote(path.parent)
        _make(path)
    except OSError as error:
        raise StoreUnavailable(f"cannot open the database {path}: {error.strerror}") from error
    return path


def refuse_shared(directory: Path) -> None:
    """Raise ConfigurationError where any user of the machine may put files, sticky or not."""
    if directory.stat().st_mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"the database's directory {directory} is writable by everyone: chmod o-w it, or choose another"
        )


def refuse_remote(directory: Path) -> None:
    """Raise ConfigurationError where the files of the directory lie on another machine."""
    kind = filesystem_of(directory, MOUNTS.read_text(errors="surrogateescape")) if MOUNTS.exists() else None
    if kind is not None and REMOTE.fullmatch(kind):
        raise ConfigurationError(
            f"the database's directory {directory} is on {kind}: SQLite's locks don't hold there; "
            "choose a directory on a local disk"
        )


def filesystem_of(directory: Path, mountinfo: str) -> str | None:
    """Return the type of the file system that a directory lies on, from the text of a mountinfo.

    >>> filesystem_of(Path("/srv/a b/c"), r"36 35 98:0 / /srv/a\\040b rw - nfs4 host:/x rw")
    'nfs4'
    """
    kind, longest = None, -1
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        # Of mounts on one point the last hides the others, and it is the last in the list.
        if len(point) >= longest and directory.is_relative_to(point):
            kind, longest = after.split(" ")[0], len(point)
    return kind


def _make(path: Path) -> None:
    """Make an empty file that only its owner may read; SQLite gives its other files the same mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        # Never opened here: closing a descriptor drops this process's POSIX locks on the file, SQLite's
        # included.
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise StoreUnavailable(f"{path} is not a plain file of this user") from None
        if found.st_mode & 0o077:
            path.chmod(0o600)
        return
    os.close(descriptor)
