"""A program that prepares half messages and then waits for its end: ``python preparing.py GLOBALCONFIG TEXT...``.

It prints a line per half message: its id and its text.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from phxqueue.producer import Producer


async def main(reactor: Any, path: str, *texts: str) -> None:
    producer = await Producer.connect(path, topic="test", name="payments", reactor=reactor)
    for text in texts:
        half = await producer.prepare(1, 1, text.encode(), uin=len(text), check_back_after=0.5)
        print(half.half_id, text, flush=True)
    await Deferred()


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
