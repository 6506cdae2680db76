"""A process of its own that measures how long answers take: one that shared the server's would wait for its lock.

It reads a list of requests from stdin, as JSON, each with an address to call from, and prints the seconds that
each answer took on a connection that was open.
"""

import http.client
import json
import sys
import time
from typing import Any

PATIENCE_SECONDS = 10.0


def measure(port: int, request: dict[str, Any]) -> float:
    """Return the seconds from the first byte of a request to the last one of its answer."""
    source = (request["from"], 0)
    connection = http.client.HTTPConnection("localhost", port, PATIENCE_SECONDS, source_address=source)
    try:
        connection.connect()
        began = time.perf_counter()
        connection.request("POST", request["target"], request["body"], request["fields"])
        answer = connection.getresponse()
        answer.read()
        taken = time.perf_counter() - began
        assert answer.status == request["status"], answer.status
        # What the server does in the background for this request is done before the next one begins.
        time.sleep(request["pause"])
        return taken
    finally:
        connection.close()


if __name__ == "__main__":
    work = json.load(sys.stdin)
    print(json.dumps([measure(work["port"], request) for request in work["requests"]]))
