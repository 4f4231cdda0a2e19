"""One module a command; `webhookd.cli.main` imports the one that is asked for."""
