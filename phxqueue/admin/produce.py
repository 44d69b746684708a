"""``phxqueue produce``: enqueue what comes from stdin or a file."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
from twisted.internet.defer import Deferred, DeferredSemaphore

from phxqueue.admin import edge
from phxqueue.admin.context import ClusterContext, cluster_command
from phxqueue.admin.descriptors import READ_BYTES, DescriptorReader
from phxqueue.admin.echo import ECHO_HANDLE, ECHO_PUB
from phxqueue.admin.errors import AdminError
from phxqueue.admin.message_keys import KeyRule, NoKey, keys_by_number, leading_keys, without_keys
from phxqueue.admin.messages import LengthPrefixSplitter, LineSplitter, MalformedInput, Numbered, TooLong
from phxqueue.admin.progress import Progress

if TYPE_CHECKING:
    from phxqueue.producer import NewItem, Receipts

#: Pieces that are on their way at the same time, and the messages in one: what bounds the memory, together with
#: READ_BYTES (a piece comes from one read).
PIECES_IN_FLIGHT = 32
PIECE_MESSAGES = 1000
#: Failures printed one by one; the rest is only counted.
FAILURES_SHOWN = 20


class EnqueueMany(Protocol):
    """The part of a Producer that is used here."""

    def enqueue_many(self, items: list[NewItem]) -> Deferred[Receipts]: ...


class Feeder:
    """Cuts input into messages and keeps some pieces of it on their way.

    Args:
        make_item: turns a message into an item; raises NoKey for one that has none and should.
        tell: called with a line about each failure.
    """

    def __init__(
        self,
        producer: EnqueueMany,
        splitter: LineSplitter | LengthPrefixSplitter,
        make_item: Callable[[Numbered], NewItem],
        tell: Callable[[str], None],
        unit: str,
    ) -> None:
        self.confirmed = 0
        self.failed = 0
        self.bytes = 0
        self.in_flight = 0
        self._producer = producer
        self._splitter = splitter
        self._make_item = make_item
        self._tell = tell
        self._unit = unit
        self._places = DeferredSemaphore(PIECES_IN_FLIGHT)

    async def run(self, read: Callable[[], Awaitable[bytes]]) -> None:
        """Feed everything `read` returns until it returns nothing, and wait for the last outcome.

        Raises:
            MalformedInput: the input ends in the middle of a message; what came before it has been enqueued.
        """
        try:
            while data := await read():
                await self._send_all(self._splitter.feed(data))
            await self._send_all(self._splitter.finish())
        finally:
            # All places free: nothing is on its way any more.
            for _ in range(PIECES_IN_FLIGHT):
                await self._places.acquire()

    async def _send_all(self, messages: Iterator[Numbered | TooLong]) -> None:
        while piece := [*islice(messages, PIECE_MESSAGES)]:
            await self._send(piece)

    async def _send(self, messages: list[Numbered | TooLong]) -> None:
        wanted: list[tuple[int, NewItem]] = []
        unusable: list[tuple[int, str]] = []
        for message in messages:
            if isinstance(message, TooLong):
                unusable.append((message.number, f"skipped: {message.size:,} bytes are too long for an item"))
                continue
            try:
                wanted.append((message.number, self._make_item(message)))
            except NoKey as error:
                unusable.append((message.number, str(error)))
        self._fail_ranges(unusable)
        if not wanted:
            return
        await self._places.acquire()
        self.in_flight += len(wanted)
        result = self._producer.enqueue_many([item for _, item in wanted])
        result.addCallback(self._count, wanted)
        result.addErrback(lambda failure: self._fail_all(wanted, str(failure.value)))
        result.addBoth(self._done, len(wanted))

    def _count(self, receipts: Receipts, wanted: list[tuple[int, NewItem]]) -> None:
        if receipts.all_stored:
            self.confirmed += len(wanted)
            self.bytes += sum(len(item.buffer) for _, item in wanted)
            return
        failed = {position: str(error) for position, error in receipts.errors}
        for position, (_, item) in enumerate(wanted):
            if position not in failed:
                self.confirmed += 1
                self.bytes += len(item.buffer)
        self._fail_ranges([(wanted[position][0], reason) for position, reason in failed.items()])

    def _fail_all(self, wanted: list[tuple[int, NewItem]], reason: str) -> None:
        self._fail_ranges([(number, reason) for number, _ in wanted])

    def _fail_ranges(self, failures: list[tuple[int, str]]) -> None:
        """Tell neighbours that failed for the same reason in one line."""
        start = 0
        for place in range(1, len(failures) + 1):
            if place < len(failures):
                number, reason = failures[place]
                if reason == failures[start][1] and number == failures[place - 1][0] + 1:
                    continue
            self._fail(failures[start][0], failures[place - 1][0], failures[start][1])
            start = place

    def _fail(self, first: int, last: int, reason: str) -> None:
        self.failed += last - first + 1
        self._tell(f"{self._unit} {first}: {reason}" if first == last else f"{self._unit}s {first} to {last}: {reason}")

    def _done(self, _: object, count: int) -> None:
        self.in_flight -= count
        self._places.release()


class _Failures:
    """Prints the first failures, and at the end how many there were beside them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._hidden = 0
        self._shown = 0

    def tell(self, text: str) -> None:
        if self._shown < FAILURES_SHOWN:
            self._shown += 1
            self._say(text)
        else:
            self._hidden += 1

    def finish(self) -> None:
        if self._hidden:
            self._say(f"... and {self._hidden:,} more reports of failures")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), default="-")
