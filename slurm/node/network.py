"""Which of this node's network interfaces the other nodes are on."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct

_GET_ADDRESS = 0x8915  # SIOCGIFADDR of linux/sockios.h


def interface_towards(address: str) -> str | None:
    """The interface from which this node speaks to `address` (a name or IPv4 address); None if unknown.

    A node's own name is no guide: many /etc/hosts give it a loopback address.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # no packet is sent: only the route is looked up
        return _interface_of(probe.getsockname()[0])
    return None


def interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def _interface_of(own: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in interfaces():
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):  # an interface without an IPv4 address
                answer = fcntl.ioctl(probe.fileno(), _GET_ADDRESS, request)
                if socket.inet_ntoa(answer[20:24]) == own:
                    return name
    return None
