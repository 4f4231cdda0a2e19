"""Measurements: `python -m bench [NAME...] [--quick]`. What the figures mean: docs/performance.md.

Nothing here is a test, and nothing fails for being slow. A run does fail when what it measured was
not right: a delivery missing, sent twice, or not recorded.

Several processes take part, each a module here that is run as one: `receiver`, `requester` (the
reference), `host`, and the real daemon. Figures of one machine at different times do not compare;
those of one run, taken in turns, do.
"""
