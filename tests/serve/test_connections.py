"""Caps on connections: who is counted under what, who is refused, and that each count is given back."""

import contextlib
import errno
import socket
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gated import GET, LAST, Echo, gated, read_answer, read_to_end, slower
from live import eventually
from thebes.serve.accepting import Door
from thebes.serve.connections import TOO_MANY, TOO_MANY_OF_ADDRESS, Connections, CountedSocket
from thebes.serve.guards import MAX_CONNECTIONS, Guards

SHARE = 4


def counter(*, total: int = 1000, share: int = 3, unlimited: tuple[str, ...] = ()) -> Connections:
    guards = Guards(connections=total, connections_per_address=share)
    return Connections(guards, [ip_network(name) for name in unlimited])


class TestCounting:
    def test_one_address_gets_its_share_and_another_the_same(self):
        count = counter()
        assert [callable(count.admit("192.0.2.1")) for _ in range(4)] == [True, True, True, False]
        assert count.admit("192.0.2.1") == TOO_MANY_OF_ADDRESS
        assert callable(count.admit("192.0.2.2"))

    def test_the_total_holds_for_all(self):
        count = counter(total=2)
        assert callable(count.admit("192.0.2.1"))
        assert callable(count.admit(None))
        assert count.admit("192.0.2.2") == TOO_MANY

    def test_what_is_released_can_be_taken_again(self):
        count = counter(share=1)
        for _ in range(3):
            release = count.admit("192.0.2.1")
            assert callable(release)
            release()
        assert (count.total, count.by_address) == (0, {})

    def test_all_addresses_of_an_ipv6_network_are_one_client(self):
        count = counter()
        admitted = [callable(count.admit(f"2001:db8:0:1::{number:x}")) for number in range(1, 6)]
        assert admitted == [True, True, True, False, False]
        assert callable(count.admit("2001:db8:0:2::1"))

    def test_a_site_gets_16_shares(self):
        count = counter(share=2)
        admitted = [callable(count.admit(f"2001:db8:0:{network:x}::1")) for network in range(40)]
        assert admitted.count(True) == 32
        assert callable(count.admit("2001:db8:1::1"))

    def test_an_ipv4_address_is_the_same_in_ipv6_clothes(self):
        count = counter(share=1)
        assert callable(count.admit("192.0.2.1"))
        assert count.admit("::ffff:192.0.2.1") == TOO_MANY_OF_ADDRESS
        assert callable(count.admit("::ffff:192.0.2.2"))

    def test_a_zone_does_not_make_another_client(self):
        count = counter(share=1)
        assert callable(count.admit("fe80::1%eth0"))
        assert count.admit("fe80::1%eth1") == TOO_MANY_OF_ADDRESS

    @pytest.mark.parametrize("proxy", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"])
    def test_a_declared_proxy_has_no_share_but_is_in_the_total(self, proxy):
        count = counter(total=50, unlimited=("10.0.0.0/8", "2001:db8::/64"))
        assert all(callable(count.admit(proxy)) for _ in range(50))
        assert count.admit(proxy) == TOO_MANY
        assert count.by_address == {}

    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60))
    def test_the_count_is_what_is_open_whatever_happens(self, steps):
        count = counter(total=8, share=3)
        held: dict[int, list] = {}
        for opens, number in steps:
            if opens:
                release = count.admit(f"192.0.2.{number}")
                if callable(release):
                    held.setdefault(number, []).append(release)
            elif held.get(number):
                held[number].pop()()
            assert count.total == sum(map(len, held.values()))
            assert count.total <= 8
            assert all(len(each) <= 3 for each in held.values())
            assert count.by_address == {f"192.0.2.{key}": len(each) for key, each in held.items() if each}


class TestCountedSocket:
    def made(self) -> tuple[CountedSocket, list[str]]:
        told: list[str] = []
        connection = CountedSocket(socket.AF_INET, socket.SOCK_STREAM)
        connection.on_close = lambda: told.append("over")
        return connection, told

    def test_it_tells_once_when_it_is_closed(self):
        connection, told = self.made()
        connection.close()
        connection.close()
        assert told == ["over"]

    def test_it_tells_when_its_descriptor_is_given_away(self):
        connection, told = self.made()
        socket.close(connection.detach())
        assert told == ["over"]

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_it_tells_when_it_is_forgotten(self):
        connection, told = self.made()
        del connection
        assert told == ["over"]


