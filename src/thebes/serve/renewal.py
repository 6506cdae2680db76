"""The certificate in use, and its exchange for a new one while the server runs.

Whoever renews a certificate writes two files, one after the other, perhaps half. So a change is looked at
when the files have stopped changing, as a pair, with every check of a start; what fails leaves the old
one in use and an event. New connections get the new context; one that serves is never touched.

Sources: TLS-21; ssl.SSLContext.load_cert_chain (a mismatched pair leaves a live context broken).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thebes.errors import CertificateError
from thebes.events import Events
from thebes.https.certificates import server_context

TlsVersions = Literal["intermediate", "modern"]
WATCH_SECONDS = 1.0
# What was refused may become good without a change of the files: a certificate of tomorrow.
RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """Where the certificate lies, and what it must satisfy whenever it is read.

    Attributes:
        certificate: PEM, the server's own first, then the intermediates.
        key: PEM, mode 0600, without a passphrase.
        tls: "intermediate" speaks TLS 1.3 and 1.2, "modern" TLS 1.3 only.
        hosts: Names that it must cover.
        insecure_allow_self_signed: Serve one that no client can verify.
    """

    certificate: Path
    key: Path
    tls: TlsVersions = "intermediate"
    hosts: Sequence[str] = ()
    insecure_allow_self_signed: bool = False

    def context(self) -> ssl.SSLContext:
        """Read both files, and return a new context that serves them.

        Raises:
            CertificateError: They can't serve; the message says why.
        """
        return server_context(
            self.certificate,
            self.key,
            tls=self.tls,
            hosts=self.hosts,
            insecure_allow_self_signed=self.insecure_allow_self_signed,
        )

    def signature(self) -> tuple[object, ...]:
        """Return what differs once a file was written or replaced."""
        return tuple(_signature(path) for path in (self.certificate, self.key))


class ServedCertificate:
    """The context for new connections, kept up to date.

    Args:
        files: What is read and watched.
        events: Returns what is told of each exchange and each refusal.

    Raises:
        CertificateError: The files can't serve.
    """

    def __init__(self, files: CertificateFiles, events: Callable[[], Events]) -> None:
        self._files = files
        self._events = events
        self._seen = files.signature()
        self._tried = self._seen
        self._retry_in = 0.0
        self._complaint: str | None = None
        self.context = files.context()

    async def watch(self, seconds: float) -> None:
        """Look at the files for ever, so often."""
        while True:
            await asyncio.sleep(seconds)
            signature = self._files.signature()
            is_settled, self._seen = signature == self._seen, signature
            self._retry_in -= seconds
            is_due = self._complaint is not None and self._retry_in <= 0
            if is_settled and (signature != self._tried or is_due):
                await self.exchange()

    async def exchange(self) -> bool:
        """Read the files now; return whether they serve from here on."""
        self._tried = self._files.signature()
        self._retry_in = RETRY_SECONDS
        try:
            # In a thread: to check an RSA key takes as long as many requests.
            context = await asyncio.to_thread(self._files.context)
        except CertificateError as error:
            self._complain(str(error))
            return False
        self.context = context
        self._complaint = None
        self._events().emit("certificate_exchanged", detail=str(self._files.certificate))
        return True

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._events().emit(
                "certificate_refused",
                severity="error",
                outcome="failed",
                detail=f"{complaint}; the old one stays",
            )
        self._complaint = complaint


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
