"""Puts one replica together: journal, peers, Paxos port and node. Every replicated role (store, lock) runs on this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

from phxqueue.config.cluster import ReplicaSet
from phxqueue.config.settings import JournalSettings
from phxqueue.config.settings import ReplicaSettings as ConfiguredReplica
from phxqueue.journal.errors import JournalError
from phxqueue.journal.journal import Journal
from phxqueue.journal.records import WantedIdentity
from phxqueue.net.address import Address
from phxqueue.net.endpoints import RpcListener, listen
from phxqueue.net.identity import Role
from phxqueue.net.service import RpcService
from phxqueue.net.settings import RpcSettings
from phxqueue.net.tls import ClientTls, ServerTls
from phxqueue.net.turn import TurnClock
from phxqueue.paxos.config import GroupConfig, Member, MemberKind
from phxqueue.paxos.entry import entry_checksum
from phxqueue.replica.backup_calls import Origin
from phxqueue.replica.errors import ReplicaStartError
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.interfaces import IStateMachine
from phxqueue.replica.node import ReplicaNode, ReplicaSettings
from phxqueue.replica.peers import Membership, PeerLinks, PeerSettings, peer_service
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
    """One node of one replica set. `start()` recovers and joins; afterwards `groups` serve."""

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
        self._client_tls = client_tls
        self._journal_settings = journal_settings
        self._settings = replica_settings
        self._cache_bytes = cache_bytes
        self._journal: Journal | None = None
        self._node: ReplicaNode | None = None
        self._links: PeerLinks | None = None
        self._listener: RpcListener | None = None
        self._failed = False

    @property
    def accepting(self) -> bool:
        """False while the disk is below its low-water mark: nothing new may be enqueued."""
        return self._journal is not None and self._journal.accepting

    @property
    def incarnation(self) -> int:
        """The incarnation of this node's data directory."""
        return self._journal.identity.incarnation if self._journal is not None else 0

    async def start(self, fail: Callable[[str], None]) -> None:
        """Open the journal, recover all groups, open the Paxos port and dial the peers.

        Raises ReplicaStartError or ListenError; each text says what to do. `fail(reason)` is called when the journal or
        a group fails later: nothing is acknowledged from then on and the process must end.
        """
        place = self._place

        def replica_failed(reason: str) -> None:
            self._failed = True
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
        membership = Membership(
            cluster=place.cluster,
            role=place.role,
            set_id=place.set_id,
            node_id=place.node_id,
            incarnation=self._journal.identity.incarnation,
            paxos_groups=self._set.paxos_groups,
            addresses={node.node_id: Address(node.ip, node.paxos_port) for node in self._set.nodes},
        )
        rpc_settings = self._peer_rpc_settings()
        self._links = PeerLinks(
            self._reactor,
            membership,
            self._client_tls,
            self._peer_unreachable,
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
            describe_members=membership.describe,
            fail=replica_failed,
        )
        service = peer_service(membership, self._server_tls is not None, self._node.receive)
        self._node.register(service)
        self._listener = await listen(
            self._reactor,
            place.listen_paxos,
            service,
            self._server_tls,
            settings=rpc_settings,
        )
        await self._node.start()
        self.groups = self._node.groups
        self._links.start()

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
        kinds = {"voter": MemberKind.VOTER, "witness": MemberKind.WITNESS, "learner": MemberKind.LEARNER}
        order = self._set.election_order(group_id)
        rank = {node_id: len(order) - place for place, node_id in enumerate(order)}
        return GroupConfig(
            group_id=group_id,
            node_id=self._place.node_id,
            members=tuple(
                Member(node.node_id, kinds[node.kind], rank.get(node.node_id, 0)) for node in self._set.nodes
            ),
            **asdict(group_times(self._set)),
            window=self._set.window,
            window_bytes=self._set.window_bytes,
            accept_ahead=4 * self._set.window,
            accept_ahead_bytes=4 * self._set.window_bytes,
            max_message_bytes=self._set.max_message_bytes,
            version=self._command_version,
        )
