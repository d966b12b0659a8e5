"""Whether a host name can only mean this machine: the one rule of listeners, clients and Host headers."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``: localhost and names under it, 127.0.0.0/8, ::1.

    ``host`` as in an address, a URL or a Host header without its port: any case, IPv6 with or without
    brackets, IPv4 also as IPv6 maps it (``::ffff:127.0.0.1``). No name is looked up (RFC 6761, section 6.3).
    """
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
