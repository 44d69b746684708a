"""What an application writes: handlers. And how they are found. See docs/api.md."""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.plugin import IPlugin, getPlugins
from zope.interface import Attribute, Interface

from phxqueue.consumer.items import BatchContext, Context, Item


class Result(enum.Enum):
    """What a handler says about an item."""

    OK = "ok"  # handled
    RETRY = "retry"  # again later, along the attempt chain of its pub; after the last attempt it is a dead letter
    IGNORE = "ignore"  # not handled, and never will be: nothing is kept of it
    DEAD = "dead"  # to the dead letters at once: trying again cannot help


class IHandler(Interface):
    """Handles items of one handle_id."""

    def handle(context: Context, item: Item) -> Any:
        """Handle one item.

        Returns:
            A Result, or a Deferred or coroutine of one. An exception counts as RETRY.
        """


class IBatchHandler(Interface):
    """Handles several items of one handle_id at once. No two of them have the same uin (0 excepted)."""

    def handle_batch(context: BatchContext, items: list[Item]) -> Any:
        """Handle items of one queue.

        Returns:
            A list of Results, one for each item, or one Result for all; or a Deferred or coroutine of that. An
            exception counts as RETRY for each.
        """


class IHandlerPlugin(IHandler):
    """A handler that is found by itself: an object in a module below twisted/plugins/ (see twisted.plugin).

    It has to provide twisted.plugin.IPlugin as well.
    """

    handle_id = Attribute("The handle_id whose items it handles.")


Handle = Callable[[Context, Item], Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler, and what is to be known of it.

    Attributes:
        call: takes (context, item), or (batch context, items) when batch_items is not 0.
        batch_items: most items that it takes at once.
        timeout_s: longest it may take; None: handler_timeout_s of the consumer's file.
        pooled: it runs in the process pool, which watches its time itself.
    """

    call: Callable[[Any, Any], Any]
    batch_items: int = 0
    timeout_s: float | None = None
    pooled: bool = False


class PoolFailure(Exception):
    """A handler in the process pool did not come to a result; the text says why.

    Attributes:
        traceback: of the process, or "".
    """

    def __init__(self, why: str, traceback: str = "") -> None:
        super().__init__(why)
        self.traceback = traceback


class HandlerTimeout(PoolFailure):
    """It took too long; its process was killed."""


class HandlerError(Exception):
    """A handler that cannot be used: names it, what is wrong, and what to do."""


#: Items of one batch when a batch handler does not say `batch_items`.
BATCH_ITEMS = 100


def load_handlers(
    specifications: Mapping[int, str], *, plugins: bool = True, middleware: Iterable[str] = ()
) -> dict[int, Handler]:
    """The handlers of a consumer by handle_id.

    Args:
        specifications: "module:object" by handle_id; they come before plugins.
        plugins: whether to look for IHandlerPlugin objects too.
        middleware: "module:object" of what runs around all of them, outermost first.

    Raises:
        HandlerError: listing every handler that cannot be used.
    """
    from phxqueue.consumer.middleware import load_middleware, wrapped

    found: dict[int, Handler] = {}
    problems: list[str] = []
    if plugins:
        for plugin in plugin_handlers(problems):
            if plugin.handle_id not in found:
                _collect(found, plugin.handle_id, partial(as_handler, plugin, repr(plugin)), problems)
    for handle_id, specification in sorted(specifications.items()):
        _collect(found, handle_id, partial(load_handler, specification), problems)
    layers = []
    for specification in middleware:
        try:
            layers.append(load_middleware(specification))
        except HandlerError as error:
            problems.append(f"middleware: {error}")
    if problems:
        raise HandlerError("; ".join(problems))
    return {handle_id: wrapped(handler, layers) for handle_id, handler in found.items()}


def _collect(found: dict[int, Handler], handle_id: int, load: Callable[[], Handler], problems: list[str]) -> None:
    try:
        found[handle_id] = load()
    except HandlerError as error:
        problems.append(f"handle_id {handle_id}: {error}")


def plugin_handlers(problems: list[str]) -> list[Any]:
    """All handler plugins; two of one handle_id are a problem."""
    plugins: dict[int, Any] = {}
    for plugin in getPlugins(IPlugin):
        if not IHandlerPlugin.providedBy(plugin):
            continue
        other = plugins.setdefault(plugin.handle_id, plugin)
        if other is not plugin:
            problems.append(
                f"handle_id {plugin.handle_id}: both {plugin!r} and {other!r} are plugins for it; remove one"
            )
    return list(plugins.values())


def load_handler(specification: str) -> Handler:
    """Import "module:object" and make a handler of it; see as_handler.

    Raises:
        HandlerError: naming what is wrong.
    """
    return as_handler(load_object(specification), specification)


def load_object(specification: str) -> Any:
    """Import "module:object"; of a class, make one (without arguments).

    Raises:
        HandlerError: naming what is wrong.
    """
    module_name, separator, path = specification.partition(":")
    if not separator or not module_name or not path:
        raise HandlerError(
            f'{specification!r} is not of the form "module:object", for example "shop.orders:handle_order"'
        )
    try:
        found: Any = importlib.import_module(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except ImportError as error:
        raise HandlerError(
            f"{specification!r} cannot be imported: {error} (is its directory on PYTHONPATH of the daemon?)"
        ) from error
    except AttributeError as error:
        raise HandlerError(f"{specification!r}: {error}") from error
    except Exception as error:
        raise HandlerError(f"{specification!r}: importing it raised {type(error).__name__}: {error}") from error
    return made(found, specification)


def made(found: Any, name: str) -> Any:
    """An object as it is; of a class, one of its objects.

    Raises:
        HandlerError: when none can be made.
    """
    if not inspect.isclass(found):
        return found
    try:
        return found()
    except Exception as error:
        raise HandlerError(f"{name!r}: making a {found.__name__} raised {type(error).__name__}: {error}") from error


def as_handler(found: Any, name: str) -> Handler:
    """Make a handler of an object.

    It may be a function, an object with a method `handle` or `handle_batch` (which comes first), or a class of such
    objects (it is called without arguments, once). Attributes `batch_items` and `timeout_s` are looked at too.

    Raises:
        HandlerError: when it is none.
    """
    if isinstance(found, Handler):
        return found
    found = made(found, name)
    timeout_s = _number(found, "timeout_s", name)
    if hasattr(found, "handle_batch"):
        check_callable(found.handle_batch, name, "(context, items)")
        items = _number(found, "batch_items", name)
        return Handler(found.handle_batch, BATCH_ITEMS if items is None else int(items), timeout_s)
    handle = getattr(found, "handle", found)
    if not callable(handle):
        raise HandlerError(
            f"{name!r} is neither a function nor has it a method handle(context, item) or handle_batch(context, "
            f"items); it is {type(found).__name__}"
        )
    check_callable(handle, name, "(context, item)")
    return Handler(handle, timeout_s=timeout_s)


def _number(found: Any, attribute: str, name: str) -> float | None:
    value = getattr(found, attribute, None)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
        raise HandlerError(f"{name!r}: {attribute} is {value!r}; it has to be a number above 0")
    return value


def check_callable(function: Any, name: str, arguments: str) -> None:
    """Raises HandlerError when it cannot be called with two arguments."""
    try:
        inspect.signature(function).bind(*[None] * (arguments.count(",") + 1))
    except TypeError as error:
        raise HandlerError(f"{name!r} cannot be called with {arguments}: {error}") from error
    except ValueError:
        pass  # a built-in without a signature