class TestGuardsOfAProcess:
    def test_workers_share_the_caps_and_leave_a_browser_its_six(self):
        each = Guards(connections=1000, connections_per_address=100).shared_by(3)
        assert (each.connections, each.connections_per_address) == (334, 34)
        assert Guards().shared_by(64).connections_per_address == 8
        assert Guards(connections_per_address=2).shared_by(4).connections_per_address == 2

    def test_the_total_is_at_most_half_of_the_descriptors(self):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        fitting, wanting = Guards().within_descriptors(), Guards(connections=10**7).within_descriptors()
        raised, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert raised >= soft
        assert fitting.connections == min(MAX_CONNECTIONS, raised // 2)
        assert wanting.connections == raised // 2
        assert raised == hard or raised >= min(hard, 2 * MAX_CONNECTIONS)


@pytest.mark.slow
class TestOverASocket:
    @pytest.fixture
    def served(self, loop, authority):
        guards = slower(connections_per_address=SHARE, connections=2 * SHARE, header_seconds=30)
        with gated(
            Echo(), loop=loop, authority=authority, guards=slower(guards, handshake_seconds=30)
        ) as running:
            yield running

    def hold(self, served, count, door, source="127.0.0.1"):
        held = [served.connect_tcp(door, source=source) for _ in range(count)]
        eventually(lambda: served.gate.connections.by_address.get(source, 0) == count)
        return held

    def is_reset(self, served, door, source="127.0.0.1"):
        try:
            with served.connect_tcp(door, source=source) as surplus:
                return read_to_end(surplus) == (b"", True)
        except ConnectionResetError:
            return True  # before the client was back from connecting

    @pytest.mark.parametrize("door", [Door.PROXY, Door.TLS], ids=["plain", "tls"])
    def test_who_has_its_share_is_reset_before_anything_was_said(self, served, door):
        held = self.hold(served, SHARE, door)
        for _ in range(20):
            assert self.is_reset(served, door)
        assert served.open_connections == SHARE
        # Another address doesn't notice.
        assert served.say(LAST, door=door, source="127.0.0.2").statuses == [200]
        for connection in held:
            connection.close()
        eventually(lambda: served.open_connections == 0)
        assert served.say(LAST, door=door).statuses == [200]

    def test_the_total_holds_over_all_addresses_and_doors(self, served):
        held = [
            *self.hold(served, SHARE, Door.PROXY, "127.0.0.2"),
            *self.hold(served, SHARE, Door.TLS, "127.0.0.3"),
        ]
        assert self.is_reset(served, Door.PROXY, "127.0.0.4")
        for connection in held:
            connection.close()
        eventually(lambda: served.open_connections == 0 and not served.gate.connections.by_address)
        assert any("connections-total" in line for line in served.lines)

    def test_whatever_ends_a_connection_gives_its_place_back(self, served, loop):
        ends = {
            "an answer": lambda: served.say(LAST, door=Door.TLS),
            "a refusal": lambda: served.say(b"GET\r\n\r\n"),
            "no TLS at all": lambda: self.spoken_plainly(served),
            "a client that goes": lambda: served.connect(Door.TLS).close(),
            "a client that goes before TLS": lambda: served.connect_tcp(Door.TLS).close(),
            "a client that resets": lambda: self.reset(served),
            "an app that fails": lambda: served.say(LAST.replace(b"/last", b"/fails"), door=Door.TLS),
        }
        for name, end in ends.items():
            for _ in range(3 * SHARE):
                # A client that goes at once may be counted after the next has come: then that is one too many.
                with contextlib.suppress(ConnectionError):
                    end()
            # When this client is answered, all before it have been accepted.
            assert served.say(LAST, source="127.0.0.9").statuses == [200], name
            eventually(lambda: served.open_connections == 0)
            assert served.gate.connections.by_address == {}, name

    def spoken_plainly(self, served):
        with served.connect_tcp(Door.TLS) as connection:
            connection.sendall(GET)
            read_to_end(connection)

    def reset(self, served):
        connection = served.connect_tcp()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(GET)
        connection.close()

    def test_a_declared_proxy_may_hold_more(self, loop):
        guards = slower(connections_per_address=SHARE)
        with gated(Echo(), loop=loop, guards=guards, unlimited=(ip_network("127.0.0.1"),)) as served:
            held = [served.connect() for _ in range(5 * SHARE)]
            for connection in held:
                connection.sendall(GET)
            for connection in held:
                assert read_answer(connection).startswith(b"HTTP/1.1 200")
                connection.close()

    def test_without_descriptors_it_rests_and_goes_on(self, loop, monkeypatch):
        """EMFILE, as the kernel reports it: the loop must neither end nor burn the core."""
        with gated(Echo(), loop=loop) as served:
            [listener] = served.gate.listeners
            listening = listener.sockets[0]
            failing = _Exhausted(listening)
            listener._listening = failing
            with served.connect() as connection:
                eventually(lambda: failing.tries == 1)
                assert any('"accept_paused"' in line for line in served.lines)
                failing.is_exhausted = False
                connection.sendall(GET)
                assert read_answer(connection).startswith(b"HTTP/1.1 200")
            assert failing.tries == 1


class _Exhausted:
    """A listening socket in a process that has no descriptor left."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.tries = 0
        self.is_exhausted = True

    def accept(self):
        if self.is_exhausted:
            self.tries += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listening.accept()

    def fileno(self) -> int:
        return self._listening.fileno()
