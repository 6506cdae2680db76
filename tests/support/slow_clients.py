"""Clients that only want to sit there, many of them, from one address; a program, so that they have a core.

`python slow_clients.py KIND PORT COUNT SECONDS SOURCE`. KIND is what they do: `silent` says nothing, `head`
and `body` send a byte a second of a plain request, `handshaken` the same after a TLS handshake. Who is thrown
out comes back, a thousand a second at most.
"""

import socket
import ssl
import sys
import time

NEW_A_SECOND = 1000
BEGINNING = {
    "silent": b"",
    "head": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
    "body": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
    "handshaken": b"",
}


def come(kind: str, port: int, source: str, context: ssl.SSLContext) -> socket.socket | None:
    """Return a connection that has begun what it is about, or None if it was thrown out."""
    connection = socket.socket()
    connection.settimeout(2)
    try:
        connection.bind((source, 0))
        connection.connect(("127.0.0.1", port))
        if kind == "handshaken":
            connection = context.wrap_socket(connection, server_hostname="localhost")
        if BEGINNING[kind]:
            connection.sendall(BEGINNING[kind])
    except OSError:
        connection.close()
        return None
    connection.setblocking(False)
    return connection


def is_held(kind: str, connection: socket.socket) -> bool:
    """Send one byte more, unless silence is the point; say whether the server still has it."""
    try:
        if kind != "silent":
            connection.send(b"a")
        connection.recv(4096)
        return False  # whatever it says, it says it for the last time
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False


def main(kind: str, port: int, count: int, seconds: float, source: str) -> None:
    """Hold as many connections as the server lets us, for so long."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    held: list[socket.socket] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tick = time.monotonic()
        for connection in [each for each in held if not is_held(kind, each)]:
            held.remove(connection)
            connection.close()
        for number in range(min(count - len(held), NEW_A_SECOND)):
            time.sleep(max(0, tick + number / NEW_A_SECOND - time.monotonic()))
            connection = come(kind, port, source, context)
            if connection is not None:
                held.append(connection)
        time.sleep(max(0, min(tick + 1, end) - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
