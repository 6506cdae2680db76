"""`thebes serve` as a user runs it: what it refuses, what it says, and how it stops."""

import contextlib
import os
import re
import signal
import socket
import stat
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest
import websockets.sync.client
from cryptography import x509

from commanding import APP, serve_to_the_end, serving_command
from issuing import Authority
from live import eventually, is_refused

pytestmark = pytest.mark.slow

CLIENTS = 4
NAVIGATION = {"Host": "localhost", "Accept": "text/html", "Sec-Fetch-Mode": "navigate"}


@pytest.fixture
def authority(tmp_path) -> Authority:
    """A good pair of this test's own."""
    made = Authority(tmp_path)
    made.issue()
    return made


@pytest.fixture
def project(tmp_path):
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def over_tls(authority: Authority, *options: str) -> tuple[str, ...]:
    pair = ("--certificate", str(authority.certificate), "--key", str(authority.key))
    return (*pair, "--host", "127.0.0.1", "--port", "0", *options)


PROXY = ("--behind-proxy", "127.0.0.1", "--port", "0")


class TestWhatIsRefused:
    def complaint(self, project, *options, **environ) -> str:
        ended = serve_to_the_end(project, *options, **environ)
        assert ended.returncode == 1, ended.stderr
        assert "Traceback" not in ended.stderr
        assert ended.stderr.count("thebes: ") == 1
        return ended.stderr

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ((), "nothing says who ends TLS"),
            (("--certificate", "a.pem"), "--certificate and --key belong together"),
            (("--uds", "a.sock", "--port", "1"), "--uds is for a proxy on this machine"),
            ((*PROXY, "--http-port", "0"), "--http-port sends people to https"),
            ((*PROXY, "--tls", "old"), "--tls is old; allowed are intermediate and modern"),
            ((*PROXY, "--guard", "x=1"), "--guard knows no 'x'; allowed are handshake_seconds"),
            ((*PROXY, "--guard", "body_seconds=soon"), "is 'soon', which is no number"),
            ((*PROXY, "--guard", "body_seconds=0"), "body_seconds is 0.0; allowed is more than 0"),
            (("--behind-proxy", "10.0.0.300", "--port", "0"), "proxies has '10.0.0.300'"),
        ],
    )
    def test_options_that_contradict_each_other(self, project, options, complaint):
        assert complaint in self.complaint(project, *options)

    @pytest.mark.parametrize("mode", ["development", "test"])
    def test_another_mode_than_production(self, project, mode):
        assert f"THEBES_ENV is {mode}" in self.complaint(project, *PROXY, THEBES_ENV=mode)

    def test_settings_that_production_lacks_are_all_named(self, project):
        (project / "main.py").write_text(APP.replace('hosts=["localhost"], ', ""))
        text = self.complaint(project, *PROXY, THEBES_SECRET_KEYS="")
        assert "no host is set" in text
        assert "THEBES_SECRET_KEYS" in text

    @pytest.mark.parametrize(
        ("module", "complaint"),
        [
            ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
            ("raise ValueError('no luck')", "ValueError: no luck"),
            ("app = ", "SyntaxError"),
            ("", "no app at 'main:app'"),
        ],
    )
    def test_a_module_that_fails_is_named_with_its_line(self, project, module, complaint):
        (project / "main.py").write_text(module)
        text = self.complaint(project, *PROXY)
        assert complaint in text
        assert "main" in text

    def test_an_app_whose_start_fails(self, project):
        failing = "\nasync def lifespan(app):\n    raise RuntimeError('no database')\n    yield\n"
        text = APP.replace("app = Starlette(", f"{failing}\napp = Starlette(lifespan=lifespan, ")
        (project / "main.py").write_text(text)
        for workers in ("1", "2"):
            # Each start has keys of its own, which open no other one's store.
            store = f"sqlite:///with-{workers}.db"
            ended = serve_to_the_end(project, *PROXY, "--workers", workers, THEBES_DATABASE_URL=store)
            assert ended.returncode == 1
            assert "thebes: main:app did not start; its own error stands above" in ended.stderr
            assert "RuntimeError" in ended.stderr

    def test_an_app_that_sets_its_proxies_itself_does_not_hear_the_command(self, project):
        text = APP.replace("hosts=[", 'proxies=["10.0.0.0/8"], hosts=[')
        (project / "main.py").write_text(text)
        assert "the app sets proxies itself, which wins: add 127.0.0.1 there" in self.complaint(
            project, *PROXY
        )

    def test_a_taken_port(self, project):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            text = self.complaint(project, "--behind-proxy", "127.0.0.1", "--port", port)
        assert f"port {port} is taken on 127.0.0.1; choose another with --port" in text

    @pytest.mark.requirement("TLS-23")
    @pytest.mark.parametrize(
        ("spoil", "complaint"),
        [
            (
                lambda authority: authority.issue(self_signed=True),
                "is self-signed, so no client can verify it",
            ),
            (lambda authority: authority.issue(days=-1), "expired at"),
            (lambda authority: authority.issue("other.example"), "does not cover localhost"),
        ],
    )
    def test_a_certificate_that_no_client_would_take(self, project, authority, spoil, complaint):
        spoil(authority)
        assert complaint in self.complaint(project, *over_tls(authority))

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
    def test_a_key_that_others_can_read(self, project, authority, mode):
        authority.key.chmod(mode)
        text = self.complaint(project, *over_tls(authority))
        assert f"has mode {mode:04o}, so others may have copied the key; allowed is 0600" in text


