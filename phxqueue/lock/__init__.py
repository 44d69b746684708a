"""The lock service: a replicated table of locks with leases and of strings with versions, and the client for it.

Who knows what, from the pure inside to the Twisted edge:

- :mod:`~phxqueue.lock.table`: the state machine; entries in, outcomes out. Same entries, same state, on every replica.
  It knows no time: a lease in it is a length.
- :mod:`~phxqueue.lock.leases`, :mod:`~phxqueue.lock.waiters`, :mod:`~phxqueue.lock.placement`,
  :mod:`~phxqueue.lock.shares`: pure decisions: which lease has run out by the master's clock, whose turn it is, which
  lock group a key belongs to, and how that changes.
- :mod:`~phxqueue.lock.operations`: what a request asks for, or why it is refused.
- :mod:`~phxqueue.lock.proposals`, :mod:`~phxqueue.lock.acquiring`, :mod:`~phxqueue.lock.renewing`,
  :mod:`~phxqueue.lock.reading`: the calls, with Deferreds and timers; :mod:`~phxqueue.lock.expiry`,
  :mod:`~phxqueue.lock.silence`: what follows from time.
- :mod:`~phxqueue.lock.paxos_group` puts the parts of one Paxos group together, :mod:`~phxqueue.lock.service` wires the
  groups of a node to its RPC service.
- :mod:`~phxqueue.lock.first_share`: how several lock groups agree, at their first start, on who serves what.
- :mod:`~phxqueue.lock.client`: what applications use.

A change is answered after its entry was chosen (durable on a majority) and applied here. Reads and renewals are
answered only under a valid master's lease. A lock's lease begins, and begins again, when the *master* says so: with
the entry that grants it, with a renewal, and, for every lock, with a new mastership. So it never ends earlier than its
holder has been told, by however many masters he has been told.
"""
