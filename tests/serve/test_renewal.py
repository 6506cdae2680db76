"""A certificate exchanged while requests run: what is whole and valid is taken up, anything else leaves the old."""

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gated import GET, LAST, Echo, Gated, gated, read_answer, slower
from issuing import Authority, key_pem, replace
from live import PATIENCE_SECONDS, eventually
from thebes import Events
from thebes.errors import CertificateError
from thebes.serve.accepting import Door
from thebes.serve.renewal import CertificateFiles, ServedCertificate

RSA = rsa.generate_private_key(65537, 2048)
P_256 = ec.SECP256R1()


@pytest.fixture
def authority(tmp_path) -> Authority:
    """A root of this test's own, and a good pair for localhost."""
    made = Authority(tmp_path)
    made.issue()
    return made


def files_of(authority: Authority) -> CertificateFiles:
    return CertificateFiles(certificate=authority.certificate, key=authority.key, hosts=["localhost"])


def break_key_mode(authority: Authority) -> None:
    authority.issue()
    authority.key.chmod(0o640)


def write_half(authority: Authority) -> None:
    key = ec.generate_private_key(P_256)
    replace(authority.key, key_pem(key))
    authority.certificate.write_bytes(authority.signed(key=key)[:300])


def write_no_pair(authority: Authority) -> None:
    replace(authority.key, key_pem(ec.generate_private_key(P_256)))
    replace(authority.certificate, authority.signed(key=ec.generate_private_key(P_256)))


BAD = {
    "half written": (write_half, "holds no certificate in PEM form"),
    "of another key": (write_no_pair, "does not belong to the first certificate"),
    "expired": (lambda authority: authority.issue(days=-1), "expired at"),
    "of another name": (lambda authority: authority.issue("other.example"), "does not cover localhost"),
    "self-signed": (lambda authority: authority.issue(self_signed=True), "is self-signed"),
    "with a key that others can read": (break_key_mode, "has mode 0640"),
    "with a weak key": (
        lambda authority: authority.issue(key=ec.generate_private_key(ec.SECP256K1())),
        "lies on secp256k1",
    ),
    "gone": (lambda authority: authority.certificate.unlink(), "cannot read"),
}
GOOD: dict[str, Callable[[Authority, object], object]] = {
    "with the old key": lambda authority, key: authority.issue(key=key),
    "with a new key": lambda authority, key: authority.issue(),
    "of RSA": lambda authority, key: authority.issue(key=RSA),
    "of ECDSA again": lambda authority, key: authority.issue(),
}


class TestTheFiles:
    @pytest.fixture
    def lines(self) -> list[str]:
        return []

    @pytest.fixture
    def served(self, authority, lines) -> ServedCertificate:
        events = Events(lambda _severity, line: lines.append(line))
        return ServedCertificate(files_of(authority), lambda: events)

    @pytest.mark.requirement("TLS-23")
    @pytest.mark.parametrize("name", BAD)
    def test_a_bad_pair_can_not_begin(self, authority, name):
        spoil, complaint = BAD[name]
        spoil(authority)
        with pytest.raises(CertificateError, match=complaint):
            ServedCertificate(files_of(authority), Events)

    @pytest.mark.requirement("TLS-23")
    def test_a_self_signed_one_is_served_where_that_is_asked_for(self, authority):
        authority.issue(self_signed=True)
        files = CertificateFiles(
            certificate=authority.certificate, key=authority.key, insecure_allow_self_signed=True
        )
        assert isinstance(ServedCertificate(files, Events).context, ssl.SSLContext)

    @pytest.mark.parametrize("name", GOOD)
    async def test_a_good_pair_gives_a_new_context_and_leaves_the_old_one_alone(
        self, served, authority, name
    ):
        before = served.context
        GOOD[name](authority, authority.issue())
        assert await served.exchange()
        assert served.context is not before

    @pytest.mark.parametrize("name", BAD)
    async def test_a_bad_pair_changes_nothing_and_is_told(self, served, authority, lines, name):
        before = served.context
        spoil, complaint = BAD[name]
        spoil(authority)
        assert not await served.exchange()
        assert served.context is before
        [event] = map(json.loads, lines)
        assert event["event"] == "certificate_refused"
        assert complaint in event["detail"]

    async def test_the_same_complaint_is_told_once(self, authority):
        events = Events(lambda _severity, _line: None)
        served = ServedCertificate(files_of(authority), lambda: events)
        authority.issue("other.example")
        for _ in range(3):
            await served.exchange()
        assert events.counts["certificate_refused"] == 1

    async def test_files_that_still_change_are_let_be(self, served, authority):
        watching = asyncio.create_task(served.watch(0.05))
        before = served.context
        for _ in range(20):  # a slow writer, always ahead of the watcher
            authority.issue()
            await asyncio.sleep(0.01)
            assert served.context is before
        async with asyncio.timeout(PATIENCE_SECONDS):
            while served.context is before:
                await asyncio.sleep(0.01)
        watching.cancel()

    async def test_files_that_did_not_change_are_not_read(self, served, authority):
        before = served.context
        watching = asyncio.create_task(served.watch(0.005))
        await asyncio.sleep(0.1)
        watching.cancel()
        assert served.context is before


