"""What an application writes: handlers. And how they are found. See docs/api.md."""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from twisted.plugin import IPlugin, getPlugins
from zope.interface import Attribute, Interface

from phxqueue.consumer.items import Context, Item


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


class IHandlerPlugin(IHandler):
    """A handler that is found by itself: an object in a module below twisted/plugins/ (see twisted.plugin).

    It has to provide twisted.plugin.IPlugin as well.
    """

    handle_id = Attribute("The handle_id whose items it handles.")


Handle = Callable[[Context, Item], Any]


class HandlerError(Exception):
    """A handler that cannot be used: names it, what is wrong, and what to do."""


def load_handlers(specifications: Mapping[int, str], *, plugins: bool = True) -> dict[int, Handle]:
    """The handlers of a consumer by handle_id.

    Args:
        specifications: "module:object" by handle_id; they come before plugins.
        plugins: whether to look for IHandlerPlugin objects too.

    Raises:
        HandlerError: listing every handler that cannot be used.
    """
    found: dict[int, Handle] = {}
    problems: list[str] = []
    if plugins:
        for plugin in plugin_handlers(problems):
            found.setdefault(plugin.handle_id, plugin.handle)
    for handle_id, specification in sorted(specifications.items()):
        try:
            found[handle_id] = load_handler(specification)
        except HandlerError as error:
            problems.append(f"handle_id {handle_id}: {error}")
    if problems:
        raise HandlerError("; ".join(problems))
    return found


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


def load_handler(specification: str) -> Handle:
    """Import "module:object" and make a handler of it.

    The object may be a function, an object with a method `handle`, or a class of such objects (it is called without
    arguments, once).

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
    return as_handle(found, specification)


def as_handle(found: Any, name: str) -> Handle:
    """Make a handler of an object; see load_handler.

    Raises:
        HandlerError: when it is none.
    """
    if inspect.isclass(found):
        try:
            found = found()
        except Exception as error:
            raise HandlerError(f"{name!r}: making a {found.__name__} raised {type(error).__name__}: {error}") from error
    handle = getattr(found, "handle", found)
    if not callable(handle):
        raise HandlerError(
            f"{name!r} is neither a function nor has it a method handle(context, item); it is {type(found).__name__}"
        )
    try:
        inspect.signature(handle).bind(None, None)
    except TypeError as error:
        raise HandlerError(f"{name!r} cannot be called with (context, item): {error}") from error
    except ValueError:
        pass  # a built-in without a signature
    return handle  # type: ignore[no-any-return]
