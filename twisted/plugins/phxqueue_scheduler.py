"""Makes ``twistd phxqueue-scheduler`` known; imports nothing of the role until it is used."""

from twisted.application.service import ServiceMaker

phxqueue_scheduler = ServiceMaker(
    "PhxQueue scheduler",
    "phxqueue.scheduler.daemon",
    "PhxQueue: one scheduler, described by -c FILE",
    "phxqueue-scheduler",
)