class Visitors:
    """Clients that never stop asking: one on a connection that it keeps, one on a new one each time."""

    def __init__(self, served: Gated) -> None:
        self._served = served
        self._stop = threading.Event()
        self.failures: list[BaseException] = []
        self.asked = 0
        self.seen: list[int] = []
        self._threads = [threading.Thread(target=self._run, args=(way,)) for way in (self._keep, self._come)]

    @contextlib.contextmanager
    def asking(self) -> Iterator["Visitors"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def has_seen(self, serial: int) -> Callable[[], bool]:
        return lambda: bool(self.failures) or serial in self.seen

    def _run(self, way: Callable[[], None]) -> None:
        try:
            way()
        except BaseException as error:
            self.failures.append(error)

    def _keep(self) -> None:
        with self._served.connect(Door.TLS) as connection:
            first = serial_of(connection)
            while not self._stop.is_set():
                connection.sendall(GET)
                assert read_answer(connection).startswith(b"HTTP/1.1 200")
                assert serial_of(connection) == first
                self.asked += 1

    def _come(self) -> None:
        while not self._stop.is_set():
            with self._served.connect(Door.TLS) as connection:
                connection.sendall(LAST)
                assert read_answer(connection).startswith(b"HTTP/1.1 200")
                serial = serial_of(connection)
                if self.seen[-1:] != [serial]:
                    self.seen.append(serial)


def serial_of(connection: ssl.SSLSocket) -> int:
    certificate = connection.getpeercert()
    assert certificate
    return int(certificate["serialNumber"], 16)


def serial_in(path: Path) -> int:
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


@pytest.mark.slow
@pytest.mark.requirement("TLS-21", by="live")
def test_certificates_change_while_requests_run_and_none_fails(loop, authority):
    key = authority.issue()
    expected = [serial_in(authority.certificate)]
    # Only the exchange could make a request fail.
    guards = slower(header_seconds=30, idle_seconds=30, stalled_seconds=30, linger_seconds=30)
    with gated(Echo(), loop=loop, authority=authority, guards=guards) as served:
        with Visitors(served).asking() as visitors:
            eventually(visitors.has_seen(expected[0]))
            for make in GOOD.values():
                make(authority, key)
                expected.append(serial_in(authority.certificate))
                eventually(visitors.has_seen(expected[-1]))
                for spoil, complaint in BAD.values():
                    spoil(authority)
                    eventually(lambda text=complaint: any(text in line for line in served.lines))
                    served.lines.clear()
        assert visitors.failures == []
        assert visitors.asked > 100
        # Each good pair once, in its order, and nothing else in between.
        assert visitors.seen == expected
