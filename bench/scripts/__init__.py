"""What somebody would write in place of webhookd, for `drain` to compare with.

Each is a process: `python -m bench.scripts.NAME DATABASE URL`. It delivers every row of the host's
outbox to the URL, 8 at a time, signed, and commits the outcome of each to the same SQLite file
right after its answer, so that a crash repeats no more than what was under way. It keeps no order,
knows one receiver, and gives up after a few tries. It writes the seconds from its first request
until all is recorded to stdout.
"""
