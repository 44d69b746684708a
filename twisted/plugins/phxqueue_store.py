"""Makes ``twistd phxqueue-store`` known; imports nothing of the role until it is used."""

from twisted.application.service import ServiceMaker

phxqueue_store = ServiceMaker(
    "PhxQueue store",
    "phxqueue.store.daemon",
    "PhxQueue: one store node, described by -c FILE",
    "phxqueue-store",
)
