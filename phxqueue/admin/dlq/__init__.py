"""``phxqueue dlq``: look after dead letters.

- :mod:`~phxqueue.admin.dlq.letters`: what a dead letter says, and which ones are meant. Pure.
- :mod:`~phxqueue.admin.dlq.queue`: one dead-letter queue: read it, take letters out of it.
- :mod:`~phxqueue.admin.dlq.commands`: the commands.

A dead letter is there until its consumer group has acknowledged it in the dead-letter queue. Reading moves nothing. A
queue is acknowledged from its front, so letters are taken out of the midst of it by acknowledging up to there and
enqueueing behind it what was to stay: first that, durably, then the acknowledgement. Killed between the two, a letter
is there twice, and none is lost.
"""
