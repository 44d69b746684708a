"""Nothing is said before it is durable, and nothing is accepted against a promise: every message against the platter.

- A Prepare leaves only when the candidate's own promise is durable: after a crash its ballot must not be used again.
- A Promise leaves only when the promise is durable (Paxos Made Simple, section 2.3: "an acceptor records its intended
  response in stable storage before actually sending the response").
- An Accepted leaves only when every entry it speaks of is durable, and was accepted when no higher ballot was promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phxqueue.paxos.messages import Accepted, Message, Prepare, Promise
from phxqueue.testing.sim.checkers import Violation
from phxqueue.testing.sim.disk import Disk


class DurableAnswers:
    """Observes the network."""

    def __init__(self, disks: Mapping[int, Disk]) -> None:
        self._disks = disks

    def sent(self, sender: int, messages: Sequence[tuple[int, Message]]) -> None:
        """A frame leaves a node."""
        for group_id, message in messages:
            if isinstance(message, (Prepare, Promise)):
                self._check_promise(sender, group_id, message)
            elif isinstance(message, Accepted):
                self._check_accepted(sender, group_id, message)

    def _check_promise(self, sender: int, group_id: int, message: Prepare | Promise) -> None:
        promised = self._disks[sender].group(group_id).promised
        if promised < message.ballot:
            raise Violation(
                f"group {group_id}: node {sender} sent {type(message).__name__} at ballot {message.ballot}, while its "
                f"disk has promised no more than {promised}"
            )

    def _check_accepted(self, sender: int, group_id: int, message: Accepted) -> None:
        votes = self._disks[sender].group(group_id).votes
        for instance in range(message.first, message.last + 1):
            if (instance, message.ballot) not in votes:
                raise Violation(
                    f"group {group_id}: node {sender} says it accepted instance {instance} at ballot {message.ballot}, "
                    "but its disk does not hold that, or took it against a promise"
                )
