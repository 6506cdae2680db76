"""Look a new password up among those of known breaches, without telling anybody which one it is.

`PwnedRanges` asks the service Pwned Passwords, or one that speaks like it: five hexadecimal digits of the
SHA-1 leave the process, some 800 suffixes come back with padding, and the comparison is made here.
`PwnedFile` searches a downloaded copy. Both get the SHA-1, never the password. Unless one of them is set,
nothing is looked up.

Does not protect from: the service learning that somebody at this address set a password whose SHA-1 begins
with these five digits; breaches that it doesn't know.

Sources: haveibeenpwned.com/API/v3, "Pwned Passwords"; ASVS 5.0.0, 6.2.12; NIST SP 800-63B-4, 3.1.1.2.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from thebes.errors import ConfigurationError, ThebesError
from thebes.secret import Secret

if TYPE_CHECKING:
    import ssl

SERVICE = "https://api.pwnedpasswords.com"
TIMEOUT_SECONDS = 2.0  # of one look-up in all; who registers is waiting
MAX_ANSWER_BYTES = 1024 * 1024  # a padded range has about 40 KiB
# A service that is down keeps each look-up for the timeout; these threads are apart from the app's.
THREADS = 4
PREFIX_DIGITS = 5
LONGEST_LINE = 64  # 40 digits, a colon, a count, CR and LF
SAMPLES = 64


class BreachesUnavailable(ThebesError):
    """Breached passwords can't be looked up now; `reason` says what went wrong, nothing of the password."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"breached passwords can't be looked up: {reason}")
        self.reason = reason


class BreachSource(Protocol):
    """Something that knows breached passwords by their SHA-1."""

    async def knows(self, sha1: Secret) -> bool:
        """Say whether the password with this SHA-1 has been breached.

        Args:
            sha1: 40 upper-case hexadecimal digits, of the password in NFC as UTF-8. Whoever learns it can
                soon guess the password.

        Raises:
            BreachesUnavailable: It can't say, and said so within two seconds.
        """


class PwnedRanges:
    """The service Pwned Passwords, or a mirror of it, asked by range over verified TLS.

    Args:
        url: `https://` and a host, with a port or path if need be; `/range/` and five digits are added.
        cafile: PEM file of the authorities of a mirror; those of the system if None.
        timeout: Seconds for a whole look-up.

    Raises:
        ConfigurationError: The URL isn't https, or carries a query or credentials; no such `cafile`.
    """

    def __init__(
        self, url: str = SERVICE, *, cafile: Path | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        parts = urlsplit(url)
        if (
            parts.scheme != "https"
            or not parts.hostname
            or parts.query
            or parts.fragment
            or "@" in parts.netloc
        ):
            raise ConfigurationError("the source of breached passwords must be https://HOST[:PORT][/PATH]")
        if cafile is not None and not cafile.is_file():
            raise ConfigurationError(f"{cafile} with the authorities of {parts.hostname} isn't there")
        self._host, self._port, self._path = parts.hostname, parts.port or 443, parts.path.rstrip("/")
        self._cafile = cafile
        self._timeout = timeout

    async def knows(self, sha1: Secret) -> bool:
        """Say whether the service has the suffix in the range of the prefix; see `BreachSource`."""
        prefix = sha1.reveal()[:PREFIX_DIGITS].decode("ascii")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                answer = await loop.run_in_executor(self._threads, self._ask, prefix)
        except TimeoutError:
            raise BreachesUnavailable("timeout") from None
        except (OSError, HTTPException) as error:
            raise BreachesUnavailable(type(error).__name__) from None
        return _has(answer, sha1)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS, thread_name_prefix="thebes-breaches")

    @cached_property
    def _context(self) -> ssl.SSLContext:
        from ssl import create_default_context  # noqa: PLC0415 - loads OpenSSL's part for TLS

        return create_default_context(cafile=self._cafile)

    def _ask(self, prefix: str) -> bytes:
        connection = HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
        try:
            fields = {"Add-Padding": "true", "User-Agent": "thebes", "Accept": "text/plain"}
            connection.request("GET", f"{self._path}/range/{prefix}", headers=fields)
            with connection.getresponse() as response:
                if response.status != 200:
                    raise HTTPException(f"status {response.status}")
                return _read(response, deadline=time.monotonic() + self._timeout)
        finally:
            connection.close()


class PwnedFile:
    """A downloaded copy of Pwned Passwords: `SHA1:COUNT` a line, ordered by hash.

    It is searched where it lies, by some 35 reads, and never loaded.

    Raises:
        ConfigurationError: The file can't be read, or isn't ordered by hash.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                sampled = [_line_at(file, size * part // SAMPLES)[1] for part in range(SAMPLES)]
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path} is no list of breached passwords: {error}") from None
        if not size or sampled != sorted(sampled):
            raise ConfigurationError(f"{path} isn't ordered by hash: download the version that is")

    async def knows(self, sha1: Secret) -> bool:
        """Say whether a line has this SHA-1; see `BreachSource`."""
        try:
            return await asyncio.to_thread(self._search, sha1)
        except (OSError, ValueError) as error:
            raise BreachesUnavailable(type(error).__name__) from None

    def _search(self, wanted: Secret) -> bool:
        with self._path.open("rb", buffering=0) as file:
            low, high = 0, os.fstat(file.fileno()).st_size
            while low < high:
                start, digest, end = _line_at(file, (low + high) // 2)
                if digest == wanted.reveal():
                    return True
                low, high = (end, high) if digest < wanted.reveal() else (low, start)
        return False


def _read(response: HTTPResponse, *, deadline: float) -> bytes:
    """Return a body of a sane size. A socket's timeout is for one read only: a byte a second would go on."""
    answer = bytearray()
    while part := response.read1(MAX_ANSWER_BYTES):
        answer += part
        if len(answer) > MAX_ANSWER_BYTES:
            raise HTTPException("the answer is too long")
        if time.monotonic() > deadline:
            raise TimeoutError
    if response.length:  # of what was announced so much is missing; read1() takes that for the end
        raise HTTPException("the answer is cut short")
    return bytes(answer)


def _has(answer: bytes, sha1: Secret) -> bool:
    """Say whether a range has the rest of a SHA-1. Padding has the count 0 and doesn't count."""
    for line in answer.split():
        suffix, _, count = line.partition(b":")
        if suffix.upper() == sha1.reveal()[PREFIX_DIGITS:]:
            return count.strip(b"0") != b""
    return False


def _line_at(file: FileIO, place: int) -> tuple[int, bytes, int]:
    """Return where the line around a byte begins, its SHA-1, and where the next one begins.

    Raises:
        ValueError: There is no line of a list there.
    """
    begin = max(0, place - LONGEST_LINE)
    file.seek(begin)
    around = file.read(2 * LONGEST_LINE)
    start = around.rfind(b"\n", 0, place - begin) + 1
    line = re.match(rb"([0-9A-Fa-f]{40})(?::\d{1,15})?[ \t]*\r?(?:\n|\Z)", around[start:])
    if line is None:
        raise ValueError("a line isn't SHA1:COUNT")
    return begin + start, line[1].upper(), begin + start + line.end()
