"""The command line. Results go to stdout, messages to stderr, and every ending has its exit code.

What a command does, it does through functions below this layer; here are words, tables and JSON.
No module here imports trio, httpx or sqlite_utils at its top: `status` has to be quick.
"""
