"""What happens to a Paxos group, in words for the log. Pure."""

from __future__ import annotations

from phxqueue.paxos.effects import (
    BecameMaster,
    ChangeVoid,
    CorruptEntry,
    LostMaster,
    MasterChanged,
    MastershipTransferred,
    MembershipSettled,
    Standing,
    TransferFailed,
)


def event_news(event: object) -> str:
    """Return what an event says; one that has no words here, as it is."""
    match event:
        case BecameMaster():
            return f"this node is master now, from instance {event.first_instance} on (ballot {event.ballot})"
        case LostMaster():
            return f"this node is master no longer: {event.reason} (ballot {event.ballot})"
        case MasterChanged():
            return f"node {event.master_id} is master now (ballot {event.ballot})"
        case Standing():
            return f"this node stands for master (ballot {event.ballot})"
        case MastershipTransferred():
            return f"node {event.to} has taken over as master"
        case TransferFailed():
            return f"node {event.to} did not take over as master: {event.reason}"
        case MembershipSettled():
            nodes = ", ".join(str(member.node_id) for member in event.members)
            return f"a majority of its members (nodes {nodes}) has everything from before they were"
        case ChangeVoid():
            return f"the change of members at instance {event.instance} is void: another one came first"
        case CorruptEntry():
            return f"the entry at instance {event.instance} from node {event.sender} is damaged, and was not taken"
    return str(event)
