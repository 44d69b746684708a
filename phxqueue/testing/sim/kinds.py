"""The kinds of faults a simulated world knows. Each must really occur in the seeds that CI runs: a test demands it."""

from __future__ import annotations

KINDS: dict[str, str] = {
    # network, between nodes
    "lost frame": "a frame between two nodes never arrives",
    "late frame": "a frame takes up to seconds",
    "repeated frame": "a frame arrives twice",
    "overtaken frame": "a frame arrives before one that the same node sent earlier",
    "cut": "a node, a minority or one link is cut off in both directions",
    "one-way cut": "the same in one direction",
    "link by link": "what was cut comes back one link after another",
    "interruption": "what a node sends is lost for some milliseconds, and what it sends then gets through",
    "hold-up": "frames wait, as TCP keeps sending while a route is gone, and then arrive in a burst",
    "refusal": "peers believe that a running process is gone",
    # network, between clients and nodes
    "lost call": "a request or an answer never arrives",
    # processes
    "crash": "a process dies",
    "crash of all": "all processes die at once",
    "crash at a commit": "a process dies just when its disk has synced",
    "crash of a new master": "a process dies within the first milliseconds of a mastership",
    "rack": "the followers restart at once while the master is cut off, or one follower was before",
    "stop": "a process ends in good order",
    "transfer": "a mastership is handed over from one node to another",
    "short pause": "a process stands still for less than a lease",
    "long pause": "a process stands still for longer than a lease",
    # disks
    "slow sync": "a sync takes up to tenths of a second",
    "busy read": "a read is refused because too many wait",
    "lost tail": "a crash takes transactions along that were not synced",
    "kept tail": "a crash leaves transactions behind of which nobody had heard that they were durable",
    "write error": "a sync fails: the node must acknowledge nothing more and end",
    "torn record": "a crash damages the entry that was written last",
    "flip": "a byte of a stored entry changes",
    "full disk": "the file system has no room",
    "left behind": "a node comes back when every other has trimmed its log past what it holds",
    # members
    "member added": "a node becomes a learner of a group",
    "member removed": "a node is no member any more",
    "member of another kind": "a learner gets a vote, a voter becomes a witness or loses its vote",
    "member replaced": "a node whose disk was emptied is a member again, on its new one",
    "emptied disk": "a node loses its disk and comes back with an empty one",
    "rolling restart": "all nodes are restarted in good order, one after the other",
    # programs
    "upgrade": "a node of the previous program restarts with the current one, while others still run the previous",
    "downgrade": "a node restarts with the previous program, though newer commands are in the log: it must halt",
    # clocks
    "drift": "a process runs by a clock that is too fast or too slow",
    "wall clock": "a wall clock is set, forward or back",
}
"""Name and meaning."""
