"""Makes ``twistd phxqueue-dev`` known; imports nothing until it is used."""

from twisted.application.service import ServiceMaker

phxqueue_dev = ServiceMaker(
    "PhxQueue development cluster",
    "phxqueue.admin.dev",
    "PhxQueue: a whole cluster in this one process, for development",
    "phxqueue-dev",
)
