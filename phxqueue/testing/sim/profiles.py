"""Fault profiles: how likely each kind of fault is in a run. One per run, so that single causes stay visible."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How likely each kind of fault is. `..._every` is the mean time between two in seconds; 0 = never.

    loss, duplicate, spike, spike_max: see NetworkFaults.
    stall, busy_read, slow_node: see DiskFaults; one node is so much slower than the others.
    crash_every, crash_all: a process dies; with that probability all of them.
    crash_at_commit: probability, per sync, that the process dies just then.
    write_error: probability, per sync, that it fails.
    strike: probability that a new master dies, stands still or is cut off within its first milliseconds.
    gap_every: what a master sends is lost for some milliseconds, and shortly afterwards it dies.
    time_scale: see ClusterShape.
    stop_every: a process ends in good order and comes back.
    transfer_every: an operator has a mastership handed over, to whomever.
    pause_every: a process stands still, for less than a lease or for much longer.
    cut_every: a link or a node is cut off, in one direction or both; frames are lost or held up.
    refuse_every: peers believe that a running process has gone, and perhaps hear no more of it for a while.
    leave_every: a node stays down until every other has trimmed its log past what it holds.
    upgrade_every: all nodes start with the previous program; one after another restarts with the current one.
    downgrade: probability, per upgrade after the last, that a node goes back to the previous one for a while.
    rack_every: followers restart at once, as if they shared a rack, at a bad moment.
    flip_every: a byte of a stored entry changes.
    full_every: a disk is full for a while.
    jump_every: a wall clock is set.
    member_every: an operator asks for a change of members.
    empty_every: a disk is lost, if that may be survived; an operator has the node admitted again.
    roll_every: all nodes are restarted, one after the other.
    """

    name: str
    loss: float = 0.0
    duplicate: float = 0.0
    spike: float = 0.0
    spike_max: float = 0.5
    stall: float = 0.0
    busy_read: float = 0.0
    slow_node: float = 1.0
    crash_every: float = 0.0
    crash_all: float = 0.0
    crash_at_commit: float = 0.0
    write_error: float = 0.0
    strike: float = 0.0
    gap_every: float = 0.0
    time_scale: float = 1.0
    stop_every: float = 0.0
    transfer_every: float = 0.0
    pause_every: float = 0.0
    cut_every: float = 0.0
    refuse_every: float = 0.0
    rack_every: float = 0.0
    leave_every: float = 0.0
    upgrade_every: float = 0.0
    downgrade: float = 0.0
    flip_every: float = 0.0
    full_every: float = 0.0
    jump_every: float = 0.0
    member_every: float = 0.0
    empty_every: float = 0.0
    roll_every: float = 0.0


CALM = Profile(name="calm")
PROFILES = (
    CALM,
    Profile(name="lossy", loss=0.1, duplicate=0.1, spike=0.05),
    Profile(name="late", spike=0.03, spike_max=3.0, crash_every=2.0, pause_every=2.0),
    Profile(name="crashing", crash_every=0.7, crash_all=0.2),
    Profile(name="crashing at commits", crash_at_commit=0.004, crash_every=4.0, crash_all=0.3),
    Profile(name="pausing", pause_every=0.5, spike=0.02),
    Profile(name="partitioned", cut_every=0.6),
    Profile(name="partitioned and crashing", cut_every=0.7, crash_every=1.0, crash_at_commit=0.001, gap_every=2.0),
    Profile(name="short masterships", time_scale=0.2, cut_every=0.3, strike=0.7, gap_every=0.5),
    Profile(
        name="short masterships, late",
        time_scale=0.2,
        cut_every=0.5,
        strike=0.5,
        loss=0.02,
        duplicate=0.02,
        spike=0.05,
        spike_max=0.6,
    ),
    Profile(name="racks", rack_every=0.5, refuse_every=1.0),
    Profile(name="slow disks", stall=0.05, busy_read=0.02, slow_node=30.0, crash_every=2.0),
    Profile(name="failing disks", write_error=0.003, stall=0.02, full_every=1.0, crash_every=4.0),
    Profile(name="left behind", leave_every=0.7, crash_every=3.0),
    Profile(name="mixed versions", upgrade_every=0.4, crash_every=2.0, downgrade=0.5),
    Profile(name="bit rot", flip_every=0.3, crash_every=2.0),
    Profile(name="members", member_every=0.15, transfer_every=1.5, crash_every=3.0, cut_every=2.0),
    Profile(name="emptied disks", empty_every=0.4, crash_every=2.0, member_every=1.0, transfer_every=2.0),
    Profile(name="rolling restarts", roll_every=1.0, transfer_every=0.3, cut_every=2.0),
    Profile(name="operated", stop_every=0.8, transfer_every=0.3, refuse_every=0.7, full_every=1.0, jump_every=0.5),
    Profile(
        name="everything",
        loss=0.03,
        duplicate=0.03,
        spike=0.02,
        stall=0.03,
        busy_read=0.01,
        slow_node=5.0,
        crash_every=1.5,
        crash_all=0.1,
        crash_at_commit=0.001,
        write_error=0.0005,
        strike=0.1,
        stop_every=4.0,
        transfer_every=3.0,
        pause_every=1.5,
        cut_every=1.5,
        refuse_every=3.0,
        flip_every=2.0,
        full_every=4.0,
        jump_every=2.0,
    ),
)
