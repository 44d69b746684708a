"""How simulated nodes tell each other on which data directory they run, as real ones do when they connect.

Nothing of a process is taken before it has said hello, nor what an earlier directory of its node has sent. Hellos are
lost and late like anything else; a node asks again until it is answered. One that comes behind that of a later process
is dropped: with TCP its connection would be gone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from phxqueue.replica.admission import Admission
from phxqueue.replica.roster import Greeting
from phxqueue.replica.told import ToldMark
from phxqueue.testing.sim.world import ProcessClock

HELLO = b"\xfe"
"""What such a message begins with; neither a frame nor a call does."""
AGAIN = 0.1
"""Seconds after which who has not answered is asked again."""
_HELLO = struct.Struct(">cBIQQ?")
_MARK = struct.Struct(">IQIQ")
_STAMP = struct.Struct(">Q")
_ASKED, _ANSWERED = 0, 1


class Hellos:
    """One process's end.

    Args:
        number: rises with every process that is started in the world.
        send: sends bytes to a peer: (receiver, wire).
    """

    def __init__(
        self,
        clock: ProcessClock,
        number: int,
        peers: Sequence[int],
        send: Callable[[int, bytes], None],
        admission: Admission,
    ) -> None:
        self._clock = clock
        self._number = number
        self._peers = peers
        self._send = send
        self._admission = admission
        self._heard: dict[int, int] = {}  # node -> the process that said hello last

    def start(self) -> None:
        """Greet everybody, until everybody has been heard."""
        silent = [peer for peer in self._peers if peer not in self._heard]
        for peer in silent:
            self._say(peer, _ASKED, self._admission.greeting())
        if silent:
            self._clock.callLater(AGAIN, self.start)

    def receive(self, sender: int, wire: bytes) -> None:
        """A peer says hello."""
        _, kind, number, incarnation, founders, fresh = _HELLO.unpack_from(wire)
        if number < self._heard.get(sender, -1):
            return
        # Before the peer is heard: its news may change what this node says, and it has to hear how things were.
        mine = self._admission.greeting()
        if number > self._heard.get(sender, -1):
            self._heard[sender] = number
            self._admission.greeted(sender, Greeting(incarnation, fresh, founders, told=_marks(wire)))
        if kind == _ASKED:
            self._say(sender, _ANSWERED, mine)

    def stamped(self, wire: bytes, incarnation: int) -> bytes:
        """A frame with the directory it comes from."""
        return _STAMP.pack(incarnation) + wire

    def taken(self, sender: int, wire: bytes) -> bytes | None:
        """The frame, if it is to be taken."""
        (incarnation,) = _STAMP.unpack_from(wire)
        return wire[_STAMP.size :] if self._admission.incarnation_of(sender) == incarnation else None

    def _say(self, peer: int, kind: int, greeting: Greeting) -> None:
        hello = _HELLO.pack(HELLO, kind, self._number, greeting.incarnation, greeting.founders, greeting.fresh)
        self._send(peer, hello + b"".join(_MARK.pack(*mark) for mark in greeting.told))


def _marks(wire: bytes) -> tuple[ToldMark, ...]:
    return tuple(ToldMark(*mark) for mark in _MARK.iter_unpack(wire[_HELLO.size :]))
