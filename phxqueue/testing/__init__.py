"""What users' tests and our own share: a topic in memory for the former, simulated clusters for the latter."""

from phxqueue.testing.memory.cluster import DeadLetter, InMemoryCluster, NotSettled
from phxqueue.testing.memory.topic import small_topic

__all__ = ["DeadLetter", "InMemoryCluster", "NotSettled", "small_topic"]
