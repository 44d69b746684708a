"""Puts one replica together: journal, peers, Paxos port and node. Every replicated role (store, lock) runs on this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

from twisted.logger import Logger

from phxqueue.config.cluster import NodeAddress, ReplicaSet
from phxqueue.config.settings import JournalSettings
from phxqueue.config.settings import ReplicaSettings as ConfiguredReplica
from phxqueue.journal.errors import JournalError
from phxqueue.journal.journal import Journal
from phxqueue.journal.records import WantedIdentity
from phxqueue.journal.writer import LATENCY_BOUNDS_MS
from phxqueue.net.address import Address
from phxqueue.net.endpoints import RpcListener, listen
from phxqueue.net.identity import Role
from phxqueue.net.service import RpcService
from phxqueue.net.settings import RpcSettings
from phxqueue.net.tls import ClientTls, ServerTls
from phxqueue.net.turn import TurnClock
from phxqueue.paxos.config import GroupConfig, Member, MemberKind
from phxqueue.paxos.entry import entry_checksum
from phxqueue.proto.status_pb2 import JournalStatus
from phxqueue.replica.admission import Admission
from phxqueue.replica.backup_calls import Origin
from phxqueue.replica.census import KINDS, differences
from phxqueue.replica.errors import ReplicaStartError
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.interfaces import IStateMachine
from phxqueue.replica.master_calls import MasterCalls
from phxqueue.replica.member_calls import MemberCalls
from phxqueue.replica.node import ReplicaNode, ReplicaSettings
from phxqueue.replica.peer_port import PeerPort
from phxqueue.replica.peers import PeerLinks, PeerSettings
from phxqueue.replica.roster import Greeting, MemberPlace, Roster, known_places
from phxqueue.replica.timing import group_times


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaPlace:
    """Which node of which replica set this is, and where it lives."""

    cluster: str
    role: Role
    set_id: int
    node_id: int
    data_dir: Path
    listen_paxos: Address


class ReplicaHost:
    """One node of one replica set. `start()` recovers and joins; afterwards `groups` serve.

    Attributes:
        client_tls: by which this node calls others; None: without TLS.
    """

    def __init__(
        self,
        reactor: Any,
        place: ReplicaPlace,
        replica_set: ReplicaSet,
        make_state_machine: Callable[[int], IStateMachine],
        *,
        command_version: int,
        server_tls: ServerTls | None,
        client_tls: ClientTls | None,
        journal_settings: JournalSettings,
        replica_settings: ConfiguredReplica,
        cache_bytes: int,
    ) -> None:
        self.groups: dict[int, GroupRuntime] = {}
        self._reactor = reactor
        self._place = place
        self._set = replica_set
        self._make_state_machine = make_state_machine
        self._command_version = command_version
        self._server_tls = server_tls
        self.client_tls = client_tls
        self._journal_settings = journal_settings
        self._settings = replica_settings
        self._cache_bytes = cache_bytes
        self._journal: Journal | None = None
        self._node: ReplicaNode | None = None
        self._links: PeerLinks | None = None
        self._listener: RpcListener | None = None
        self._roster = self._configured_roster(0)
        self._failed = False
        self._told: list[str] = []
        self._log = Logger(namespace="phxqueue.replica.host")

    @property
    def accepting(self) -> bool:
        """False while the disk is below its low-water mark: nothing new may be enqueued."""
        return self._journal is not None and self._journal.accepting

    @property
    def incarnation(self) -> int:
        """The incarnation of this node's data directory."""
        return self._journal.identity.incarnation if self._journal is not None else 0

    def journal_status(self) -> JournalStatus:
        """What the journal has done since this node started."""
        journal = self._journal
        if journal is None:
            return JournalStatus()
        stats = journal.stats
        return JournalStatus(
            commits=stats.commits,
            submissions=stats.submissions,
            bytes=stats.bytes,
            seconds=stats.seconds,
            longest_seconds=stats.longest_seconds,
            bounds_s=[bound / 1000 for bound in LATENCY_BOUNDS_MS],
            counts=stats.latencies,
            pending_bytes=journal.pending_bytes,
        )

    async def start(self, fail: Callable[[str], None]) -> None:
        """Open the journal, recover all groups, open the Paxos port and dial the peers.

        Raises ReplicaStartError or ListenError; each text says what to do. `fail(reason)` is called when the journal or
        a group fails later: nothing is acknowledged from then on and the process must end.
        """
        place = self._place

        def replica_failed(reason: str) -> None:
            self._failed = True
            if self._node is not None:
                self._node.journal_failed()
            fail(reason)

        try:
            self._journal = Journal.open(
                place.data_dir,
                WantedIdentity(place.cluster, place.set_id, place.node_id, self._set.paxos_groups, place.role.value),
                self._journal_settings,
                self._reactor,
                replica_failed,
                verify=lambda kind, payload, checksum: entry_checksum(kind, payload) == checksum,
            )
        except JournalError as error:
            raise ReplicaStartError(str(error)) from error
        self._roster = self._configured_roster(self.incarnation)
        rpc_settings = self._peer_rpc_settings()
        self._links = PeerLinks(
            self._reactor,
            self._roster,
            self.client_tls,
            self._peer_unreachable,
            greeting=self._greeting,
            on_greeting=self._greeted,
            random=Random(SystemRandom().getrandbits(64)),
            settings=PeerSettings(
                reconnect_min=self._settings.peer_reconnect_min_ms / 1000,
                reconnect_max=self._settings.peer_reconnect_max_ms / 1000,
            ),
            rpc_settings=rpc_settings,
        )
        self._node = ReplicaNode(
            [self._group_config(group_id) for group_id in range(self._set.paxos_groups)],
            self._make_state_machine,
            self._journal,
            self._links,
            TurnClock(self._reactor),
            seed=SystemRandom().getrandbits(48),
            settings=self._node_settings(),
            describe_members=lambda reachable: self._roster.describe(reachable),
            fail=replica_failed,
            describe_node=lambda node_id: self._roster.describe_node(node_id),
            on_members=self._follow_members,
            order=self._set.election_order,
        )
        self._node.recover()
        self._follow_members()
        service = self._peer_port(self._node).service()
        self._node.register(service)
        self._listener = await listen(
            self._reactor,
            place.listen_paxos,
            service,
            self._server_tls,
            settings=rpc_settings,
        )
        self._links.start()
        await self._node.start()
        self.groups = self._node.groups

    def serve_operators(self, service: RpcService) -> None:
        """Answer, on the service port, what an operator asks of every replica. After `start`."""
        assert self._node is not None
        place = self._place
        origin = Origin(
            cluster=place.cluster,
            role=place.role,
            set_id=place.set_id,
            node_id=place.node_id,
            paxos_groups=self._set.paxos_groups,
        )
        self._node.register_backups(service, origin)
        MemberCalls(self._node, lambda: self._roster, self._admission.incarnation_of, self.notices).register(service)
        MasterCalls(self._node, place.set_id, f"{place.role.value} {place.set_id}").register(service)

    async def hand_over(self) -> None:
        """Give the masterships of this node to others, as far as they take them within `hand_over_timeout_s`.

        What is left goes on being served, until `stop`.
        """
        limit = self._settings.hand_over_timeout_s
        if limit and self._node is not None and not self._failed:
            await self._node.masterships.hand_over(limit)

    def notices(self) -> list[str]:
        """What an operator should know of this node's membership, a sentence each."""
        return [] if self._node is None else [*self._admission.notices(), *self._differences()]

    def reconfigure(self, replica_set: ReplicaSet) -> None:
        """Take over where nodes are by the configuration files. Who the members are, they do not say any more."""
        self._set = replica_set
        self._follow_members()

    async def stop(self) -> None:
        """Checkpoint, leave the group, close the journal. Safe after a start that failed half-way."""
        if self._links is not None:
            self._links.close()
        if self._listener is not None:
            await self._listener.close()
        if self._node is not None and not self._failed:
            await self._node.close()
        if self._journal is not None:
            try:
                await self._journal.close()
            except JournalError:
                if not self._failed:
                    raise

    # ---- who the members are ------------------------------------------------------------------------------

    def _configured_roster(self, incarnation: int) -> Roster:
        place = self._place
        return Roster(
            cluster=place.cluster,
            role=place.role,
            set_id=place.set_id,
            node_id=place.node_id,
            incarnation=incarnation,
            paxos_groups=self._set.paxos_groups,
            addresses={node.node_id: (Address(node.ip, node.paxos_port),) for node in self._set.nodes},
            voters=frozenset(node.node_id for node in self._set.voters),
        )

    def _follow_members(self) -> None:
        """The members may have changed: talk to those that there are now."""
        if self._node is None or self._links is None or not self._node.groups:
            return
        groups = self._node.groups.values()
        memberships = [members for group in groups for members in (group.members, group.pending_members or ())]
        self._roster = replace(
            self._roster,
            addresses=known_places(
                {node.node_id: Address(node.ip, node.paxos_port) for node in self._set.nodes},
                memberships,
                {self._place.node_id, *(node_id for group in groups for node_id in group.core.audience)},
            ),
            voters=frozenset(
                member.node_id for group in groups for member in group.members if member.kind is not MemberKind.LEARNER
            ),
        )
        self._links.update(self._roster)
        self._tell_differences()

    def _differences(self) -> list[str]:
        """Where the configuration and the replicated membership disagree."""
        groups = () if self._node is None else self._node.groups.values()
        found = {line: None for group in groups for line in differences(self._set.nodes, group.members)}
        return list(found)

    def _tell_differences(self) -> None:
        found = self._differences()
        for line in found:
            if line not in self._told:
                self._log.warn("{line}", line=line)
        self._told = found

    def _peer_port(self, node: ReplicaNode) -> PeerPort:
        return PeerPort(
            lambda: self._roster,
            self._server_tls is not None,
            greeting=self._greeting,
            on_greeting=self._greeted,
            incarnation_of=self._admission.incarnation_of,
            receive=node.receive,
        )

    @property
    def _admission(self) -> Admission:
        admission = None if self._node is None else self._node.admission
        assert admission is not None, "the directory of a host has an incarnation"
        return admission

    def _greeting(self) -> Greeting:
        return self._admission.greeting()

    def _greeted(self, node_id: int, greeting: Greeting) -> None:
        self._admission.greeted(node_id, greeting)
        if self._links is not None:
            self._links.alive(node_id)

    def _peer_unreachable(self, node_id: int) -> None:
        if self._node is not None:
            self._node.peer_unreachable(node_id)

    def _node_settings(self) -> ReplicaSettings:
        return ReplicaSettings(
            checkpoint_interval=self._settings.checkpoint_interval_s,
            checkpoint_entries=self._settings.checkpoint_entries,
            checkpoint_bytes=self._settings.checkpoint_bytes,
            keep_entries=self._settings.keep_entries,
            catch_up_bytes=self._settings.catch_up_rate,
            return_mastership_after=self._settings.return_mastership_after_s,
            transfer_interval=self._settings.transfer_interval_s,
            must_remember=self._journal_settings.sync == "always",
            cache_bytes=self._cache_bytes,
        )

    def _peer_rpc_settings(self) -> RpcSettings:
        silence = self._settings.peer_ping_timeout_ms / 2000
        return RpcSettings(
            max_frame_bytes=self._settings.max_peer_frame,
            max_unsent_bytes=self._settings.peer_buffer_bytes,
            keepalive_interval_s=silence,
            keepalive_timeout_s=silence,
        )

    def _group_config(self, group_id: int) -> GroupConfig:
        order = self._set.election_order(group_id)
        rank = {node_id: len(order) - place for place, node_id in enumerate(order)}
        return GroupConfig(
            group_id=group_id,
            node_id=self._place.node_id,
            members=tuple(
                Member(node.node_id, KINDS[node.kind], rank.get(node.node_id, 0), info=_place(node).encode())
                for node in self._set.nodes
            ),
            incarnation=self.incarnation,
            **asdict(group_times(self._set)),
            window=self._set.window,
            window_bytes=self._set.window_bytes,
            accept_ahead=4 * self._set.window,
            accept_ahead_bytes=4 * self._set.window_bytes,
            max_message_bytes=self._set.max_message_bytes,
            version=self._command_version,
        )


def _place(node: NodeAddress) -> MemberPlace:
    return MemberPlace(Address(node.ip, node.paxos_port), Address(node.ip, node.port))
