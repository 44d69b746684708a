"""The handler of the demo: says what it got, in the log (which `twistd -n` shows on the terminal)."""

from __future__ import annotations

from zope.interface import implementer

from phxqueue.consumer.handlers import IHandler, Result
from phxqueue.consumer.items import Context, Item


@implementer(IHandler)
class EchoHandler:
    """Logs `consume echo succeeded!` with the text of every item."""

    def handle(self, context: Context, item: Item) -> Result:
        """Say it."""
        text = item.buffer.decode("utf-8", "replace")
        context.log.info("consume echo succeeded! {text}", text=text)
        return Result.OK


@implementer(IHandler)
class QuietHandler:
    """Finishes every item and says nothing: for measuring, when a log line per item would be most of the work."""

    def handle(self, context: Context, item: Item) -> Result:
        """Be done with it."""
        return Result.OK
