"""Taking an acknowledgement in: is it in its place, is what it claims true, may the cursor move.

Claims reach from a position that the store has told to be durable to the one acknowledged, in pieces as they were
acknowledged before. So whatever master gets them finds its own position among them, and checks what lies above.
Claims that begin above it leave out what lies between: they come from a reader that stands elsewhere, move nothing, and
the reader is told to start again.

So is one that stands where its group stood before a replay: it names another generation. Of a reader that names none
no acknowledgement is taken, while what was replayed is being delivered, unless it is the one to which this master has
handed the last of it out, and stands where that ends: any other may not have heard of the replay.

A claim that what is stored contradicts is an alarm (`reconcile = alarm`), and with `reconcile = strict` it moves
nothing either: the items come again. Only an acknowledgement that was compared settles what was refused before: one
that was not (`reconcile` was set to `off` meanwhile) takes it as it was.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from phxqueue.net.status import RpcError, Status
from phxqueue.proto.digest import MASK64, MOST_DROPPED, Claim
from phxqueue.proto.store_pb2 import AckClaim, GetRequest
from phxqueue.store.batcher import Stretches
from phxqueue.store.disputes import alarm_name, mismatch_alarm, pubs_in, unreadable_alarm
from phxqueue.store.entries import ParsedEntry
from phxqueue.store.passed import note_dispute, note_passed, note_unsettled
from phxqueue.store.passed_on import DROP_VERSION
from phxqueue.store.positions import Reader
from phxqueue.store.reading import Reading
from phxqueue.store.reconciliation import Audit
from phxqueue.store.served import ServedQueue
from phxqueue.store.views import view_of

#: Most claims of one request: a consumer adds up the oldest when it has more that are not durable.
MOST_CLAIMS = 256

#: Entries read from disk at a time to check a claim: only claims far behind need any.
READS_AT_ONCE = 64


def acknowledge(request: GetRequest, queue: ServedQueue, reading: Reading, reader: Reader) -> bool | Deferred[bool]:
    """Take `prev_cursor` in. False: this reader does not stand where its group does, and has to be reset.

    Raises (or fails with) RpcError: INVALID_ARGUMENT when it must claim something and does not; DATA_LOSS or
    RESOURCE_EXHAUSTED when what it claims cannot be compared with the log.
    """
    if request.HasField("history") and request.history != reading.machine.history:
        return False  # its cursors are of another life of the store: they mean other items here
    if not _knows_of_replay(request, reading, reader):
        return False
    if not request.HasField("prev_cursor"):
        return True
    machine, key = reading.machine, (request.queue_id, request.consumer_group_id)
    acked = reading.positions.acked(key, machine.acked_cursor(*key))
    if request.prev_cursor > machine.end_cursor(request.queue_id):
        return False  # no position in this queue: of a store that was set up anew
    if request.prev_cursor <= acked:
        return True
    if not request.claims:
        return _take_unclaimed(request, queue, reading)
    claim = _open_claim(request, acked)
    if claim is None:
        return False
    if queue.reconcile == "off":
        return _move(request, reading, unproven=True)
    if claim.start < machine.first_cursor(request.queue_id):
        reading.audits.of(key).unchecked += 1
        return _move(request, reading, unproven=True)
    return _Check(request, claim, queue, reading).start()


def _knows_of_replay(request: GetRequest, reading: Reading, reader: Reader) -> bool:
    key = request.queue_id, request.consumer_group_id
    if request.HasField("generation"):
        return request.generation == reading.machine.replays.generation(key)
    if not request.HasField("prev_cursor") or not reading.replaying(key):
        return True
    if request.prev_cursor <= reading.positions.acked(key, reading.machine.acked_cursor(*key)):
        return True
    delivered = reading.positions.delivered(key)
    if delivered is None or request.prev_cursor > delivered or not reading.positions.was_handed_to(key, reader):
        return False
    return not request.HasField("next_cursor") or request.next_cursor == delivered


def _open_claim(request: GetRequest, acked: int) -> Claim | None:
    """What the claims say of everything that is not acknowledged yet; None: there is a gap before it."""
    claims = request.claims
    _check_claims(request)
    first = next((number for number, claim in enumerate(claims) if claim.stop > acked), len(claims) - 1)
    if claims[first].start > acked:
        return None
    new = claims[first:]
    count, digests = sum(claim.count for claim in new), sum(claim.digest_sum for claim in new)
    unreadable = sum(claim.unreadable for claim in new)
    return Claim(new[0].start, request.prev_cursor, count, digests & MASK64, (), unreadable)


def _check_claims(request: GetRequest) -> None:
    claims = request.claims
    if len(claims) > MOST_CLAIMS:
        raise RpcError(Status.INVALID_ARGUMENT, f"claims: {len(claims)}, more than {MOST_CLAIMS}: add the oldest up")
    position, dropped = claims[0].start, 0
    for claim in claims:
        if claim.start != position or claim.stop <= claim.start:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"claims: [{claim.start}, {claim.stop}) does not follow {position}: one begins where the other ends",
            )
        if claim.dropped:
            dropped += len(claim.dropped)
            _check_dropped(claim)
        position = claim.stop
    if dropped > MOST_DROPPED:
        raise RpcError(
            Status.INVALID_ARGUMENT, f"claims: {dropped} stretches of dropped items, more than {MOST_DROPPED}"
        )
    if position != request.prev_cursor:
        raise RpcError(
            Status.INVALID_ARGUMENT, f"claims: they end at {position} and prev_cursor is {request.prev_cursor}"
        )


def _check_dropped(claim: AckClaim) -> None:
    position = claim.start
    for stretch in claim.dropped:
        stop = stretch.first + stretch.count
        if not position <= stretch.first < stop <= claim.stop:
            raise RpcError(
                Status.INVALID_ARGUMENT,
                f"claims: dropped [{stretch.first}, {stop}) does not lie in what is left of [{claim.start}, "
                f"{claim.stop}) from {position} on",
            )
        position = stop


def _take_unclaimed(request: GetRequest, queue: ServedQueue, reading: Reading) -> bool:
    if queue.reconcile == "strict":
        raise RpcError(
            Status.INVALID_ARGUMENT,
            f"prev_cursor: queue {request.queue_id} is reconciled strictly (reconcile of its pub): an acknowledgement "
            "has to carry claims, see docs/wire-protocol.md",
        )
    reading.audits.of((request.queue_id, request.consumer_group_id)).unclaimed += 1
    return _move(request, reading, unproven=True)


def _move(request: GetRequest, reading: Reading, *, unproven: bool = False) -> bool:
    key = request.queue_id, request.consumer_group_id
    acked = reading.positions.acked(key, reading.machine.acked_cursor(*key))
    if reading.positions.acknowledge(key, request.prev_cursor, acked):
        generation = reading.machine.replays.generation(key)
        note_passed(request, reading, acked, unproven=unproven)
        if unproven:
            note_unsettled(request, reading, acked)
        reading.proposals.move(*key, request.prev_cursor, _dropped(request, reading, acked), generation)
    return True


def _dropped(request: GetRequest, reading: Reading, acked: int) -> Stretches:
    """What was dropped of that which is acknowledged only now; nothing, while a member does not know the command."""
    if not any(claim.dropped for claim in request.claims):
        return ()
    if reading.machine.version < DROP_VERSION and reading.group.lowest_version < DROP_VERSION:
        return ()
    told = [(one.first, one.first + one.count) for claim in request.claims for one in claim.dropped]
    return tuple((max(first, acked), stop) for first, stop in told if stop > acked)


class _Check:
    """One claim, compared with what is stored: at once when that is in memory, as it nearly always is."""

    def __init__(self, request: GetRequest, claim: Claim, queue: ServedQueue, reading: Reading) -> None:
        self._request = request
        self._queue = queue
        self._reading = reading
        self._claim = claim
        self._cold: dict[int, ParsedEntry] = {}  # entries read from disk for this check
        view = view_of(reading.machine.groups, request.queue_id, request.consumer_group_id, by_mask=queue.by_mask)
        index = reading.machine.queues[request.queue_id]
        self._generation = reading.machine.replays.generation((request.queue_id, request.consumer_group_id))
        self._audit = Audit(index, claim.start, claim.stop, view, verify=bool(claim.unreadable))

    def start(self) -> bool | Deferred[bool]:
        """The answer, or a Deferred of it."""
        return self._judge() if self._step() else Deferred.fromCoroutine(self._go_on())

    def _step(self) -> bool:
        return self._audit.step(self._entry, self._reading.limits.scan_rows, READS_AT_ONCE)

    def _entry(self, instance: int) -> ParsedEntry | None:
        return self._cold.get(instance) or self._reading.entry(instance)

    async def _go_on(self) -> bool:
        reading = self._reading
        while True:
            if self._audit.missing:
                self._cold = await reading.read_for_caller(self._audit.missing)
            else:
                await reading.pause()
            if not reading.group.serving():
                raise reading.refuse()
            if self._step():
                return self._conclude()

    def _conclude(self) -> bool:
        """Time has passed: others may have acknowledged, what they did may be trimmed, or mastership was away.

        Or the reader's lock has passed to another one, or the group was moved by a replay.
        """
        request, reading, claim = self._request, self._reading, self._claim
        key = request.queue_id, request.consumer_group_id
        reading.fencing.check(key, request.fencing_token)
        if reading.machine.replays.generation(key) != self._generation:
            return False
        acked = reading.positions.acked(key, reading.machine.acked_cursor(*key))
        if claim.stop <= acked:
            return True
        if claim.start > acked:
            return False
        if claim.start < reading.machine.first_cursor(request.queue_id):
            reading.audits.of(key).unchecked += 1
            return _move(request, reading, unproven=True)
        return self._judge()

    def _judge(self) -> bool:
        request, reading, claim = self._request, self._reading, self._claim
        counts = reading.audits.of((request.queue_id, request.consumer_group_id))
        if self._audit.agrees(claim):
            counts.agreed += 1
            if claim.unreadable:
                reading.alarms.raise_alarm(unreadable_alarm(request, claim, self._queue, reading))
            if 0 < counts.open_until <= claim.stop:
                counts.open_until = 0
                reading.alarms.clear(alarm_name(request), "the items came again, and what was finished of them agrees")
            return _move(request, reading)
        counts.disputed += 1
        reading.alarms.raise_alarm(mismatch_alarm(request, claim, self._audit, self._queue, reading))
        strict = self._queue.reconcile == "strict"
        pub_id = pubs_in(request, claim, self._queue, reading)[0]
        note_dispute(request, claim, self._audit, reading, pub_id=pub_id, refused=strict)
        if not strict:
            return _move(request, reading)
        counts.refused += 1
        counts.open_until = max(counts.open_until, claim.stop)
        return False