@pytest.mark.requirement("TLS-23")
def test_a_self_signed_certificate_is_served_where_that_is_asked_for(project, authority):
    authority.issue(self_signed=True)
    options = over_tls(authority, "--insecure-allow-self-signed")
    with serving_command(project, *options, root=authority.certificate) as served:
        assert served.get().text == "one None"


class TestOverTls:
    @pytest.fixture
    def served(self, project, authority):
        options = over_tls(authority, "--http-port", "0", "--guard", "header_seconds=0.3")
        with serving_command(project, *options, root=authority.root) as running:
            yield running

    def test_the_summary_says_what_is_served(self, served, authority):
        for line in (
            "thebes serve  main:app",
            f"certificate {authority.certificate}, until ",
            "connections at most, 100 from one address",
            "1 on  https",
        ):
            assert line in served.output

    def test_requests_and_websockets_are_answered_in_production(self, served):
        answer = served.get("/?token=canary")
        assert (answer.status_code, answer.text) == (200, "one None")
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert "server" not in answer.headers
        plain = socket.create_connection(("127.0.0.1", served.https), 10)
        with websockets.sync.client.connect(
            "wss://localhost/echo", sock=plain, ssl=served.context(), proxy=None
        ) as connection:
            connection.send("hello")
            assert connection.recv() == "hello"
        eventually(served.says('"GET / HTTP/1.1" 200'))
        assert "canary" not in served.output

    def test_a_guard_can_be_changed(self, served):
        with (
            socket.create_connection(("127.0.0.1", served.https), 10) as plain,
            served.context().wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(b"GET / HT")
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")

    @pytest.mark.requirement("TLS-21", by="live")
    def test_a_renewed_certificate_is_taken_up_by_itself_and_on_sighup(self, served, authority):
        before = served.serial()
        authority.issue()
        eventually(lambda: served.serial() == serial_in(authority))
        authority.issue()
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: served.serial() == serial_in(authority))
        assert served.serial() != before
        assert served.process.poll() is None

    def test_a_running_request_is_finished_and_a_new_one_refused_on_sigterm(self, served):
        answers: list[httpx2.Response] = []
        asking = threading.Thread(target=lambda: answers.append(served.get("/slow", timeout=20)))
        asking.start()
        eventually(lambda: len(established(served.https)) > 0)
        served.process.terminate()
        eventually(served.says("Shutting down"))
        eventually(lambda: is_refused(served.https))
        asking.join()
        assert [answer.text for answer in answers] == ["slow"]
        assert served.process.wait(10) == 0

    @pytest.mark.requirement("TLS-12", by="live")
    def test_the_plain_listener_never_sends_hsts_and_serves_nothing(self, served):
        port = served.port("redirects to https")
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
                for path in ("/", "/slow", "/healthz", "/nowhere"):
                    for headers in (NAVIGATION, {"Host": "localhost"}, {"Host": "evil.example"}):
                        answer = client.request(method, path, headers=headers)
                        assert answer.status_code in (308, 400, 403, 421), answer.text
                        assert "strict-transport-security" not in answer.headers
                        location = answer.headers.get("location", "https://localhost/")
                        assert location.startswith("https://localhost/")
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nX : a\r\n\r\n")
            raw = connection.recv(65536)
        assert raw.startswith(b"HTTP/1.1 400")
        assert b"strict-transport-security" not in raw.lower()

    def test_the_plain_listener_sends_a_person_to_https(self, served):
        port = served.port("redirects to https")
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            answer = client.get("/slow?a=1", headers=NAVIGATION)
        assert (answer.status_code, answer.headers["location"]) == (308, "https://localhost/slow?a=1")


