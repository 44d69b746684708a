from __future__ import annotations

import pytest

from phxqueue.net.address import Address, AddressError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5100", Address("127.0.0.1", 5100)),
        (" queue.example:0 ", Address("queue.example", 0)),
        ("[::1]:65535", Address("::1", 65535)),
    ],
)
def test_parse_and_print(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text.strip()


@pytest.mark.parametrize("text", ["", "localhost", ":5100", "h:", "h:x", "h:65536", "h:-1", "::1:5100", "h:٣"])
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(AddressError, match=r"address|port|IPv6") as caught:
        Address.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_plain_tcp_is_allowed_on_loopback(host: str) -> None:
    Address(host, 1).require_plain_allowed()


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "::", "queue.example", "localhost.example"])
def test_plain_tcp_is_refused_elsewhere_with_a_remedy(host: str) -> None:
    with pytest.raises(AddressError, match=r"loopback.*turn TLS on"):
        Address(host, 1).require_plain_allowed()
