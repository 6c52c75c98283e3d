"""The server's socket, opened before the server starts."""

import socket

from personsearch.errors import PersonSearchError


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        PersonSearchError: no such address, or the port is in use.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            # From here on clients wait for the server instead of being refused.
            made.listen(1024)
        except OSError:
            made.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PersonSearchError(
            f"cannot listen at {host} port {port} ({reason}); choose another with --port or --host"
        ) from None
    return made
