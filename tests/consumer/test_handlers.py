"""Finding handlers: module:object, classes, plugins, and errors that say what to do."""

from __future__ import annotations

from typing import Any, cast

import pytest
from twisted.plugin import IPlugin
from zope.interface import implementer

from phxqueue.consumer import Context, HandlerError, IHandler, IHandlerPlugin, Item, Result, handlers, load_handlers
from phxqueue.consumer.echo import EchoHandler, QuietHandler
from phxqueue.consumer.handlers import as_handler, load_handler

HERE = __name__


def function(context: Context, item: Item) -> Result:
    return Result.OK


async def coroutine(context: Context, item: Item) -> Result:
    return Result.OK


@implementer(IHandler)
class Counting:
    made = 0

    def __init__(self) -> None:
        Counting.made += 1

    def handle(self, context: Context, item: Item) -> Result:
        return Result.OK


class Nested:
    instance = Counting()


class NeedsArguments:
    def __init__(self, url: str) -> None:
        self.url = url

    def handle(self, context: Context, item: Item) -> Result:
        return Result.OK


def one_argument(item: Item) -> Result:
    return Result.OK


number = 5


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module under a name that can be imported, however pytest has imported it."""
    import sys

    monkeypatch.setitem(sys.modules, "shop_orders", sys.modules[HERE])


@pytest.mark.parametrize("name", ["function", "coroutine", "Counting", "Nested.instance"])
def test_what_may_be_a_handler(name: str) -> None:
    assert callable(load_handler(f"shop_orders:{name}").call)


def test_a_class_is_made_once() -> None:
    before = Counting.made
    found = load_handlers({1: "shop_orders:Counting", 2: "phxqueue.consumer.echo:EchoHandler"}, plugins=False)
    assert Counting.made == before + 1
    assert isinstance(found[2].call.__self__, EchoHandler)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("specification", "text"),
    [
        ("shop_orders", 'is not of the form "module:object"'),
        (":function", 'is not of the form "module:object"'),
        ("shop_orders:", 'is not of the form "module:object"'),
        ("no_such_module_anywhere:f", "PYTHONPATH"),
        ("shop_orders:nothing", "no attribute 'nothing'"),
        ("shop_orders:number", "neither a function nor has it a method handle"),
        ("shop_orders:one_argument", "cannot be called with (context, item)"),
        ("shop_orders:NeedsArguments", "making a NeedsArguments raised TypeError"),
    ],
)
def test_what_is_wrong_with_a_handler_is_named(specification: str, text: str) -> None:
    with pytest.raises(HandlerError) as error:
        load_handler(specification)
    assert text in str(error.value)
    assert specification in str(error.value)


def test_a_module_that_fails_to_import_says_how(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_handlers.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HandlerError, match="importing it raised ZeroDivisionError"):
        load_handler("broken_handlers:f")


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(HandlerError, match=r"handle_id 1: .*; handle_id 2: "):
        load_handlers({1: "shop_orders:number", 2: "nowhere_at_all:f"}, plugins=False)


@implementer(IPlugin, IHandlerPlugin)
class Plugin:
    def __init__(self, handle_id: int) -> None:
        self.handle_id = handle_id

    def handle(self, context: Context, item: Item) -> Result:
        return Result.IGNORE


def test_plugins_are_found_and_the_file_comes_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = [Plugin(1), Plugin(3), object()]
    monkeypatch.setattr(handlers, "getPlugins", lambda interface: iter(plugins))
    found = load_handlers({1: "shop_orders:function"})
    assert found[1] == load_handler("shop_orders:function")
    assert found[3].call.__self__ is plugins[1]  # type: ignore[attr-defined]
    assert set(found) == {1, 3}
    plugins.append(Plugin(3))
    with pytest.raises(HandlerError, match="are plugins for it; remove one"):
        load_handlers({})


def test_the_real_plugin_search_runs() -> None:
    assert load_handlers({}) == {}


def test_a_builtin_without_signature_is_accepted() -> None:
    assert as_handler(max, "max").call is max


def test_the_quiet_handler_finishes_everything() -> None:
    assert IHandler.providedBy(QuietHandler())
    assert QuietHandler().handle(cast("Context", None), cast("Item", None)) is Result.OK
