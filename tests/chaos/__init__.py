"""Chaos: a cluster of real processes, treated as badly as a machine can, with books about every item.

``make chaos MINUTES=10`` or ``python -m tests.chaos --minutes 10 --seed 7``. A run is made of rounds, each with a
cluster of its own; a round is a schedule of faults drawn from the seed, then everything is healed and drained, and the
books, the replicas and the recorded histories are compared. What does not hold is a finding; the exit status is 1 then,
and the directory of the run is kept.

- :mod:`.sandbox`: namespaces of the kernel, so that a run needs no rights on the machine and leaves nothing there;
- :mod:`.network`, :mod:`.disks`: nodes with an address and a file system of their own, cut off and filled up;
- :mod:`.spec`: what the cluster looks like, :mod:`.cluster`: the processes of it;
- :mod:`.schedule`: which faults, drawn from the seed (pure); :mod:`.faults`: how each is done;
- :mod:`.workload`, :mod:`.historian`, :mod:`.registers`, :mod:`.holder`: what clients do meanwhile, and write down;
- :mod:`.exclusion`: whether two holders believed in one lock (pure);
- :mod:`.reconciled`: whether the stores' ledger says what our books say;
- :mod:`.verdict`: what must hold at the end; :mod:`.round`, :mod:`.report`: a round, and what is told of a run.

A seed decides the faults, not what the processes make of them: two runs of one seed differ in timing. That is what the
simulator is for.
"""
