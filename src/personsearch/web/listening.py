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
        made = socket.create_server(found[0][4][:2], family=found[0][0], backlog=1024)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PersonSearchError(
            f"cannot listen at {host} port {port} ({reason}); choose another with --port or --host"
        ) from None
    # Connections inherit it. asyncio sets it only where the socket names its protocol; without it
    # the body of an answer waits 40 ms for the client to acknowledge the head.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
