"""Hosts of a test's own on this machine: network namespaces with addresses of their own, joined by a bridge."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def network_hosts(count: int) -> Iterator[dict[str, list[str]]]:
    """Makes hosts that reach one another and nothing else.

    Args:
        count: how many, at most 200.

    Returns:
        For each host's address the command that a command has to follow to run there.

    Raises:
        OSError or subprocess.CalledProcessError: it is not permitted here, or there is no `ip`.
    """
    name = f"deeplab{os.getpid()}"
    hub, made = f"{name}hub", []
    try:
        _ip("netns", "add", hub)
        made.append(hub)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        hosts = {}
        for number in range(count):
            host, address = f"{name}h{number}", f"10.213.7.{number + 1}"
            _ip("netns", "add", host)
            made.append(host)
            # Both ends are made inside: the machine's own network is not touched.
            _ip("-n", hub, "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("-n", hub, "link", "set", f"to{number}", "master", "bridge", "up")
            _ip("-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
            for link in ("eth0", "lo"):
                _ip("-n", host, "link", "set", link, "up")
            hosts[address] = ["ip", "netns", "exec", host]
        yield hosts
    finally:
        for host in reversed(made):
            subprocess.run(["ip", "netns", "del", host], check=False)
