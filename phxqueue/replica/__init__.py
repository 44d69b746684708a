"""The runtime of one node: drives the pure Paxos core with a journal, peers and a clock, and hosts state machines.

Who knows what:

- :mod:`phxqueue.paxos` decides; it returns :class:`~phxqueue.paxos.effects.Effects`.
- :class:`~phxqueue.replica.group_runtime.GroupRuntime` carries effects out for one Paxos group, in the order
  the core demands: *persist*, then *send*; once durable, *send after* and tell the core; then *apply* what is chosen.
- :class:`~phxqueue.replica.node.ReplicaNode` owns the groups of a node, their ticks and their checkpoints.
- :class:`~phxqueue.replica.peers.PeerLinks` is the only part that touches sockets. The simulator replaces it,
  the journal and the clock, and runs everything else as it is.
"""
