"""PhxQueue: a highly available, strictly durable distributed queue on Paxos, for Twisted."""

__version__ = "0.1.0"
