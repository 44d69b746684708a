"""Settings of a topic that are changed while it runs: replicated, durable, small. Pure.

They live in Paxos group 0 of the topic's first store (docs/decisions/0009-settings-in-the-store.md). What a key means
is not the store's business; speed limits and pauses of consumers are kept so (phxqueue/consumer/throttle_settings.py).
"""

from __future__ import annotations

from phxqueue.net.status import Status
from phxqueue.proto.store_pb2 import SettingChange
from phxqueue.store.columns import ColumnReader, ColumnWriter
from phxqueue.store.outcomes import Refusal

#: Constants of the command version: what is applied must not depend on configuration.
MAX_SETTINGS = 4096
MAX_KEY_BYTES = 256
MAX_VALUE_BYTES = 4096


class SettingsTable:
    """Keys and values.

    Attributes:
        revision: the instance that changed it last, plus one; 0: nothing ever did.
        values: by key.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.values: dict[str, bytes] = {}

    def apply(self, change: SettingChange, instance: int) -> int | Refusal:
        """Set a key, or take it out; returns the revision."""
        key, value = change.key, change.value
        if not key or len(key.encode()) > MAX_KEY_BYTES or len(value) > MAX_VALUE_BYTES:
            return Refusal(
                Status.INVALID_ARGUMENT,
                f"a setting's key has 1 to {MAX_KEY_BYTES} bytes and its value at most {MAX_VALUE_BYTES}",
            )
        if not change.HasField("value"):
            if self.values.pop(key, None) is not None:
                self.revision = instance + 1
        elif key not in self.values and len(self.values) >= MAX_SETTINGS:
            return Refusal(Status.RESOURCE_EXHAUSTED, f"there are {MAX_SETTINGS} settings: take some out first")
        elif self.values.get(key) != value:
            self.values[key] = value
            self.revision = instance + 1
        return self.revision

    def write(self, out: ColumnWriter) -> None:
        """Write all of it; in the order of the keys, so that replicas write the same."""
        out.u64(self.revision)
        out.u32(len(self.values))
        for key, value in sorted(self.values.items()):
            for part in (key.encode(), value):
                out.u32(len(part))
                out.raw(part)

    def read(self, source: ColumnReader) -> None:
        """Take over what was written."""
        self.revision = source.u64()
        for _ in range(source.u32()):
            key = source.raw(source.u32()).decode()
            self.values[key] = source.raw(source.u32())
