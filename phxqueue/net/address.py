"""Where a node listens: a host and a port, and the rule that says when plain TCP is allowed."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


class AddressError(ValueError):
    """A text that is no address, or an address that must not be used this way."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """An IP address (or a host name) and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read "host:port" or "[ipv6]:port".

        Raises:
            AddressError: naming the text and what is wrong with it.
        """
        host, separator, port_text = text.strip().rpartition(":")
        if not separator or not host:
            raise AddressError(f"{text!r} is not an address: write host:port, for example 127.0.0.1:5100")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise AddressError(f"{text!r}: put an IPv6 address in brackets, for example [::1]:5100")
        if not (port_text.isascii() and port_text.isdigit() and int(port_text) <= 65535):
            raise AddressError(f"{text!r}: the port must be a number from 0 to 65535, not {port_text!r}")
        return cls(host, int(port_text))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine can reach it. A host name other than localhost never counts."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def require_plain_allowed(self) -> None:
        """Refuse plain TCP on anything but loopback: without TLS nobody knows who is speaking.

        Raises:
            AddressError: when this address is not a loopback address.
        """
        if not self.is_loopback:
            raise AddressError(
                f"{self}: plain TCP (tls: off) is allowed on loopback addresses only; "
                "turn TLS on (phxqueue certs init) or use 127.0.0.1"
            )
