"""Makes ``twistd phxqueue-consumer`` known; imports nothing of the role until it is used."""

from twisted.application.service import ServiceMaker

phxqueue_consumer = ServiceMaker(
    "PhxQueue consumer",
    "phxqueue.consumer.daemon",
    "PhxQueue: one consumer node, described by -c FILE",
    "phxqueue-consumer",
)
