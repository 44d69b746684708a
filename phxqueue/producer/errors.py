"""How an enqueue can fail: surely not written, or unknown. There is no third way.

EnqueueError
  Refused               surely NOT in the queue: enqueue it again, or give up, as you like
    InvalidItem         the call itself is wrong; trying again cannot help
      UnknownTopic, UnknownPub, UnknownHandle, UnknownGroup,
      BufferNotBytes, UinOutOfRange, BadText, BadKey, ItemTooLarge,
      NotOnePlace, TooMuchAtOnce
    KeyReused           the idempotency_key is another item's
    HalfDecided         the half message was decided before, the other way
    HalfUnknown         there is no such half message (any more)
    BufferFull          the producer's own bound; try again later
    ProducerClosed
  OutcomeUnknown        perhaps in the queue: enqueueing it again may make a second copy
"""

from __future__ import annotations

from phxqueue.net.status import Status


class EnqueueError(Exception):
    """An enqueue that was not confirmed.

    Attributes:
        status: the kind of failure, in the words of the wire protocol.
        message: what happened and what to do, a sentence for a person.
    """

    status = Status.INTERNAL

    def __init__(self, message: str, status: Status | None = None) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status


class Refused(EnqueueError):
    """The item is surely not in the queue."""

    status = Status.UNAVAILABLE


class OutcomeUnknown(EnqueueError):
    """The item may or may not be in the queue.

    The producer itself never makes a second copy, however often it retries; an application that enqueues
    the same thing again may.
    """

    status = Status.DEADLINE_EXCEEDED


class KeyReused(Refused):
    """The item's `idempotency_key` was used for another item lately: one with another body, handle_id or uin."""

    status = Status.ALREADY_EXISTS


class HalfDecided(Refused):
    """The half message was decided before, the other way.

    Attributes:
        committed: how.
    """

    status = Status.ALREADY_EXISTS

    def __init__(self, message: str, status: Status | None = None, *, committed: bool) -> None:
        super().__init__(message, status)
        self.committed = committed


class HalfUnknown(Refused):
    """There never was such a half message, or it was decided so long ago that nobody knows how (a day)."""

    status = Status.NOT_FOUND


class InvalidItem(Refused):
    """The call is wrong; the message names the field, what it was and what is allowed."""

    status = Status.INVALID_ARGUMENT


class NotOnePlace(InvalidItem):
    """The items of an atomic call lead to several places; the message says which to where."""


class TooMuchAtOnce(InvalidItem):
    """The items of an atomic call are more than fit into one batch; the message names the limit."""


class UnknownTopic(InvalidItem):
    """No such topic in the cluster's configuration."""

    status = Status.NOT_FOUND


class UnknownPub(InvalidItem):
    """The topic has no such pub, or no store serves it."""

    status = Status.NOT_FOUND


class UnknownHandle(InvalidItem):
    """`handle_id` is not among the topic's `handle_ids`."""

    status = Status.NOT_FOUND


class UnknownGroup(InvalidItem):
    """A consumer group that may not read this pub, or none at all."""

    status = Status.NOT_FOUND


class BufferNotBytes(InvalidItem, TypeError):
    """`buffer` (or the value of a cookie) must be bytes."""


class UinOutOfRange(InvalidItem):
    """`uin` must be an int that fits into 64 bits, unsigned."""


class BadKey(InvalidItem):
    """`idempotency_key` must be bytes, 1 to 64 of them."""


class BadText(InvalidItem):
    """`client_id` or the key of a cookie is no str, or no valid Unicode."""


class ItemTooLarge(InvalidItem):
    """The serialized item is larger than the topic's `items_byte_size_limit`."""


class BufferFull(Refused):
    """The producer's buffer is full, and so is the line of calls that wait for it."""

    status = Status.RESOURCE_EXHAUSTED


class ProducerClosed(Refused):
    """close() has been called."""
