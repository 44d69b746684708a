"""Commands that ask masters something over the wire."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from phxqueue.admin import edge

if TYPE_CHECKING:
    from phxqueue.admin.context import ClusterContext
    from phxqueue.config import Topic
    from phxqueue.net.routing import Caller

ResultT = TypeVar("ResultT")


def with_caller(
    settings: ClusterContext, topic: Topic, use: Callable[[Caller], Coroutine[Any, Any, ResultT]]
) -> ResultT:
    """Run a coroutine with a client that finds masters; returns what it returns."""
    cluster = settings.load()
    tls = settings.tls_of(cluster)

    async def main(reactor: Any) -> ResultT:
        from phxqueue.admin.clients import open_master_client, open_pool

        pool = open_pool(reactor, cluster, topic, tls)
        try:
            return await use(open_master_client(reactor, cluster, topic, pool))
        finally:
            await pool.close()

    return edge.run(main)
