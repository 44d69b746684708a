"""The journal: what one node knows for certain, on disk, in Berkeley DB.

May know: `proto` and `config` types, Twisted. Knows nothing of Paxos, the network or queues: it stores numbered
entries per group, a promise and a chosen mark per group, and small tables of blobs.
"""
