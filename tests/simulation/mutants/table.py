"""What a mutant is, and the means to write one: patches that fail when what they patch has moved."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from phxqueue.store.state import QueueState
from phxqueue.testing.sim.run import Outcome, plan, run

Patch = pytest.MonkeyPatch

SHORT = ("short masterships", "short masterships, late")
"""Profiles of many masterships with many entries in flight at each change."""

_MISTAKES = ("TypeError:", "AttributeError:", "NameError:", "UnboundLocalError:")


class BrokenMutant(Exception):
    """A mutant does not fit the code it means to spoil, so that it proves nothing."""


@dataclass(frozen=True)
class Mutant:
    """One bug.

    seeds: known to catch it, as of when they were last looked for.
    profiles, nodes: which of the seeds that CI runs are likely to catch it: those of these profiles (empty: of any),
        and with so many nodes (0: with any number).
    """

    name: str
    apply: Callable[[Patch], None]
    seeds: tuple[int, ...]
    profiles: tuple[str, ...] = ()
    nodes: int = 0

    def caught_by(self, seed: int) -> Outcome | None:
        """Run a seed with this bug; return the outcome if it was caught.

        :raises BrokenMutant: what went wrong is the mutant itself.
        """
        with pytest.MonkeyPatch.context() as patch:
            self.apply(patch)
            outcome = run(seed)
        check_fits(self.name, outcome)
        return outcome if outcome.violation else None

    def promising(self, seeds: int) -> list[int]:
        """The known seeds, then those of the first so many that are likely to catch it."""
        return [*self.seeds, *(seed for seed in range(seeds) if seed not in self.seeds and self._likely(seed))]

    def _likely(self, seed: int) -> bool:
        if not self.profiles and not self.nodes:
            return True
        drawn = plan(seed)
        return drawn.profile.name in (self.profiles or (drawn.profile.name,)) and (self.nodes in (0, drawn.shape.nodes))


def check_fits(name: str, outcome: Outcome) -> None:
    """Refuse a run that a mutant's own mistake has ended.

    :raises BrokenMutant: it is such a run.
    """
    if any(mistake in outcome.violation for mistake in _MISTAKES):
        raise BrokenMutant(f"{name}, seed {outcome.seed}: {outcome.violation}")


MUTANTS: list[Mutant] = []


def mutant(
    *seeds: int, profiles: tuple[str, ...] = (), nodes: int = 0
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Add the decorated function to the table; its docstring says what is wrong."""

    def add(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS.append(Mutant(apply.__name__, apply, seeds, profiles, nodes))
        return apply

    return add


def replace(patch: Patch, owner: type, name: str, new: Callable[..., Any]) -> None:
    """Put another method in the place of one that takes the same parameters; one that takes any (`*_, **__`) fits.

    :raises BrokenMutant: there is no such method in this class, or it takes others.
    """
    if name not in vars(owner):
        raise BrokenMutant(f"{owner.__name__} has no {name} of its own any more")
    old = vars(owner)[name]
    parameters = inspect.signature(new).parameters
    takes_any = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= {
        parameter.kind for parameter in parameters.values()
    }
    if not takes_any and list(inspect.signature(old).parameters) != list(parameters):
        raise BrokenMutant(f"{owner.__name__}.{name}{inspect.signature(old)} takes other parameters now")
    patch.setattr(owner, name, new)


def wrap(patch: Patch, owner: type, name: str, change: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a method by what `change` makes of it.

    :raises BrokenMutant: there is no such method in this class.
    """
    if name not in vars(owner):
        raise BrokenMutant(f"{owner.__name__} has no {name} of its own any more")
    patch.setattr(owner, name, change(vars(owner)[name]))


def then(patch: Patch, owner: type, name: str, more: Callable[..., None]) -> None:
    """Let a method do `more` behind what it does: called with self, what it returns, and its arguments.

    :raises BrokenMutant: there is no such method in this class.
    """

    def change(method: Callable[..., Any]) -> Callable[..., Any]:
        def both(self: Any, *arguments: Any, **named: Any) -> Any:
            result = method(self, *arguments, **named)
            more(self, result, *arguments, **named)
            return result

        return both

    wrap(patch, owner, name, change)


def lost_with_a_restart(patch: Patch, forget: Callable[[QueueState], None]) -> None:
    """A node that restarts from a checkpoint, or gets one from a peer, has forgotten something."""
    then(patch, QueueState, "_become", lambda state, *_, **__: forget(state))
