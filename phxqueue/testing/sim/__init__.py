"""Deterministic simulation: the real consensus core, replica runtime and state machines in a world made of one seed.

Time, network, disk and crashes are simulated (:mod:`.world`, :mod:`.network`, :mod:`.disk`); everything between them is
the code that runs in production. One seed decides every fault, delay and choice, so a failure is reproduced exactly by
``python -m phxqueue.testing.sim --seed N``.

A run has a *safety* phase, in which faults happen and the checkers (:mod:`.checkers`, one invariant per file) watch
every step, and a *liveness* phase: all faults heal, and then everything acknowledged must arrive, in order, in time.
"""
