"""Who may vote, as far as this node has a part in it: the first start of a set, and the incarnations of its members.

A node says its incarnation, and whether it has ever voted, to every other that it connects with (`greeting`), and is
told theirs (`greeted`). From that follow: whether a fresh directory may vote (:mod:`~phxqueue.replica.formation`), what
the core is told of its peers, and what a master has recorded in the replicated membership.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping, Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from phxqueue.journal.interfaces import IJournal
from phxqueue.journal.records import PutBlob, Write
from phxqueue.paxos.config import GroupConfig, MemberKind
from phxqueue.replica.census import strangers, unrecorded
from phxqueue.replica.checkpoint_table import GROUP_KEY, MEMBERSHIP
from phxqueue.replica.errors import ReplicaError
from phxqueue.replica.formation import Beginning, Formation, founders_digest, founding_state
from phxqueue.replica.group_runtime import GroupRuntime
from phxqueue.replica.interfaces import Clock
from phxqueue.replica.roster import Greeting
from phxqueue.replica.told import ToldMarks, forgotten

_NUMBER = struct.Struct(">Q")

FORMATION = "formation"
"""The table that says whether this directory has taken part in the first start of its set."""
_KEY = b"node"
_FRESH, _FORMED = b"fresh", b"formed"
_LINEAGE, _BEGINNING = b"lineage", b"beginning"
_NEW = (0, -1)
"""Promise and chosen mark of a group of which nothing is known."""


def begin_from_backup(beginning: Beginning) -> list[Write]:
    """What a directory made from a backup says, when all nodes of the set are made so: it takes part in a first start,
    with those that were made by the same restore.
    """
    return [
        PutBlob(FORMATION, _KEY, _FRESH),
        PutBlob(FORMATION, _BEGINNING, beginning.encode()),
        PutBlob(FORMATION, _LINEAGE, _NUMBER.pack(beginning.token)),
    ]


def begin_by_force(lineage: int) -> list[Write]:
    """What a directory says that goes on alone by force: it votes, in another life of its set."""
    return [PutBlob(FORMATION, _KEY, _FORMED), *begin_lineage(lineage)]


def begin_lineage(lineage: int) -> list[Write]:
    """What a directory says whose data are of another life of the set from now on."""
    return [PutBlob(FORMATION, _LINEAGE, _NUMBER.pack(lineage))]


def join_from_backup(lineage: int) -> list[Write]:
    """What a directory made from a backup says that joins a set that lives: it has no vote of its own."""
    return [PutBlob(FORMATION, _KEY, _FRESH), *begin_lineage(lineage)]


class Admission:
    """One node's part in it. Feed it greetings, `tick` it; it drives the groups.

    Args:
        configs: of all groups; their members are those of the configuration.
        groups: filled by the time `start` is called.
        describe: names a member for people, with its address.
        fail: told why this node must stop: its disk has lost what it had confirmed. None: it is allowed to.
        retry: seconds between two attempts to record what is not recorded yet.
    """

    def __init__(
        self,
        configs: Sequence[GroupConfig],
        groups: Mapping[int, GroupRuntime],
        journal: IJournal,
        clock: Clock,
        *,
        describe: Callable[[int], str],
        fail: Callable[[str], None] | None = None,
        retry: float = 1.0,
    ) -> None:
        first = configs[0]
        self._node_id = first.node_id
        self._voters = frozenset(m.node_id for m in first.members if m.kind is not MemberKind.LEARNER)
        self._founders = founders_digest(first.members, first.window)
        self._configs = configs
        self._groups = groups
        self._journal = journal
        self._clock = clock
        self._describe = describe
        self._fail = fail
        self._told_marks = ToldMarks()
        self._retry = retry
        self._formation = Formation(self._node_id, self._voters, formed=False)
        self._untouched = True
        self._beginning: Beginning | None = None
        self.lineage = 0
        self._incarnations = {self._node_id: journal.identity.incarnation}
        self._due = clock.seconds()
        self._recording: set[int] = set()
        self._told = ""
        self._log = Logger(namespace="phxqueue.replica.admission")

    # ---- start-up ---------------------------------------------------------------------------------------

    def load(self, marks: Mapping[int, tuple[int, int]]) -> bool:
        """Return whether this directory may vote without being recorded; note a fresh one as such.

        Args:
            marks: promise and chosen mark of every group, as they lie on disk.
        """
        noted = dict(self._journal.load_blobs(FORMATION))
        said = noted.get(_KEY)
        if _LINEAGE in noted:
            (self.lineage,) = _NUMBER.unpack(noted[_LINEAGE])
        if _BEGINNING in noted:
            self._beginning = Beginning.decode(noted[_BEGINNING])
            self._founders ^= self._beginning.token
        untouched = all(at == self.beginning(group_id) for group_id, at in marks.items())
        # Nothing is said in a directory made before there was anything to say, and when it was made a moment ago.
        formed = said == _FORMED if said is not None else not untouched
        self._untouched = untouched
        self._formation = Formation(self._node_id, self._voters, formed=formed)
        if said is None:
            known = {key for key, _ in self._journal.load_blobs(MEMBERSHIP)}
            self._journal.submit(self._founding(known) if formed else [PutBlob(FORMATION, _KEY, _FRESH)])
        return formed

    def beginning(self, group_id: int) -> tuple[int, int]:
        """Promise and chosen mark of a group in which nothing was promised, accepted or learned yet."""
        return _NEW if self._beginning is None else self._beginning.marks.get(group_id, _NEW)

    def _founding(self, known: Collection[bytes] = ()) -> list[Write]:
        """What makes this directory one of the set for ever, with the members of the configuration as it is today."""
        writes: list[Write] = [PutBlob(FORMATION, _KEY, _FORMED)]
        for config in self._configs:
            key = GROUP_KEY.pack(config.group_id)
            if key not in known:
                writes.append(PutBlob(MEMBERSHIP, key, founding_state(config.members, config.window)))
        return writes

    def start(self) -> None:
        """All groups are there: a set of one voter needs to wait for nobody."""
        for group in self._groups.values():
            group.on_mastership.append(self._mastership)
        self._form_if_complete()

    def _mastership(self, is_master: bool) -> None:
        self._due = self._clock.seconds()

    # ---- what nodes say of themselves -------------------------------------------------------------------

    def greeting(self) -> Greeting:
        """What this node says of itself."""
        self._untouched = self._untouched and all(group.untouched for group in self._groups.values())
        told = self._told_marks.marks()
        return Greeting(self._incarnations[self._node_id], self._untouched, self._founders, self.lineage, told)

    def greeted(self, node_id: int, greeting: Greeting) -> None:
        """A member has said who it is."""
        known = self._incarnations.get(node_id)
        self._incarnations[node_id] = greeting.incarnation
        self._told_marks.greeted(node_id, greeting.incarnation)
        self._compare(node_id, greeting)
        if greeting.lineage and self.greeting().blank:
            self.lineage = greeting.lineage
            self._journal.submit(begin_lineage(self.lineage))  # before anything that is learned there
        for group in self._groups.values():
            group.peer_incarnation(node_id, greeting.incarnation)
        if known != greeting.incarnation:
            self._tell_of(node_id, known)
        self._formation.heard(node_id, fresh=greeting.fresh, agrees=greeting.founders == self._founders)
        self._due = self._clock.seconds()
        self._form_if_complete()
        self._tell()

    def told(self, node_id: int, group_id: int, instance: int) -> None:
        """A member has told that what it accepted up to this instance is durable."""
        self._told_marks.told(node_id, group_id, instance)

    def _compare(self, node_id: int, greeting: Greeting) -> None:
        """Stop, when a member was told of entries on this very directory that are not there."""
        own = self._incarnations[self._node_id]
        held = {group_id: group.highest for group_id, group in self._groups.items()}
        lost = forgotten(greeting.told, self._node_id, own, held)
        if lost is not None and self._fail is not None:
            self._fail(
                f"the disk has lost what this node had confirmed: {self._describe(node_id)} was told that entries of "
                f"group {lost.group_id} are stored here up to {lost.instance}, and there is nothing above "
                f"{held[lost.group_id]}. A node that has forgotten its votes must not vote: do not use this disk any "
                f"more (it does not keep what it says it has flushed); empty the data directory, on another disk, and "
                f"run `phxqueue members replace {self._node_id}`"
            )

    def incarnation_of(self, node_id: int) -> int | None:
        """The incarnation a member named last; None: it was not heard of."""
        return self._incarnations.get(node_id)

    def knows(self, node_id: int) -> bool:
        """Whether a member, if it runs, runs on the directory that the membership records, in all groups."""
        return all(node_id not in strangers(group.members, self._incarnations) for group in self._groups.values())

    def _tell_of(self, node_id: int, before: int | None) -> None:
        if before is not None or not self.knows(node_id):
            self._log.warn(
                "{node} has come back with another data directory (incarnation {incarnation:x}): where the former one "
                "is on record, it does not vote until `phxqueue members replace {node_id}`",
                node=self._describe(node_id),
                node_id=node_id,
                incarnation=self._incarnations[node_id],
            )

    # ---- the first start --------------------------------------------------------------------------------

    def _form_if_complete(self) -> None:
        if self._formation.formed or not self._formation.complete or self._node_id not in self._voters:
            return
        if not self.greeting().fresh:
            return
        self._formation.formed = True
        # Votes are submitted after this, hence durable after it.
        self._journal.submit(self._founding())
        self._log.info("first start: every voter is up, this node votes from now on")
        for group in self._groups.values():
            group.admit()

    def waiting(self) -> str:
        """Why this node has no vote, if it should have one."""
        formation = self._formation
        if formation.formed or self._node_id not in self._voters or self._recorded():
            return ""
        if formation.settled:
            voted = ", ".join(map(self._describe, formation.settled))
            return (
                f"this data directory is new, and {voted} voted before: this node replicates without a vote until "
                f"`phxqueue members replace {self._node_id}` (or `members add` for a new node) admits it"
            )
        if formation.disagreeing:
            others = ", ".join(map(self._describe, formation.disagreeing))
            return (
                f"first start: the configuration of {others} names other members, or another window, than the one of "
                "this node: give all of them the same files; or some are made from a backup, and not all by one "
                "restore (`phxqueue restore --token`)"
            )
        missing = ", ".join(map(self._describe, formation.missing))
        return (
            f"first start: waiting for {missing}; every voter has to be up once before anything is stored (a new node "
            f"of a set that runs already: `phxqueue members add {self._node_id}`)"
        )

    def _recorded(self) -> bool:
        own = self._incarnations[self._node_id]
        return all(
            any(member.node_id == self._node_id and member.incarnation == own for member in group.members)
            for group in self._groups.values()
        )

    def _tell(self) -> None:
        """Log what this node waits for, each time it changes."""
        said = self.waiting()
        if said and said != self._told:
            self._log.warn("{said}", said=said)
        self._told = said

    def notices(self) -> list[str]:
        """What an operator should know, a sentence each."""
        waiting = self.waiting()
        found = [waiting] if waiting else []
        others = {
            node_id for group in self._groups.values() for node_id in strangers(group.members, self._incarnations)
        }
        for node_id in sorted(others - {self._node_id}):
            found.append(
                f"{self._describe(node_id)} has another data directory than the one recorded: it does not vote until "
                f"`phxqueue members replace {node_id}`"
            )
        return found

    # ---- what is recorded -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Have the incarnations that are not recorded yet recorded, in the groups this node is master of."""
        now = self._clock.seconds()
        if now < self._due:
            return
        self._due = now + self._retry
        self._tell()
        for group_id, group in self._groups.items():
            if group_id in self._recording or not group.proposing() or group.pending_members is not None:
                continue
            members = unrecorded(group.members, self._incarnations)
            if members is not None:
                self._recording.add(group_id)
                recorded: Deferred[None] = group.change_members(members)
                recorded.addBoth(self._finished, group_id)

    def _finished(self, result: object, group_id: int) -> None:
        self._recording.discard(group_id)
        if isinstance(result, Failure):
            # Refused for now, or this node is master no more: whoever is will do it.
            result.trap(ReplicaError)
            self._log.debug(
                "group {group}: incarnations not recorded: {reason}", group=group_id, reason=result.getErrorMessage()
            )
