"""Rights of the folders that show people: nobody but their owner may enter or read them.

New folders are made so. Those of version 0.1 let everybody read, and are changed when they are
opened for writing.
"""

import logging
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# What is written here. A folder that holds anything else may be shared on purpose, and stays open.
_OURS = re.compile(
    r"people\.sqlite(-wal|-shm|-journal)?|\.?(audit|keys|calibration|writer|turn)\..*|index"
)

_log = logging.getLogger(__name__)


def private_folder(folder: Path) -> None:
    """Create a folder that only its owner may enter; close one that is there, with a line of log.

    Raises:
        OSError: it cannot be created.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _mode(folder) & _OTHERS:
        return
    entries = list(folder.iterdir())
    ours = [path for path in entries if _OURS.fullmatch(path.name)]
    ours += [path for path in (folder / "index").glob("*") if path.is_file()]
    opened = [path for path in ours if not path.is_symlink() and _mode(path) & _OTHERS]
    if all(_OURS.fullmatch(path.name) for path in entries):
        opened.append(folder)
    # Another owner's folder stays as it is, and so does one on read-only media.
    with suppress(OSError):
        for path in opened:
            path.chmod(_mode(path) & ~_OTHERS)
        if opened:
            _log.warning("%s: others could read it; from now on only its owner can", folder)


def read_only(folder: Path) -> bool:
    """Return whether nobody can write to a folder: its disk is read-only, or all rights are."""
    try:
        if os.access(folder, os.W_OK):
            return False
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY) or not _mode(folder) & 0o222
    except OSError:
        return False


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
