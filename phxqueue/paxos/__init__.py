"""The consensus core: Multi-Paxos for one group of nodes, as a pure state machine.

It does no I/O, reads no clock, starts no thread and imports neither Twisted nor any other package of PhxQueue. A
``Group`` is fed with messages, proposals, the time, and the news that something became durable; every call answers
with ``Effects``, which its owner (the *runtime*, ``phxqueue.replica``) carries out. Given the same calls it does the
same things, always.


The order contract
==================

Whoever calls any method of Group that answers with Effects must carry them out before, or in the order of, those of
every later call, and each Effects like this:

1. ``persist``: hand the records to the journal, in order. When they (and everything handed over before) are durable,
   first send ``send_after``, then call ``persisted(token)``, whose Effects come next. Confirming a token confirms all
   earlier ones, so confirmations may be merged. Records of an Effects whose ``token`` is None are lazy: write them
   with whatever is written next. If a write fails, stop the node: nothing more may be sent, applied or acknowledged.
2. ``send``: send now, there is no need to wait for the disk. A message may be lost, repeated, delayed or overtaken;
   it must not be altered (entries are checked) or come from someone else (authenticate the peers).
3. ``chosen``: apply to the state machine, in order, before looking at ``events`` or asking ``lease_valid``. These
   entries are on this node's own disk already.
4. ``serve``: read a range of the own log and send it as LearnReply, in your own time; drop it when overloaded.
5. ``events``: tell those concerned, write them to the log.

``send_after`` is where the safety of Paxos lives: a Promise or Accepted must not leave before what it says is
durable, nor may a candidate ask for promises under a ballot it could forget. A node that crashes restarts from what
was durable, with the rest lost, as ``Restored``.

``next_deadline()`` says when ``tick`` has something to do. It moves later by itself, as messages arrive, and may move
earlier with any call: a runtime keeps one timer, and when it fires early just arms it anew.

``now`` is a monotonic clock in float seconds, the same one for the life of the object. It may stand still or leap
forward (a paused process); a step back breaks leases and raises InvariantViolation.

``InvariantViolation`` out of any call means that the protocol or the disk is broken: stop the node.


Where things are
================

``group`` is the public face, ``inbox`` takes messages apart; ``roles`` says who this node is and how that changes. A
voter remembers by ``acceptor``, knows what is chosen by ``learner``, decides when to stand by ``election``, gathers
promises by ``phase1`` and leads by ``proposer``; ``lease`` is both sides of the master's lease. ``membership`` knows
who votes where, ``changes`` what must not be changed, ``transfer`` how a mastership moves. Words: ``ballot``,
``entry``, ``messages``, ``effects``, ``config``, ``errors``. The files in ``tests/paxos/transcripts`` tell whole
conversations.


Members
=======

Who votes is decided by the log (``membership`` has the argument): ``GroupConfig.members`` is where it begins. A node
with one data directory is one acceptor; with another directory it is another one, which counts for nothing before a
membership names it. The runtime's part in that:

- Keep what the last MembershipRecord says, in one transaction with the ChosenRecord that comes with it, and give it
  back as ``Restored.membership``.
- Give the core the incarnation of a peer (``peer_incarnation``) before anything that comes from there, and drop what
  still comes from a former one.
- Start a directory that has never voted with ``Restored.may_vote`` False. ``admit`` is for the first start of the whole
  set, when nobody has voted: note it durably, then call it.
- Have the master put on record which directories the members run on (``change_members``, for all that are known at
  once) as soon as it knows: until then no vote can be taken away, and a directory that was swapped before cannot be
  told from the right one, except by itself.

``changes`` says what is refused; ``transfer`` how the mastership is handed over.
"""
