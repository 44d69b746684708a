"""Makes ``twistd phxqueue-lock`` known; imports nothing of the role until it is used."""

from twisted.application.service import ServiceMaker

phxqueue_lock = ServiceMaker(
    "PhxQueue lock",
    "phxqueue.lock.daemon",
    "PhxQueue: one lock node, described by -c FILE",
    "phxqueue-lock",
)