@click.option("--pub", default=ECHO_PUB, show_default=True, help="Where to publish.")
@click.option("--handle", default=ECHO_HANDLE, show_default=True, help="The message type: which handler gets them.")
@click.option("--uin", default=0, help="Ordering key of all of them: they then stay in order.")
@click.option("--delay", default=0.0, help="Seconds until they come into their queues.")
@click.option("--ttl", default=0.0, help="Seconds, from then on, after which no handler gets them; 0: never.")
@click.option("--priority", type=click.IntRange(0), default=0, help="Which priority of the pub they have; 0: none.")
@click.option("--key", metavar="PREFIX", help="Idempotency key of message 7: PREFIX:7. The same input is stored once.")
@click.option("--keyed", is_flag=True, help="Each message is KEY<TAB>MESSAGE, with its own idempotency key.")
@click.option("--length-prefixed", is_flag=True, help="Not lines: each message behind its length, 4 bytes big-endian.")
@cluster_command
def produce(
    settings: ClusterContext,
    file: Path,
    pub: int,
    handle: int,
    uin: int,
    delay: float,
    ttl: float,
    priority: int,
    key: str | None,
    keyed: bool,
    length_prefixed: bool,
) -> None:
    """Enqueue the messages in FILE (default: stdin), one a line.

    What was interrupted, or failed in part, may be sent again with the same keys: what is stored already is not stored
    twice, for as long as stores remember keys (idempotency_window_s of the pub).

    Exit status 1 when a message was not confirmed; each such line is reported with its number.
    """
    rule = _key_rule(key, keyed)
    cluster = settings.load()
    topic = settings.topic_of(cluster)
    tls = settings.tls_of(cluster)
    limit = topic.settings.items_byte_size_limit
    descriptor = 0 if str(file) == "-" else _open(file)
    if descriptor == 0 and os.isatty(0):
        click.echo("type messages, one a line; end with Ctrl-D", err=True)

    async def main(reactor: Any) -> Feeder:
        from phxqueue.producer import NewItem, Producer

        producer = await Producer.connect(cluster, topic=topic.topic_name, tls=tls)
        reader = DescriptorReader(reactor, descriptor)
        started = time.perf_counter()
        progress = Progress(reactor, lambda: _progress(feeder, time.perf_counter() - started))
        failures = _Failures(progress.say)
        splitter = LengthPrefixSplitter(limit) if length_prefixed else LineSplitter(limit)
        unit = "message" if length_prefixed else "line"

        def make_item(message: Numbered) -> NewItem:
            its_key, content = rule(message)
            return NewItem(pub, handle, content, uin, delay=delay, ttl=ttl, idempotency_key=its_key, priority=priority)

        feeder = Feeder(producer, splitter, make_item, failures.tell, unit)
        with progress:
            try:
                await feeder.run(lambda: reader.read(READ_BYTES))
            except MalformedInput as error:
                raise AdminError(str(error)) from error
            finally:
                await producer.close()
                failures.finish()
                progress.say(_totals(feeder, time.perf_counter() - started))
        return feeder

    if edge.run(main).failed:
        raise click.exceptions.Exit(1)


def _key_rule(prefix: str | None, keyed: bool) -> KeyRule:
    if prefix is None:
        return leading_keys if keyed else without_keys
    if keyed:
        raise click.UsageError("--key and --keyed: either all keys come from the numbers, or each message has its own")
    try:
        return keys_by_number(prefix)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--key") from None


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise AdminError(f"{file}: {error.strerror}") from error


def _progress(feeder: Feeder, seconds: float) -> str:
    return f"{feeder.confirmed:,} confirmed, {feeder.in_flight:,} on their way, {feeder.confirmed / seconds:,.0f}/s"


def _totals(feeder: Feeder, seconds: float) -> str:
    text = f"{feeder.confirmed:,} messages ({feeder.bytes:,} bytes) confirmed in {seconds:.2f} s"
    return text + (f", {feeder.failed:,} FAILED" if feeder.failed else "")
