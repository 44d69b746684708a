"""The lock service as real processes: daemons, clients, the command line; kills and pauses."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol

from phxqueue.admin.gather import gather
from phxqueue.admin.processes.files import ClusterSpec
from phxqueue.lock.client import Held, LockClient, LockLost, LockTimeout, Unavailable
from tests.integration.cluster import REPOSITORY, TestedCluster
from tests.integration.conftest import later
from tests.integration.locks import lock_ballot, lock_master

pytestmark = pytest.mark.shared_reactor

#: Between one twenty of contenders and the next: together longer than an election.
BETWEEN_S = 0.2


@pytest_twisted.async_yield_fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TestedCluster]:
    started = TestedCluster(reactor, tmp_path_factory.mktemp("locks") / "cluster", ClusterSpec(nodes=0, locks=3))
    try:
        await started.start()
        yield started
    finally:
        await started.close()


@pytest_twisted.async_yield_fixture
async def client(cluster: TestedCluster) -> AsyncIterator[LockClient]:
    async with await LockClient.connect(cluster.cluster, cluster.topic.topic_id) as client:
        yield client


@pytest_twisted.ensureDeferred
async def test_a_lock_and_its_queue_survive_the_death_of_the_master(cluster: TestedCluster, client: LockClient) -> None:
    """200 contenders; the master dies while they wait; they get the lock one after the other, in their order."""
    held = await client.acquire("a", lease=60)
    token, lost = held.token, held.lost
    began: list[float] = []
    order: list[int] = []
    tokens: list[int] = []

    async def contend(contender: LockClient, number: int) -> None:
        async with contender.lock("a", lease=60) as mine:
            order.append(number)
            tokens.append(mine.token)

    async def waiting(many: int) -> None:
        while (state := await client.lock_state("a")) is None or state.waiters < many:
            await cluster.pause()

    async with await LockClient.connect(cluster.cluster, cluster.topic.topic_id) as other:
        assert await other.lock_state("a") is not None  # both know the master: nobody has to look for it first
        contenders = []
        for number in range(200):
            began.append(time.monotonic())
            contenders.append(Deferred.fromCoroutine(contend((client, other)[number % 2], number)))
            if number % 20 == 19:
                await waiting(number + 1)
                await later(BETWEEN_S)
        killed = await lock_master(cluster)
        killed_at = time.monotonic()
        await cluster.kill(killed)
        await waiting(200)
        again_s = time.monotonic() - killed_at
        ballot = await lock_ballot(cluster)
        assert (held.token, lost.called, order) == (token, False, [])
        await held.release()
        await gather(_done(contender) for contender in contenders)
    if await lock_ballot(cluster) != ballot:  # the machine stood still, and it was told once more
        again_s = time.monotonic() - killed_at
    assert sorted(order) == list(range(200))
    # Each told the next master how long it had waited, but not how long the telling took: at most what all of it took.
    last = 0.0
    for number in order:
        assert began[number] > last - again_s, f"{number} is behind one who began {last - began[number]:.2f} s later"
        last = max(last, began[number])
    assert tokens == sorted(set(tokens))
    assert min(tokens) > token
    await cluster.start_these(killed)


async def _done(contender: Deferred[None]) -> None:
    await contender


@pytest_twisted.ensureDeferred
async def test_nobody_loses_or_repeats_a_count_while_masters_die(cluster: TestedCluster, client: LockClient) -> None:
    """A counter in a string, incremented under a lock, without compare-and-swap: only the lock protects it."""
    rounds = 40

    async def count_up(contender: LockClient) -> None:
        for _ in range(rounds):
            async with contender.lock("counter", lease=60):
                value = await contender.get("count")
                number = int(value.value) if value is not None else 0
                version = value.version if value is not None else 0
                await contender.set("count", b"%d" % (number + 1), expected_version=version)

    async with await LockClient.connect(cluster.cluster, cluster.topic.topic_id) as other:
        counting = [Deferred.fromCoroutine(count_up(contender)) for contender in (client, other, client)]
        while (value := await client.get("count")) is None or int(value.value) < 20:
            await cluster.pause()
        killed = await lock_master(cluster)
        await cluster.kill(killed)
        await gather(_done(each) for each in counting)
    value = await client.get("count")
    assert value is not None
    assert int(value.value) == 3 * rounds
    await cluster.start_these(killed)


class Holder(ProcessProtocol):
    """``phxqueue locks acquire`` as a process of its own; what it and its command print."""

    def __init__(self, cluster: TestedCluster, *arguments: str) -> None:
        self.output = ""
        self.status: int | None = None
        self._changed: list[Deferred[None]] = []
        command = [sys.executable, "-m", "phxqueue.admin.main", "-c", str(cluster.config), "locks", "acquire"]
        self._process = reactor.spawnProcess(  # type: ignore[attr-defined]
            self, sys.executable, [*command, *arguments], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
        )

    def childDataReceived(self, descriptor: int, data: bytes) -> None:
        self.output += data.decode()
        self._wake()

    def processEnded(self, reason: object) -> None:
        ending = reason.value  # type: ignore[attr-defined]
        self.status = 128 + ending.signal if ending.signal is not None else ending.exitCode
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, []
        for waiting in changed:
            waiting.callback(None)

    async def says(self, text: str) -> None:
        while text not in self.output:
            assert self.status is None, self.output
            await self._change()

    async def says_to_the_end(self, text: str) -> None:
        """For what its command says after it has died."""
        await self.end()
        assert text in self.output, self.output

    async def end(self) -> int:
        while self.status is None:
            await self._change()
        return self.status

    async def _change(self) -> None:
        waiting: Deferred[None] = Deferred()
        self._changed.append(waiting)
        await waiting

    def signal(self, number: int) -> None:
        os.kill(self._process.pid, number)


#: Longer than a busy machine keeps a holder from renewing, and a command from saying a word.
LEASE_S, GRACE_S = 6, 50
TELLS = ("--", "sh", "-c", "trap 'echo told; kill $!; exit 9' TERM; sleep 600 & echo run $PHXQUEUE_LOCK_TOKEN; wait")


@pytest_twisted.ensureDeferred
async def test_a_holder_that_is_stopped_beyond_its_lease_loses_the_lock(
    cluster: TestedCluster, client: LockClient
) -> None:
    holder = Holder(cluster, "paused", "--lease", str(LEASE_S), "--grace", str(GRACE_S), *TELLS)
    await holder.says("run ")
    holder.signal(signal.SIGSTOP)
    state = await client.lock_state("paused")
    assert state is not None, holder.output
    assert f"run {state.token}\n" in holder.output
    held = await client.acquire("paused", lease=60)
    assert held.token > state.token
    assert "told" not in holder.output
    holder.signal(signal.SIGCONT)
    assert await holder.end() == 76, holder.output
    assert "told" in holder.output
    assert "has run out" in holder.output, holder.output
    assert held.valid
    await held.release()


@pytest_twisted.ensureDeferred
async def test_a_command_that_does_not_heed_is_killed_with_all_it_has_started(
    cluster: TestedCluster, client: LockClient
) -> None:
    script = "trap '' TERM; (trap '' TERM; echo up; sleep 600; sleep 600) & wait; sleep 600"
    holder = Holder(cluster, "deaf", "--lease", str(LEASE_S), "--grace", "0.2", "--", "sh", "-c", script)
    await holder.says("up")
    state = await client.lock_state("deaf")
    assert state is not None, holder.output
    assert await client.break_lock("deaf", state.client_id, state.token), holder.output
    assert await holder.end() == 76, holder.output  # nobody is left who could still write to its output


@pytest_twisted.ensureDeferred
async def test_an_interrupted_holder_ends_its_command_and_gives_the_lock_back(
    cluster: TestedCluster, client: LockClient
) -> None:
    holder = Holder(cluster, "interrupted", "--lease", "600", "--grace", str(GRACE_S), *TELLS)
    await holder.says("run ")
    holder.signal(signal.SIGTERM)
    held = await client.acquire("interrupted", wait=60)
    assert await holder.end() == 128 + signal.SIGTERM, holder.output
    assert "told" in holder.output, holder.output
    await held.release()


@pytest_twisted.ensureDeferred
async def test_the_command_of_a_holder_that_was_killed_is_told(cluster: TestedCluster, client: LockClient) -> None:
    holder = Holder(cluster, "killed", "--lease", str(LEASE_S), *TELLS)
    await holder.says("run ")
    holder.signal(signal.SIGKILL)
    await holder.says_to_the_end("told")
    held = await client.acquire("killed", wait=60)
    await held.release()


@pytest_twisted.ensureDeferred
async def test_the_commands(cluster: TestedCluster, client: LockClient) -> None:
    held: Held = await client.acquire("b", lease=60)
    lost = held.lost
    ran, missing, refused, shown, listed, unlike = await gather(
        cluster.run("locks", *arguments)
        for arguments in (
            ("acquire", "free", "--", "sh", "-c", "echo $PHXQUEUE_LOCK_NAME; exit 7"),
            ("acquire", "free", "--", "/there/is/none"),
            ("acquire", "b", "--wait", "0", "--", "true"),
            ("show", "b"),
            ("list", "b"),
            ("release", "b", "--token", str(held.token - 1)),
        )
    )
    assert ran == (7, "free\n", "")
    assert missing == (127, "", "phxqueue: /there/is/none: No such file or directory\n")
    assert refused[0] == 75, refused
    assert "is held by" in refused[2], refused
    assert shown[0] == 0, shown
    assert f"token    {held.token}\n" in shown[1], shown
    assert held.client_id in listed[1], listed
    assert unlike[0] == 1, unlike
    assert "another token" in unlike[2], unlike
    assert held.valid
    released = await cluster.run("locks", "release", "b", "--force")
    assert released[0] == 0, released
    with pytest.raises(LockLost):
        await held.renew()
    assert isinstance(await lost, LockLost)


@pytest_twisted.ensureDeferred
async def test_the_commands_for_strings(cluster: TestedCluster, client: LockClient) -> None:
    status, version, errors = await cluster.run("locks", "set", "s", "one", "--expect", "0")
    assert (status, errors) == (0, "")
    read, refused, listed, missing = await gather(
        cluster.run("locks", *arguments)
        for arguments in (("get", "s"), ("set", "s", "two", "--expect", "0"), ("list", "--strings"), ("show", "s"))
    )
    assert read == (0, "one", "")
    assert refused[:2] == (1, ""), refused
    assert version.strip() in refused[2], refused
    assert version.strip() in listed[1], listed
    assert missing[:2] == (1, "nobody holds lock s\n"), missing
    deleted = await cluster.run("locks", "delete", "s", "--expect", version.strip())
    assert deleted[0] == 0, deleted
    assert await client.get("s") is None


async def surely_tried(client: LockClient, name: str, wait: float) -> Held:
    """Try to get a lock until there is a master to say yes or no to it for all of the wait."""
    while True:
        with suppress(Unavailable):
            return await client.acquire(name, wait=wait)


@pytest_twisted.ensureDeferred
async def test_waiting_for_so_long(cluster: TestedCluster, client: LockClient) -> None:
    async with client.lock("c", lease=60):
        with pytest.raises(LockTimeout):
            await surely_tried(client, "c", 0.2)
        assert await client.try_acquire("c") is None
    async with client.lock("c", lease=60, wait=60):
        pass
