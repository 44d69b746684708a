"""Whose turn it is."""

from __future__ import annotations

from phxqueue.lock.waiters import Waiters


def test_turns_follow_the_time_of_coming_then_the_order_of_calls() -> None:
    waiters: Waiters[str] = Waiters()
    for client_id, since in (("c", 3.0), ("a", 1.0), ("b1", 2.0), ("b2", 2.0)):
        waiters.join("key", client_id, 1000, since, "call")
    order = []
    while first := waiters.first("key"):
        order.append(first.client_id)
        waiters.leave(first)
    assert order == ["a", "b1", "b2", "c"]
    assert len(waiters) == 0


def test_queues_of_different_keys_have_nothing_to_do_with_each_other() -> None:
    waiters: Waiters[str] = Waiters()
    one = waiters.join("one", "me", 1000, 1.0, "call")
    other = waiters.join("other", "me", 1000, 2.0, "call")
    assert waiters.find("one", "me") is one
    assert waiters.first("other") is other
    waiters.leave(one)
    waiters.leave(one)
    assert (waiters.count("one"), waiters.count("other"), len(waiters)) == (0, 1, 1)


def test_clearing_returns_who_waited() -> None:
    waiters: Waiters[str] = Waiters()
    waiter = waiters.join("key", "me", 1000, 1.0, "call")
    assert waiters.clear() == [waiter]
    assert waiters.first("key") is None
    waiters.leave(waiter)
