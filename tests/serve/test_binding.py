"""Sockets are bound where they were asked for, and what can't be bound is one sentence."""

import socket
import stat

import pytest

from thebes.errors import ConfigurationError
from thebes.serve.binding import EVERYWHERE, bind_tcp, bind_unix


def test_every_address_gets_the_same_free_port():
    first, second = bind_tcp(["127.0.0.1", "127.0.0.2"], 0)
    with first, second:
        assert first.getsockname()[1] == second.getsockname()[1] != 0
        assert first.proto == socket.IPPROTO_TCP
        assert first.get_inheritable()


def test_an_ipv6_socket_leaves_ipv4_alone():
    bound = bind_tcp(EVERYWHERE, 0)
    try:
        assert bound[0].family == socket.AF_INET
        for other in bound[1:]:
            assert other.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    finally:
        for each in bound:
            each.close()


def test_a_taken_port_is_named_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} is taken on 127.0.0.1; choose another"):
            bind_tcp(["127.0.0.1"], port)


def test_an_address_of_another_machine_is_left_out_and_alone_it_is_an_error():
    bound = bind_tcp(["127.0.0.1", "192.0.2.1"], 0)
    assert len(bound) == 1
    bound[0].close()
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1"):
        bind_tcp(["192.0.2.1"], 0)


def test_a_name_that_is_no_address_is_an_error():
    with pytest.raises(ConfigurationError, match="'localhost' is no IPv4 or IPv6 address"):
        bind_tcp(["localhost"], 0)


def test_a_unix_socket_is_for_its_owner_and_its_group(tmp_path):
    path = tmp_path / "app.sock"
    with bind_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    # The file stays behind a process that was killed; the next one takes its place.
    with bind_unix(path) as again:
        again.listen()
        with pytest.raises(ConfigurationError, match="somebody listens on"):
            bind_unix(path)


def test_a_unix_socket_in_a_directory_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        bind_unix(tmp_path / "nowhere" / "app.sock")
