"""docs/configuration.md says what the models say."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from phxqueue.config.fields import note
from phxqueue.config.reference import blocks, reference
from phxqueue.config.schema import Block

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run: python -m phxqueue.config.reference > docs/configuration.md"


@pytest.fixture(scope="module")
def page() -> str:
    return reference()


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.__name__)
def test_every_field_is_explained_with_a_good_default(page: str, block: type[Block]) -> None:
    assert block.__doc__
    assert block.__doc__ != Block.__doc__
    for name, info in block.model_fields.items():
        assert info.description, f"{block.__name__}.{name} has no meaning"
        assert f"`{name}`" in page
        assert_default_is_allowed(block, name, info)
        if name.endswith(("_ms", "_s", "_bytes", "_us")):
            assert note(info, "unit") == {"ms": "ms", "s": "s", "bytes": "bytes", "us": "µs"}[name.rpartition("_")[2]]


def assert_default_is_allowed(block: type[Block], name: str, info: FieldInfo) -> None:
    if info.is_required() or note(info, "default_text"):
        return
    block.__pydantic_validator__.validate_assignment(block.model_construct(), name, info.default)


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.__name__)
def test_numbers_have_both_bounds(block: type[Block]) -> None:
    for name, info in block.model_fields.items():
        if info.annotation in (int, float):
            bounds = {type(part).__name__ for part in info.metadata}
            assert {"Ge", "Le"} <= bounds, f"{block.__name__}.{name} is unbounded"
