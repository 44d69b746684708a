from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phxqueue.net.framing import EmptyFrame, FrameDecoder, FrameError, FrameTooLarge, encode_frame, explain_garbage


def cut(data: bytes, points: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(point % (len(data) + 1) for point in points)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=20), st.lists(st.integers(0, 5000)))
def test_any_chunking_gives_the_same_frames(payloads: list[bytes], points: list[int]) -> None:
    decoder = FrameDecoder(200)
    received = [frame for chunk in cut(b"".join(map(encode_frame, payloads)), points) for frame in decoder.feed(chunk)]
    assert received == payloads
    assert all(type(frame) is bytes for frame in received)
    assert decoder.buffered == 0


@given(st.binary(max_size=600), st.lists(st.integers(0, 600)))
def test_garbage_gives_frames_or_a_frame_error_whatever_the_chunks(data: bytes, points: list[int]) -> None:
    def outcome(chunks: list[bytes]) -> tuple[list[bytes], str, bytes]:
        decoder = FrameDecoder(64)
        frames: list[bytes] = []
        for chunk in chunks:
            try:
                frames += decoder.feed(chunk)
            except FrameError as error:
                return frames + error.frames, str(error), error.head[:4]
            assert decoder.buffered <= 64 + 4
        return frames, "", b""

    assert outcome(cut(data, points)) == outcome([data])


@pytest.mark.parametrize("step", [1, 3, 100])
def test_a_frame_beyond_the_limit_is_refused_by_its_length_alone(step: int) -> None:
    decoder = FrameDecoder(10)
    data = encode_frame(b"good") + encode_frame(b"x" * 11)
    frames: list[bytes] = []

    def feed_all() -> None:
        for start in range(0, len(data), step):
            frames.extend(decoder.feed(data[start : start + step]))

    with pytest.raises(FrameTooLarge, match="11 bytes is larger than the limit of 10") as caught:
        feed_all()
    assert (caught.value.size, caught.value.limit) == (11, 10)
    assert frames + caught.value.frames == [b"good"]


def test_the_limit_itself_is_allowed() -> None:
    assert FrameDecoder(10).feed(encode_frame(b"x" * 10)) == [b"x" * 10]


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(EmptyFrame):
        FrameDecoder(10).feed(b"\0\0\0\0rest")
    with pytest.raises(ValueError, match="empty"):
        encode_frame(b"")
    with pytest.raises(ValueError, match="max_frame"):
        FrameDecoder(0)


def test_a_length_alone_reserves_no_memory() -> None:
    decoder = FrameDecoder(1 << 30)
    assert decoder.feed((1 << 30).to_bytes(4, "big") + b"x") == []
    assert decoder.buffered == 5


def best_time(size: int, chunk_size: int) -> float:
    data = encode_frame(bytes(size))
    chunks = [data[start : start + chunk_size] for start in range(0, len(data), chunk_size)]
    times = []
    for _ in range(3):
        decoder = FrameDecoder(size)
        started = time.thread_time()
        frames = [frame for chunk in chunks for frame in decoder.feed(chunk)]
        times.append(time.thread_time() - started)
        assert [len(frame) for frame in frames] == [size]
    return min(times)


def test_a_frame_of_64_mib_in_reads_of_64_kib_is_fast() -> None:
    """Twisted's Int32StringReceiver needs 15 seconds for it; this is linear: about 0.1 s."""
    assert best_time(64 << 20, 64 << 10) < 1.0


def test_time_grows_with_the_bytes_not_with_their_square() -> None:
    small, large = best_time(1 << 20, 1 << 10), best_time(8 << 20, 1 << 10)
    assert large < small * 8 * 4  # quadratic would be a factor of 64


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x16\x03\x01\x02\x00\x01", "TLS handshake.*plain TCP"),
        (b"\x15\x03\x03\x00\x02", "TLS alert.*tls is off on this side"),
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"SSH-2.0-OpenSSH", "SSH"),
        (b"hello there\r\n", "plain text: 'hello there"),
    ],
)
def test_garbage_is_recognized(head: bytes, words: str) -> None:
    assert re.search(words, explain_garbage(head))


def test_unknown_garbage_is_not_guessed_at() -> None:
    assert explain_garbage(b"\xff\xfe\x00\x01") == ""
    assert explain_garbage(b"") == ""
