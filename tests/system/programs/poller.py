"""A host that follows `webhook_results` forwards alone, as the contract tells it to.

    poller.py DATABASE CURSOR COPY

Every page is appended to COPY (a JSON line a row), and only then is the highest sequence written
to CURSOR: killed in between, the page is read, and appended, once more.
"""

import json
import os
import sqlite3
import sys
import time
from pathlib import Path

PAGE = "SELECT * FROM webhook_results WHERE sequence > ? ORDER BY sequence LIMIT 200"


def main(database: str, cursor_path: Path, copy_path: Path) -> None:
    """Poll until the process is ended."""
    cursor = int(cursor_path.read_text()) if cursor_path.exists() else 0
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)
    connection.row_factory = sqlite3.Row
    with copy_path.open("a", encoding="utf-8") as copy:
        while True:
            page = connection.execute(PAGE, (cursor,)).fetchall()
            if not page:
                time.sleep(0.01)
                continue
            # The line break comes first: a line that a kill cut short spoils no other.
            copy.write("".join("\n" + json.dumps(dict(row)) for row in page) + "\n")
            copy.flush()
            cursor = page[-1]["sequence"]
            fresh = cursor_path.with_suffix(".new")
            fresh.write_text(str(cursor))
            os.replace(fresh, cursor_path)  # noqa: PTH105 - the same, and quicker to read


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
