"""Round trips of the RPC layer: two processes on loopback, small calls, plain and TLS.

    python benchmarks/rpc_pingpong.py [--seconds 3] [--in-flight 1 64] [--bytes 100] [--deferred] [--profile]

Prints calls per second, latency percentiles and processor time per call (of client and of server: what it
costs when the machine is busy) of each combination. The server answers at once;
`--deferred` has it answer by a Deferred in the same turn, as a store does. `--profile` prints where
the client's time goes (cProfile).
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, ensureDeferred, succeed

from phxqueue.net.address import Address
from phxqueue.net.certs import create_authority, issue
from phxqueue.net.clock import use_monotonic_time
from phxqueue.net.endpoints import connect, listen
from phxqueue.net.identity import Identity, Role
from phxqueue.net.rpc import RpcConnection
from phxqueue.net.service import CallContext, RpcService
from phxqueue.net.tls import TlsPaths, client_tls, server_tls
from phxqueue.proto.methods import ADD
from phxqueue.proto.store_pb2 import AddRequest, AddResponse

reactor: Any = _reactor


def paths(directory: Path, stem: str) -> TlsPaths:
    return TlsPaths(directory / "ca.pem", directory / f"{stem}.pem", directory / f"{stem}.key")


async def serve(directory: Path, use_tls: bool, deferred: bool) -> None:
    answer = AddResponse()
    answer.results.add(first_cursor=12345, count=1)

    def add(request: AddRequest, context: CallContext) -> Any:
        return succeed(answer) if deferred else answer

    service = RpcService("benchmark server")
    service.register(ADD, add)
    tls = server_tls(paths(directory, "server")) if use_tls else None
    listener = await listen(reactor, Address("127.0.0.1", 0), service, tls)
    print(listener.address, flush=True)


class Client:
    """Keeps `in_flight` calls going for a while and notes how long each took."""

    def __init__(self, connection: RpcConnection, size: int, in_flight: int, seconds: float) -> None:
        self.latencies: list[float] = []
        self.done: Deferred[None] = Deferred()
        self._connection = connection
        self._request = AddRequest(topic_id=1, store_id=1)
        batch = self._request.batches.add(items=b"x" * size)
        batch.header.queue_id = 1
        self._running = in_flight
        self._end = time.perf_counter() + seconds
        for _ in range(in_flight):
            self._call()

    def _call(self) -> None:
        started = time.perf_counter()
        self._connection.call(ADD, self._request, 10.0).addCallbacks(self._answered, self.done.errback, (started,))

    def _answered(self, response: AddResponse, started: float) -> None:
        now = time.perf_counter()
        self.latencies.append(now - started)
        if now < self._end:
            self._call()
            return
        self._running -= 1
        if not self._running:
            self.done.callback(None)


def start_server(directory: Path, use_tls: bool, deferred: bool) -> subprocess.Popen[str]:
    flags = [name for name, wanted in (("--tls", use_tls), ("--deferred", deferred)) if wanted]
    return subprocess.Popen(
        [sys.executable, __file__, "--serve", str(directory), *flags], stdout=subprocess.PIPE, text=True
    )


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(directory: Path, use_tls: bool, options: argparse.Namespace) -> None:
    with start_server(directory, use_tls, options.deferred) as server:
        assert server.stdout is not None
        address = Address.parse(server.stdout.readline())
        tls = client_tls(paths(directory, "client-bench")) if use_tls else None
        connection = await connect(reactor, address, tls)
        for in_flight in options.in_flight:
            profile = cProfile.Profile() if options.profile else None
            started = time.perf_counter()
            cpu = [cpu_seconds(pid) for pid in (os.getpid(), server.pid)]
            if profile:
                profile.enable()
            client = Client(connection, options.bytes, in_flight, options.seconds)
            await client.done
            if profile:
                profile.disable()
            elapsed = time.perf_counter() - started
            times = sorted(client.latencies)
            p50, p99 = times[len(times) // 2] * 1e6, times[len(times) * 99 // 100] * 1e6
            ours, theirs = (
                (cpu_seconds(pid) - before) / len(times) * 1e6
                for pid, before in zip((os.getpid(), server.pid), cpu, strict=True)
            )
            transport = "TLS" if use_tls else "plain"
            print(
                f"{transport:6} {in_flight:4} in flight  {options.bytes:6} B  {len(times) / elapsed:8,.0f}/s"
                f"   p50 {p50:7,.0f} µs   p99 {p99:7,.0f} µs   CPU client {ours:5.1f} µs, server {theirs:5.1f} µs",
                flush=True,
            )
            if profile:
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        connection.close()
        server.terminate()


async def main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        create_authority(directory)
        issue(directory, Identity.store(1, 0), ["127.0.0.1"], file_stem="server")
        issue(directory, Identity(Role.CLIENT, "bench"))
        for use_tls in (False, True):
            await measure(directory, use_tls, options)
    reactor.stop()


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Round trips of the RPC layer on loopback.")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 64, 512])
    parser.add_argument("--bytes", type=int, default=100)
    parser.add_argument("--deferred", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tls", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def stop_on_failure(failure: Any) -> None:
    failure.printTraceback()
    reactor.stop()


if __name__ == "__main__":
    use_monotonic_time(reactor)
    chosen = parse(sys.argv[1:])
    work = serve(chosen.serve, chosen.tls, chosen.deferred) if chosen.serve else main(chosen)
    reactor.callWhenRunning(lambda: ensureDeferred(work).addErrback(stop_on_failure))
    reactor.run()
