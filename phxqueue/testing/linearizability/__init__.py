"""Linearizability of recorded histories: is there one order, within real time, in which every answer is right?

A history is what clients saw: for every operation when it was called, when it returned, and with what. It is
linearizable when each operation can be given a moment between its call and its return at which it takes effect at
once, such that a sequential model of the object gives the same answers (Herlihy and Wing, "Linearizability: A
Correctness Condition for Concurrent Objects", ACM TOPLAS 12(3), 1990).

- :mod:`.history`: operations, their file format (JSON lines), and the recorder that clients report to;
- :mod:`.search`: the search for an order (Wing and Gong, "Testing and Verifying Concurrent Objects", Journal of
  Parallel and Distributed Computing 17, 1993; with the memory of Lowe, "Testing for Linearizability", Concurrency and
  Computation 29(4), 2017);
- :mod:`.check`: whole histories, object by object (P-compositionality: Horn and Kroening, "Faster Linearizability
  Checking via P-Compositionality", FORTE 2015; for separate objects already the locality theorem of Herlihy and Wing);
- :mod:`.register`, :mod:`.versioned_register`, :mod:`.queue_end`, :mod:`.cursor`, :mod:`.lock`: the sequential models.

Everything here is pure but the reading of files. ``python -m phxqueue.testing.linearizability FILE ...`` checks
recorded histories.
"""

from phxqueue.testing.linearizability.check import MODELS, Report, check_history
from phxqueue.testing.linearizability.history import HistoryError, Operation, Recorder, read_history, write_history
from phxqueue.testing.linearizability.search import Model, Result, Verdict, search

__all__ = [
    "MODELS",
    "HistoryError",
    "Model",
    "Operation",
    "Recorder",
    "Report",
    "Result",
    "Verdict",
    "check_history",
    "read_history",
    "search",
    "write_history",
]
