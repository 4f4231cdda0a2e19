"""Reliable, ordered, signed webhooks out of an ERP: one daemon, one SQLite file, nothing else."""

__version__ = "0.1.0"
