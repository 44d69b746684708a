"""The store: queues that are replicated by Paxos, and the service that adds to them and reads from them.

Who knows what, from the pure inside to the Twisted edge:

- :mod:`~phxqueue.store.index`, :mod:`~phxqueue.store.idempotence`, :mod:`~phxqueue.store.timers`: columns of numbers,
  nothing else.
- :mod:`~phxqueue.store.queues`: the state machine; entries in, outcomes out. Same entries, same state, on every
  replica.
- :mod:`~phxqueue.store.batcher`, :mod:`~phxqueue.store.positions`, :mod:`~phxqueue.store.served`: pure decisions of the
  master: what goes into the next entry, where a consumer group stands, what the configuration lets in.
- :mod:`~phxqueue.store.proposals`, :mod:`~phxqueue.store.add`, :mod:`~phxqueue.store.get`,
  :mod:`~phxqueue.store.delays`, :mod:`~phxqueue.store.long_poll`: the calls, with Deferreds and timers.
- :mod:`~phxqueue.store.paxos_group` puts the parts of one Paxos group together, :mod:`~phxqueue.store.service` wires
  the groups of a node to its RPC service.

An Add is answered after its entry was chosen (durable on a majority) and applied here. A Get is answered only under a
valid lease, checked before and after whatever had to be read.
"""
