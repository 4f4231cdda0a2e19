"""What an operator sets: `config.toml` read into frozen values, and references to secrets resolved.

`webhookd.config.settings` has every key and its default, `webhookd.config.load` reads the file,
`webhookd.config.references` fetches the secrets that are kept outside the database.
"""
