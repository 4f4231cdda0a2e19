"""The demo's ERP: a process of its own that owns an SQLite file. It knows nothing of webhookd.

    python -m webhookd.cli.demo.erp DATABASE

It uses the SQLite that comes with Python, as a host would, so nothing may import it: webhookd has
an SQLite of its own, and two in one process that open the same file cancel each other's locks.

It takes one command a line from stdin, as JSON, and answers each with one line; it ends with stdin.

    {"transaction": [SQL, ...], "commit": true}   the rowid after each: {"ids": [...]}
    {"query": SQL, "values": {...}}               {"rows": [{...}, ...]}

What SQLite refuses is answered with {"error": TEXT}. Its first line is {"sqlite": VERSION}.
"""

import json
import signal
import sqlite3
import sys
from typing import Any

Command = dict[str, Any]


def main(database: str) -> None:
    """Obey until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    connection = sqlite3.connect(database, timeout=30, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    answer({"sqlite": sqlite3.sqlite_version})
    for line in sys.stdin:
        try:
            answer(obey(connection, json.loads(line)))
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            answer({"error": str(error)})
    connection.close()


def obey(connection: sqlite3.Connection, command: Command) -> Command:
    """What one command comes to."""
    if "query" in command:
        rows = connection.execute(command["query"], command["values"]).fetchall()
        return {"rows": [dict(row) for row in rows]}
    connection.execute("BEGIN IMMEDIATE")
    ids = [connection.execute(statement).lastrowid for statement in command["transaction"]]
    connection.execute("COMMIT" if command["commit"] else "ROLLBACK")
    return {"ids": ids}


def answer(said: Command) -> None:
    """One line on stdout, out at once."""
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
