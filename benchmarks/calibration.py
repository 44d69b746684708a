"""What this machine does at this moment: the disk, the interpreter, TLS over loopback."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from phxqueue.admin.certificates import make_missing
from phxqueue.config import Leaf, TlsPaths, certificate_paths

DISK_RECORD_BYTES = 4096
DISK_SECONDS = 1.0
LOOP_SECONDS = 0.5
TLS_SECONDS = 1.0
TLS_MESSAGE_BYTES = 100
_SERVER = Leaf("store", "1/0", ("127.0.0.1",))
_CLIENT = Leaf("client", "default", ())


@dataclass(frozen=True, slots=True)
class Calibration:
    """Attributes:
    fdatasync_us, fdatasync_p99_us: an append of 4 KiB made durable; median and 99th percentile.
    loops_per_s: rounds of a plain Python loop with a call, a dictionary and an addition, one thread.
    tls_round_trips_per_s: ping-pongs of 100 bytes over one TLS 1.3 connection on loopback, two threads.
    load: the machine's load average of the last minute.
    """

    fdatasync_us: float
    fdatasync_p99_us: float
    loops_per_s: float
    tls_round_trips_per_s: float
    load: float

    def lines(self, when: str) -> list[str]:
        """Rows of a Markdown table."""
        disk = f"{self.fdatasync_us:.0f} µs / {self.fdatasync_p99_us:.0f} µs"
        loops, tls = f"{self.loops_per_s / 1e6:.2f} M/s", f"{self.tls_round_trips_per_s:,.0f}/s"
        return [f"| {when} | {disk} | {loops} | {tls} | {self.load:.2f} |"]


HEADER = [
    "| calibration | fdatasync p50 / p99 | Python loop | TLS ping-pong | load |",
    "|---|---|---|---|---|",
]


def calibrate(directory: Path) -> Calibration:
    """Measure; takes about three seconds. `directory` is on the disk that matters."""
    delays = sorted(_sync_delays(directory))
    return Calibration(
        delays[len(delays) // 2] * 1e6,
        delays[int(len(delays) * 0.99)] * 1e6,
        _loops_per_second(),
        _tls_round_trips(directory),
        os.getloadavg()[0],
    )


def _sync_delays(directory: Path) -> list[float]:
    record = os.urandom(DISK_RECORD_BYTES)
    delays = []
    path = directory / "calibration"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        end = time.perf_counter() + DISK_SECONDS
        while (began := time.perf_counter()) < end:
            os.write(descriptor, record)
            os.fdatasync(descriptor)
            delays.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return delays


def _loops_per_second() -> float:
    table: dict[int, int] = {}

    def step(number: int) -> int:
        table[number & 1023] = number
        return number + 1

    rounds = 0
    began = time.perf_counter()
    while time.perf_counter() - began < LOOP_SECONDS:
        number = 0
        for _ in range(10_000):
            number = step(number)
        rounds += number
    return rounds / (time.perf_counter() - began)


def _context(paths: TlsPaths, purpose: int) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(paths.certificate, paths.key)
    context.load_verify_locations(paths.ca)
    return context


def _tls_round_trips(directory: Path) -> float:
    home = directory / "calibration-certs"
    make_missing(home, [_SERVER, _CLIENT])
    server = _context(certificate_paths(home, _SERVER.role, _SERVER.name), ssl.PROTOCOL_TLS_SERVER)
    client = _context(certificate_paths(home, _CLIENT.role, _CLIENT.name), ssl.PROTOCOL_TLS_CLIENT)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        echo = threading.Thread(target=_echo, args=(listener, server))
        echo.start()
        try:
            with (
                socket.create_connection(listener.getsockname()) as plain,
                client.wrap_socket(plain) as connection,
            ):
                return _ping(connection)
        finally:
            echo.join()


def _echo(listener: socket.socket, context: ssl.SSLContext) -> None:
    plain, _ = listener.accept()
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(plain, server_side=True) as connection:
        while data := connection.recv(65536):
            connection.sendall(data)


def _ping(connection: ssl.SSLSocket) -> float:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    message = os.urandom(TLS_MESSAGE_BYTES)
    count = 0
    began = time.perf_counter()
    while time.perf_counter() - began < TLS_SECONDS:
        connection.sendall(message)
        connection.recv(65536)
        count += 1
    return count / (time.perf_counter() - began)
