"""What servers of tests show of themselves."""

import ssl

import trustme


def server_context(authority: trustme.CA, *names: str, **options: object) -> ssl.SSLContext:
    """A server's context with a certificate for those names, `partner.example` by default."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = authority.issue_cert(*(names or ("partner.example",)), **options)  # type: ignore[arg-type]
    issued.configure_cert(context)
    return context
