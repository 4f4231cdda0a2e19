"""A new file for each world, as `init` makes it, with an identity that the seed decides."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from webhookd.store import create, lockfile
from webhookd.store.driver import connect


@cache
def _template(now: int) -> bytes:
    """An empty file as `init` makes it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "erp.db"
        create.prepare(
            path, table="outbox", start=None, ids_never_reused=False, may_create=True, now=now
        )
        lockfile.beside(path).unlink()
        return path.read_bytes()


@contextmanager
def new_file(seed: int, now: int) -> Iterator[Path]:
    """A new file, in memory where there is a file system for that."""
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None)).resolve()
    try:
        path = directory / "erp.db"
        path.write_bytes(_template(now))
        connection = connect(path, mode="rw")
        identity = hashlib.sha256(str(seed).encode()).hexdigest()[:32]
        connection.execute("UPDATE webhookd_file SET uuid = ?, path = ?", (identity, str(path)))
        connection.close()
        yield path
    finally:
        shutil.rmtree(directory)
