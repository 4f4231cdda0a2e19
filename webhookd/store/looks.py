"""The part of the daemon's store that only looks, at what the host has done to the file."""

from pathlib import Path

from webhookd.store import keys
from webhookd.store.capture_watch import CaptureWatch
from webhookd.store.driver import Connection, translated
from webhookd.store.file import FileRow


class Looks:
    """What `webhookd.store.sqlite.SqliteStore` tells beside deliveries."""

    path: Path
    _reader: Connection
    _known: FileRow
    _captures: CaptureWatch

    def capture_faults(self) -> tuple[str, ...]:
        """What is wrong with captures: see `webhookd.store.capture_watch`."""
        with translated(self.path):
            return self._captures.look(self._reader, self._known)

    def outbox_key(self, number: int) -> str | None:
        """The host's own key of an outbox row: see `webhookd.store.keys`."""
        with translated(self.path):
            return keys.shown(self._reader, number)
