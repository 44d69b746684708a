"""etcd's side of the benchmark of locks: the v3 API over gRPC (C core, asyncio), one HTTP/2 connection per address.

What its own client libraries do: a lock is a key that a transaction creates, under the lease of the client's session,
if it is not there, and a deletion; a renewal is a keep-alive of a lease, which costs etcd no write either;
compare-and-swap is a transaction that compares the revision.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from benchmarks.lock_work import Report, Round, worker

LEASE_S = 60
VALUE = bytes(100)
CALL_TIMEOUT_S = 5.0
#: While a leader is being elected etcd loses what it was asked, and leaves its client to find that out.
FAILOVER_TIMEOUT_S = 0.2

messages, services = grpc.protos_and_services("benchmarks/etcd_rpc.proto")


def run(where: str, work: str, in_flight: int, seconds: float) -> dict[str, Any]:
    """Do one kind of work; returns the report. `where`: the address to talk to, or several to take turns."""
    document: dict[str, Any] = asyncio.run(_run(where, work, in_flight, seconds))
    return document


async def _run(where: str, work: str, in_flight: int, seconds: float) -> dict[str, Any]:
    options = [
        ("grpc.lb_policy_name", "round_robin" if "," in where else "pick_first"),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 200),
    ]
    async with grpc.aio.insecure_channel(f"ipv4:{where}", options=options) as channel:
        store, leases = services.KVStub(channel), services.LeaseStub(channel)
        session = await leases.LeaseGrant(messages.LeaseGrantRequest(TTL=LEASE_S))
        rounds = [await _round(store, leases, session.ID, work, f"{work} {n}".encode()) for n in range(in_flight)]
        report = Report(seconds)
        print("ready", flush=True)
        await asyncio.gather(*(worker(do, report, asyncio.sleep) for do in rounds))
        return report.document()


async def _round(store: Any, leases: Any, session: int, work: str, key: bytes) -> Round:
    if work == "lock":
        create = _write(key, session)
        create.compare.add(target=messages.Compare.CREATE, key=key, create_revision=0)

        async def lock() -> None:
            answer = await store.Txn(create, timeout=CALL_TIMEOUT_S)
            assert answer.succeeded
            await store.DeleteRange(messages.DeleteRangeRequest(key=key), timeout=CALL_TIMEOUT_S)

        return lock
    if work == "renew":
        lease = await leases.LeaseGrant(messages.LeaseGrantRequest(TTL=LEASE_S))
        stream = leases.LeaseKeepAlive()

        async def renew() -> None:
            await stream.write(messages.LeaseKeepAliveRequest(ID=lease.ID))
            answer = await stream.read()
            assert answer.TTL > 0

        return renew
    timeout = FAILOVER_TIMEOUT_S if work == "failover" else CALL_TIMEOUT_S
    first = await store.Txn(_write(key, 0), timeout=CALL_TIMEOUT_S)
    revision = first.header.revision

    async def cas() -> None:
        nonlocal revision
        request = _write(key, 0)
        request.compare.add(target=messages.Compare.MOD, key=key, mod_revision=revision)
        try:
            answer = await store.Txn(request, timeout=timeout)
            assert answer.succeeded
            revision = answer.header.revision
        except Exception:
            again = await store.Txn(_write(key, 0), timeout=timeout)
            revision = again.header.revision
            raise

    return cas


def _write(key: bytes, lease: int) -> Any:
    request = messages.TxnRequest()
    put = request.success.add().request_put
    put.key, put.value, put.lease = key, VALUE, lease
    return request
