"""The lock service in the simulated world: the real table, service and replica under the faults of the simulator.

``python -m phxqueue.testing.sim.locks --seed N`` replays a run. Clients acquire, wait, renew, stand still, release and
vanish; checked are, beside what holds for every replicated state machine (:mod:`phxqueue.testing.sim.checkers`):

- exclusion: no two clients at once, each counting its lease on a clock of its own, believe that they hold a lock;
- tokens: every acquisition has a version of its own, above all that were told before it began;
- restores: some groups begin as if restored from a backup, while clients it knows nothing of hold their locks;
- linearizability: every answer is what the log says at some entry between call and return, and none is older than what
  somebody was told before the call; strings by the search for an order (:mod:`phxqueue.testing.linearizability`);
- liveness: when the faults have ended every waiter gets its turn, whoever has vanished.
"""
