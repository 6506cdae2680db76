"""Keep query strings out of the server's access log: tokens and personal data travel in them.

Sources: ASVS 14.2.1, 16.2.5; OWASP Logging.
"""

from __future__ import annotations

import logging

# uvicorn writes requests to the first and WebSocket handshakes to the second.
UNFINISHED_HANDSHAKE = "ASGI callable returned without completing handshake."
SERVER_LOGGERS = ("uvicorn.access", "uvicorn.error")


class QueryFilter(logging.Filter):
    """Cut each argument of a log record at its question mark, where it is a request target.

    It also drops the line that uvicorn 0.54 writes for each refused handshake, as if the refusal were an
    error: a flood of them would fill the log, and the pass records refusals and apps that answer nothing.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record in place and let it pass."""
        if record.msg == UNFINISHED_HANDSHAKE:
            return False
        if isinstance(record.args, tuple):
            record.args = tuple(map(_without_query, record.args))
        return True


def hide_queries() -> None:
    """Install the filter on the loggers of the server, once."""
    for name in SERVER_LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(known, QueryFilter) for known in logger.filters):
            logger.addFilter(QueryFilter())


def _without_query(argument: object) -> object:
    if isinstance(argument, str) and argument.startswith("/"):
        return argument.partition("?")[0]
    return argument
