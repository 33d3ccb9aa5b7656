"""By which addresses the page is reached, and who is let in there."""

import socket

import pytest

pytest.importorskip("starlette", reason="needs requirements-webapp.txt")

from deeplab_tf.errors import UserError
from deeplab_tf.webapp import server
from deeplab_tf.webapp.guard import LOOPBACK_NAMES


def entrance(host, names=(), with_token=False):
    with server.listen(host, 0) as listener:
        return server.open_entrance(listener, host, list(names), with_token), listener.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_on_this_machine_there_is_neither_token_nor_warning(host):
    found, port = entrance(host)
    assert found == server.Entrance(LOOPBACK_NAMES, "", (f"http://127.0.0.1:{port}/",), "")


def test_a_token_can_be_wanted_on_this_machine_too():
    found, port = entrance("127.0.0.1", with_token=True)
    assert len(found.token) == 32 and found.addresses == (f"http://127.0.0.1:{port}/?token={found.token}",)
    assert found.warning == "" and entrance("127.0.0.1", with_token=True)[0].token != found.token


def test_for_other_machines_there_are_a_token_a_warning_and_this_machines_names():
    found, port = entrance("0.0.0.0", names=["GPU7"])
    this_machine = socket.gethostname()
    assert len(found.token) == 32
    assert found.addresses == tuple(
        f"http://{name}:{port}/?token={found.token}" for name in ("127.0.0.1", this_machine)
    )
    assert found.names == LOOPBACK_NAMES | {"gpu7", this_machine.lower(), f"{this_machine.lower()}.local"}
    assert "encrypted" in found.warning and "token" in found.warning and "\n" not in found.warning


def test_ipv6_is_treated_alike():
    try:
        found, port = entrance("::1")
    except UserError:
        pytest.skip("this machine has no IPv6")
    assert found.addresses == (f"http://[::1]:{port}/",) and not found.token and not found.warning
    found, port = entrance("::")
    assert found.addresses[0] == f"http://[::1]:{port}/?token={found.token}" and len(found.token) == 32
    assert found.warning and "::" not in found.names
