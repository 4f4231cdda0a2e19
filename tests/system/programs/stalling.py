"""webhookd with a bug: its loop stands still as long as a file is there.

`stalling.py FILE ARGUMENT ...`, the arguments as for `webhookd`.
"""

import sys
import time
from pathlib import Path

from webhookd.cli.main import main
from webhookd.daemon.clock import Steadiness


def stall_while(file: Path) -> None:
    """Put the bug where the daemon comes by once a second."""
    real = Steadiness.jumped

    def jumped(self: Steadiness) -> int:
        while file.exists():
            time.sleep(0.02)
        return real(self)

    Steadiness.jumped = jumped  # type: ignore[method-assign]


if __name__ == "__main__":
    stall_while(Path(sys.argv[1]))
    main(sys.argv[2:])
