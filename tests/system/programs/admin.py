"""What hosts and their administrators do to a database that is in use.

    admin.py DATABASE vacuum
    admin.py DATABASE backup PATH
    admin.py DATABASE journal MODE

Each is tried for as long as another connection is in the way; what it comes to is printed.
"""

import sqlite3
import sys
import time


def main(database: str, work: str, argument: str = "") -> None:
    """Do `work` on a connection of its own, and close it."""
    connection = sqlite3.connect(database, timeout=5, isolation_level=None)
    try:
        if work == "backup":
            with sqlite3.connect(argument) as copy:
                connection.backup(copy, pages=50, sleep=0.001)
            copy.close()
            print("done")
        elif work == "vacuum":
            for _ in range(20):
                try:
                    connection.execute("VACUUM")
                except sqlite3.OperationalError:
                    time.sleep(0.1)
                else:
                    print("done")
                    break
        else:
            try:
                print(connection.execute(f"PRAGMA journal_mode = {argument}").fetchone()[0])
            except sqlite3.OperationalError as error:
                print(error)
    finally:
        connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
