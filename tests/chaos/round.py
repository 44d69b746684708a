"""One round: a cluster, its clients, faults for a while, then healing, draining and the verdict."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError

from phxqueue.admin.errors import AdminError
from phxqueue.testing.linearizability import Operation
from tests.chaos import verdict
from tests.chaos.cluster import ChaosCluster
from tests.chaos.exclusion import GOT
from tests.chaos.faults import FAULTS, NotStopped, Scene
from tests.chaos.historian import Historian
from tests.chaos.network import Network
from tests.chaos.reconciled import ledger_agrees, ledgers_are_open
from tests.chaos.registers import Registers
from tests.chaos.report import Tally
from tests.chaos.sandbox import inside, other_processes
from tests.chaos.schedule import Planned, schedule
from tests.chaos.workload import Workload
from tests.integration.ledger import HandledLog

#: Service has to be back so long after everything was healed.
RETURN_TIMEOUT_S = 60.0
#: With a majority well all the time service has to go on, with gaps no longer than this on any machine.
MAJORITY_GAP_S = 20.0
ENQUEUES, LOCK_SERVICE = "enqueues", "lock service"
#: So much has to be answered after a fault before the next one may come; of everything else, one.
PROOFS = {ENQUEUES: 20, LOCK_SERVICE: 20}


@dataclass
class Round:
    """Runs one round into `tally`.

    Args:
        directory: of the cluster; exists only while the round runs, or for good when something was found.
        kinds: names of the faults to draw from.
        tell: takes lines for the log of the run.
    """

    reactor: Any
    directory: Path
    seed: int
    number: int
    seconds: float
    kinds: list[str]
    network: Network | None
    tell: Callable[[str], None]
    tally: Tally = field(default_factory=Tally)

    async def run(self) -> Tally:
        """Do everything; findings are in the tally. Raises what the tool itself does wrong.

        Cancelled (Ctrl-C), it ends the cluster, and leaves nothing of it when there are no findings.
        """
        rng = random.Random(f"{self.seed}/{self.number}/cluster")
        small_disks = inside() and (self.number % 2 == 0 or any(FAULTS[kind].disk for kind in self.kinds))
        cluster = ChaosCluster(self.reactor, self.directory, rng, self.network, small_disks=small_disks)
        self.workload = Workload(self.reactor, f"{self.seed}/{self.number}")
        self.historian = Historian(self.reactor, cluster, random.Random(rng.random()))
        self.registers = Registers(self.reactor, cluster, random.Random(rng.random()))
        interrupted = False
        try:
            await cluster.start()
            await self.historian.start()
            await self.registers.start()
            await ledgers_are_open(cluster)
            await self.workload.start(cluster)
            await self._torment(cluster)
            if not self.tally.findings:
                await self._judge(cluster)
        except (AdminError, NotStopped) as error:
            self.find(str(error))
        except CancelledError:
            interrupted = True
            raise
        finally:
            self.workload.close()
            await self.registers.close()
            await self.historian.close()
            await cluster.close()
            if interrupted and not self.tally.findings:
                cluster.discard()
        if inside() and (left := other_processes()):
            self.find(f"processes are left: {left}")
        if not self.tally.findings:
            cluster.discard()
        return self.tally

    def find(self, *findings: str) -> None:
        """Something does not hold."""
        for finding in findings:
            self.tell(f"FINDING: {finding}")
            self.tally.findings.append(f"round {self.number}: {finding}")

    # ---- torment -----------------------------------------------------------------------------------

    async def _torment(self, cluster: ChaosCluster) -> None:
        weights = {kind: FAULTS[kind].weight for kind in self.kinds}
        await self._service_is_back(cluster, "at the start")
        end = self.reactor.seconds() + self.seconds  # of faults: there is one at least
        for planned in schedule(self.seed, self.number, weights):
            if self.reactor.seconds() >= end or self.tally.findings:
                return
            await self._one_fault(cluster, planned)

    async def _one_fault(self, cluster: ChaosCluster, planned: Planned) -> None:
        scene = Scene(self.reactor, cluster, planned)
        kind = FAULTS[planned.kind]
        service, consumption = self.workload.service, self.workload.consumption
        began = self.reactor.seconds()
        service.begin()
        consumption.begin()
        await kind.do(scene)
        self.find(*verdict.ended_badly(child for child in cluster.fell() if child.exit_signal is None))
        self._check_doomed(cluster)
        await cluster.revive()
        await self._service_is_back(cluster, f"after {planned.kind} ({scene.note})")
        await scene.sleep(planned.calm_s)
        gap, lag = service.longest, consumption.longest
        self.tally.saw(planned.kind, gap, lag)
        if kind.majority and gap > MAJORITY_GAP_S:
            self.find(f"{planned.kind} ({scene.note}): nothing was confirmed for {gap:.1f} s, with a majority well")
        self.tell(
            f"{planned.number:4} {planned.kind:<31} {scene.note:<40} {self.reactor.seconds() - began:5.1f} s, gap "
            f"{gap:5.2f} s, {lag:5.2f} s, {service.times:,} confirmed"
        )

    def _check_doomed(self, cluster: ChaosCluster) -> None:
        """Who ended because of a full disk says so by its status."""
        for child in cluster.doomed:
            if not child.running and child.exit_signal is None and child.exit_status == 0:
                self.find(f"{child.name} ended on a full disk as if all were well")

    async def _service_is_back(self, cluster: ChaosCluster, when: str) -> None:
        """Wait until items are confirmed, those of every uin are handled, and the lock service answers."""
        wanted = {part: count + PROOFS.get(part, 1) for part, count in self._progress().items()}
        deadline = self.reactor.seconds() + RETURN_TIMEOUT_S
        while missing := [part for part, count in self._progress().items() if count < wanted[part]]:
            if self.reactor.seconds() > deadline:
                said = [report.reason or str(report.group(0)) for report in await cluster.reports()]
                said += [report.reason or str(report.group(0)) for report in await cluster.lock_reports()]
                self.find(f"{', '.join(missing)}: no service for {RETURN_TIMEOUT_S:g} s {when}; the nodes say: {said}")
                return
            if fallen := cluster.fell():
                self.find(*verdict.ended_badly(fallen))
                return
            await cluster.pause()

    def _progress(self) -> dict[str, int]:
        workload = self.workload
        handled = {f"consumers of uin {uin}": times for uin, times in workload.consumption.times.items()}
        return {ENQUEUES: workload.service.times, LOCK_SERVICE: self.registers.answered, **handled}

    # ---- verdict -------------------------------------------------------------------------------------

    async def _judge(self, cluster: ChaosCluster) -> None:
        await self.historian.stop()
        await self.registers.stop()
        books = await self.workload.stop()
        log = HandledLog(cluster.ledger)
        self.find(*await verdict.drained(self.reactor, books, log))
        self.tally.count(books, log)
        line, differences = await ledger_agrees(cluster, books, log)
        self.tell(f"ledger: {line}")
        self.find(*differences)
        agreed, disputed = await verdict.audited(cluster)
        self.tally.audited += agreed
        self.find(*disputed)
        await self.historian.settle()
        self.find(*self.historian.complaints)
        self.find(*await verdict.stored_as_told(cluster, self.workload.receipts))
        self._check_history([*self.historian.operations(), *self.registers.operations()])
        await cluster.kill(*cluster.holders)
        beliefs, problems = verdict.believed(cluster.belief)
        self.tally.locks += sum(belief.kind == GOT for belief in beliefs)
        self.find(*problems)
        self.find(*await verdict.equal_replicas(cluster))
        self.find(*[f"{child.name} did not heed SIGTERM" for child in await cluster.stop()])
        await cluster.start_these(*cluster.stores, *cluster.locks)
        self.find(*await verdict.equal_replicas(cluster))
        await cluster.stop(*cluster.stores, *cluster.locks)
        self.find(*verdict.defects_in_logs(cluster.everybody))
        self.find(*verdict.alarms_in_logs(cluster.everybody))

    def _check_history(self, operations: list[Operation]) -> None:
        findings, line = verdict.linearizable(operations, self.directory / "history.jsonl")
        self.tally.operations += len(operations)
        self.find(*findings)
        self.tell(f"history: {line}")
