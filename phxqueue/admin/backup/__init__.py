"""Copies of a store on other disks, and nodes made of them: ``phxqueue backup`` and ``phxqueue restore``.

A backup is a directory. Each Paxos group is copied by itself, as of one instance of its log: the state of its queues,
the sealed segments of their index, and the entries that hold the items. It is *logical*: it holds nothing of the node
it came from, neither promises nor votes.

- ``files`` says what lies in it and how it is written and read;
- ``taking`` copies it from running nodes, ``checking`` says whether a copy is whole and good, ``restoring`` makes the
  data directory of a node of it;
- ``commands`` is the command line.
"""
