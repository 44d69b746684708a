"""Every bound and interval of a connection, by name. Config files set them; defaults suit a LAN."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast

from phxqueue.config import NetSettings

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcSettings:
    """Bounds of one connection (and of one listener). Sizes in bytes, times in seconds.

    Attributes:
        max_frame_bytes: largest frame accepted from the peer; a larger one ends the connection.
        max_in_flight_calls: calls of ours that may wait for their reply on one connection; also the
            calls of the peer that may be in work at once. One more is answered RESOURCE_EXHAUSTED.
        overload_retry_after_ms: what such an answer tells the peer to wait.
        write_high_water_bytes: above this many unsent bytes nothing more is read from the peer, so a
            peer that does not read stops being served.
        max_unsent_bytes: above this many unsent bytes calls and one-way messages of ours are refused,
            and replies (which cannot be refused) end the connection.
        write_stall_timeout_s: a peer that takes nothing for so long, while bytes are waiting, is dropped.
        write_chunk_bytes: how much is handed to the transport (and encrypted) at one go.
        keepalive_interval_s: silence after which a PING is sent. Together with the next one this is how long a
            long poll can hang on a node that hangs.
        keepalive_timeout_s: silence after a PING that proves the peer gone (half-open connection).
        connect_timeout_s: for TCP, TLS handshake and first PONG together.
        handshake_timeout_s: server side: a client that has not finished its TLS handshake by then is dropped.
        goodbye_linger_s: how long a connection that is being closed for a stated reason waits for the
            peer to read that reason.
        max_connections: of one listener; one more is told so and closed.
        deadline_granularity_s: deadlines are looked at no more often than this.
    """

    max_frame_bytes: int = 64 * MIB
    max_in_flight_calls: int = 8192
    overload_retry_after_ms: int = 50
    write_high_water_bytes: int = 4 * MIB
    max_unsent_bytes: int = 128 * MIB
    write_stall_timeout_s: float = 10.0
    write_chunk_bytes: int = 96 * 1024  # six TLS records, and one send takes them
    keepalive_interval_s: float = 1.0
    keepalive_timeout_s: float = 2.0
    connect_timeout_s: float = 2.0
    handshake_timeout_s: float = 5.0
    goodbye_linger_s: float = 1.0
    max_connections: int = 4096
    deadline_granularity_s: float = 0.002

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not (value > 0 or (value == 0 and name == "goodbye_linger_s")):
                raise ValueError(f"{name} must be greater than 0, not {value!r}")


SettingsT = TypeVar("SettingsT")
DEFAULT_SETTINGS = RpcSettings()


def configured(kind: type[SettingsT], net: NetSettings, **further: Any) -> SettingsT:
    """Return settings as `net:` of the configuration has them, where a field's name is the same, and `further` ones."""
    names = [field.name for field in fields(cast("Any", kind)) if field.name in NetSettings.model_fields]
    return kind(**({name: getattr(net, name) for name in names} | further))
