"""A server in a process of its own, so that a test can watch its memory: `python sink.py FD [defence...]`.

FD is a listening socket; the defences named are left out, for the twin that shows what they are good for.
"""

import hashlib
import json
import socket
import sys
import zlib
from typing import Any

import uvicorn

from thebes import Security


async def sink(scope: Any, receive: Any, send: Any) -> None:
    """Keep, inflate, digest or ignore the body, by the path."""
    if scope["type"] == "lifespan":
        return
    path = scope["path"]
    digest, kept, total = hashlib.sha256(), bytearray(), 0
    while path != "/ignored":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message["body"])
        total += len(message["body"])
        if path != "/digested":
            kept += message["body"]
        if not message["more_body"]:
            break
    if path == "/inflated":
        total = len(zlib.decompress(kept, 31))
    answer = json.dumps({"bytes": total, "sha256": digest.hexdigest()}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def main() -> None:
    """Serve on the socket that was handed over."""
    descriptor, *left_out = sys.argv[1:]
    security = Security()
    security.route("PUT /digested", body_limit="1GiB")
    security.route("POST /inflated", codings=["gzip"])
    app = security.without(*left_out).wrap(sink)
    config = uvicorn.Config(app, http="httptools", log_level="critical", proxy_headers=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(descriptor))])


if __name__ == "__main__":
    main()