class TestBehindAProxy:
    def test_plain_http_is_served_to_a_declared_proxy_that_says_https(self, project):
        with serving_command(project, *PROXY, "--host", "127.0.0.1") as served:
            port = served.port("plain HTTP from a proxy")
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                headers = {"Host": "localhost", "X-Forwarded-Proto": "https"}
                assert client.get("/", headers=headers).text == "one None"
                assert client.get("/", headers={"Host": "localhost"}).status_code == 403

    def test_a_unix_socket_is_for_the_proxy_on_it_and_for_its_group(self, project):
        path = project / "app.sock"
        with serving_command(project, "--uds", str(path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            transport = httpx2.HTTPTransport(uds=str(path))
            with httpx2.Client(transport=transport, base_url="http://localhost") as client:
                assert client.get("/", headers={"X-Forwarded-Proto": "https"}).text == "one None"
                assert client.get("/").status_code == 403
        assert not path.exists()

    def test_a_unix_socket_that_was_left_behind_is_taken_over_and_a_live_one_is_not(self, project):
        path = project / "app.sock"
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
            left_behind.listen()
            assert "somebody listens on" in serve_to_the_end(project, "--uds", str(path)).stderr
        with serving_command(project, "--uds", str(path)) as served:
            assert served.process.poll() is None
        path.write_text("a file")
        assert "is there already, and no socket" in serve_to_the_end(project, "--uds", str(path)).stderr
        assert path.read_text() == "a file"


class TestWorkers:
    def test_serve_from_the_same_port_and_share_the_caps(self, project, authority):
        options = over_tls(authority, "--workers", "2", "--guard", "connections_per_address=40")
        with serving_command(project, *options, root=authority.root) as served:
            eventually(lambda: served.output.count("Application startup complete") == 2, 30)
            assert "2 workers, each with " in served.output
            assert ", 20 from one address" in served.output
            assert [served.get().status_code for _ in range(10)] == [200] * 10
            authority.issue()
            eventually(lambda: served.serial() == serial_in(authority))

    def test_are_replaced_on_sighup_without_a_failed_request(self, project, authority):
        with serving_command(project, *over_tls(authority, "--workers", "2"), root=authority.root) as served:
            eventually(lambda: served.output.count("Application startup complete") == 2, 30)
            answers: Counter[str] = Counter()

            def ask() -> None:
                end = time.monotonic() + 60
                while served.output.count("Finished server process") < 2 and time.monotonic() < end:
                    try:
                        answers[str(served.get().status_code)] += 1
                    except httpx2.HTTPError as error:
                        answers[repr(error)] += 1

            asking = [threading.Thread(target=ask) for _ in range(CLIENTS)]
            for thread in asking:
                thread.start()
            served.process.send_signal(signal.SIGHUP)
            for thread in asking:
                thread.join()
            assert list(answers) == ["200"], (answers, served.output)
            assert answers["200"] > 5
            assert served.output.count("Finished server process") == 2, served.output

    def test_one_that_dies_while_it_is_asked_is_replaced_at_once(self, project):
        with serving_command(project, *PROXY, "--workers", "2") as served:
            eventually(lambda: served.output.count("Application startup complete") == 2, 30)
            pid = int(re.findall(r"Started server process \[(\d+)\]", served.output)[0])
            os.kill(pid, signal.SIGSTOP)
            time.sleep(1)  # it is asked every half second, and has 30 s to answer
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: served.output.count("Application startup complete") == 3, 15)

    def test_one_that_takes_long_to_start_is_waited_for(self, project, authority):
        late = "\nimport pathlib, time\nif pathlib.Path('late').exists():\n    time.sleep(6)\n"
        (project / "main.py").write_text(APP + late)
        with serving_command(project, *over_tls(authority, "--workers", "2"), root=authority.root) as served:
            (project / "late").touch()
            served.process.send_signal(signal.SIGHUP)
            eventually(served.says("Finished server process"), 60)
            assert "was not ready in time" not in served.output


class TestStopping:
    def test_never_takes_longer_than_it_may(self, project, authority):
        """Silent, half asked, in the handshake, and with a request that the app would answer in a minute."""
        (project / "main.py").write_text(APP.replace("asyncio.sleep(1)", "asyncio.sleep(60)"))
        guards = [
            f"{name}_seconds={seconds}" for name, seconds in (("stop", 1), ("header", 60), ("idle", 60))
        ]
        options = over_tls(authority, *(part for guard in guards for part in ("--guard", guard)))
        with (
            serving_command(project, *options, root=authority.root) as served,
            contextlib.ExitStack() as stack,
        ):
            said = (b"", b"GET / HTTP/1.1\r\n", b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            for part in said:
                plain = stack.enter_context(socket.create_connection(("127.0.0.1", served.https), 10))
                connection = served.context().wrap_socket(plain, server_hostname="localhost")
                stack.enter_context(connection).sendall(part)
            stack.enter_context(socket.create_connection(("127.0.0.1", served.https), 10))
            eventually(lambda: len(established(served.https)) == 4)
            began = time.monotonic()
            served.process.terminate()
            assert served.process.wait(30) == 0
            assert time.monotonic() - began < 6
            assert "Application shutdown complete" in served.output


def serial_in(authority: Authority) -> int:
    return x509.load_pem_x509_certificate(authority.certificate.read_bytes()).serial_number


def established(port: int) -> list[str]:
    """Return the established connections to a port of this machine, from the kernel's table."""
    wanted = f":{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[2] for row in rows if row[1].endswith(wanted) and row[3] == "01"]
