"""Private rows on their way here: kept in a folder of their own, bounded in size, and removed after use."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from lomas_gql.errors import SourceUnavailable
from lomas_gql.settings import Login, Settings, login_variables

CONNECT_SECONDS = 5.0
"""How long a remote source may take to answer a connection."""
LOOK_SECONDS = 10.0
"""How long it may take to tell its version."""
SILENT_SECONDS = 20.0
"""How long it may send nothing while it is read."""
_PREFIX = "fetched"


def login(name: str) -> Login:
    """The user and password of that name in the settings of this process: a job carries the name alone.

    Raises:
        SourceUnavailable: there are none of that name.
    """
    found = Settings().login(name)
    if found is None:
        raise SourceUnavailable(f"the settings hold no credentials {name}: set {login_variables(name)}")
    return found


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A new folder that nobody else may read, and that is gone afterwards."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}.{os.getpid()}.", dir=parent) as folder:
        yield Path(folder)


def lasting_folder(parent: Path) -> Path:
    """The same for as long as this process lives: the next that looks for abandoned ones removes it."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}.{os.getpid()}.", dir=parent))


def drop_abandoned(parent: Path) -> None:
    """Removes the private folders of processes that were ended in the middle."""
    for folder in parent.glob(f"{_PREFIX}.*"):
        if not psutil.pid_exists(int(folder.name.split(".")[1])):
            shutil.rmtree(folder, ignore_errors=True)


def save(chunks: Generator[bytes], file: Path, described: str) -> Path:
    """Writes what is fetched into a new file for its owner alone.

    Raises:
        SourceUnavailable: it is larger than LOMAS_FETCH_MEGABYTES.
    """
    left = Settings().fetch_megabytes * 2**20
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with closing(chunks), os.fdopen(descriptor, "wb") as out:
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise SourceUnavailable(f"{described} is larger than LOMAS_FETCH_MEGABYTES")
            out.write(chunk)
    return file


def beginning(chunks: Generator[bytes], most: int) -> bytes:
    """The first `most` bytes, or all of them where there are fewer."""
    held = bytearray()
    with closing(chunks):
        for chunk in chunks:
            held += chunk
            if len(held) >= most:
                break
    return bytes(held[:most])
