"""From requests to operations on the table: what each asks for, or why it is refused. Pure.

Everything that can be wrong with a request is found here, before anything is stored, and the refusal names the field,
what was found and the limit, which is one of the configuration's.
"""

from __future__ import annotations

from phxqueue.config.settings import LockLimits
from phxqueue.net.status import RpcError, Status
from phxqueue.proto.lock_pb2 import (
    AcquireLockRequest,
    DeleteStringRequest,
    LockOperation,
    ReleaseLockRequest,
    RenewLockRequest,
    SetStringRequest,
)

#: Keys that begin so are kept for the service itself, as in the original.
RESERVED = ("__ignore__", "__lock__")


def invalid(message: str) -> RpcError:
    """A request that is wrong in itself."""
    return RpcError(Status.INVALID_ARGUMENT, message)


def check_key(field: str, key: str, limits: LockLimits) -> None:
    """Refuse a key that no lock or string may have."""
    if not key:
        raise invalid(f"{field}: it is empty")
    size = len(key.encode())
    if size > limits.key_bytes:
        raise invalid(f"{field}: {size} bytes, more than limits.key_bytes {limits.key_bytes}")
    for prefix in RESERVED:
        if key.startswith(prefix):
            raise invalid(f"{field}: names that begin with {prefix} are reserved")


def _check_client(client_id: str, limits: LockLimits) -> None:
    if not client_id:
        raise invalid("client_id: it is empty; give every acquisition a name of its own")
    size = len(client_id.encode())
    if size > limits.client_id_bytes:
        raise invalid(f"client_id: {size} bytes, more than limits.client_id_bytes {limits.client_id_bytes}")


def _checked_lease(lease_ms: int, limits: LockLimits) -> int:
    if not limits.lease_min_ms <= lease_ms <= limits.lease_max_ms:
        raise invalid(
            f"lease_time_ms: {lease_ms}, not between limits.lease_min_ms {limits.lease_min_ms} and "
            f"limits.lease_max_ms {limits.lease_max_ms}"
        )
    return lease_ms


def _lock_lease(request: AcquireLockRequest | RenewLockRequest, limits: LockLimits) -> int:
    """The lease of a lock, 0 for one without an end: which has to be asked for in so many words."""
    if not request.infinite:
        return _checked_lease(request.lease_time_ms, limits)
    if request.lease_time_ms:
        raise invalid(f"lease_time_ms: {request.lease_time_ms}, and infinite: give one of them")
    return 0


def acquire_operation(request: AcquireLockRequest, limits: LockLimits) -> LockOperation:
    """What AcquireLock asks for. Raises RpcError."""
    check_key("lock_key", request.lock_key, limits)
    _check_client(request.client_id, limits)
    operation = LockOperation(
        kind=LockOperation.ACQUIRE,
        key=request.lock_key,
        client_id=request.client_id,
        lease_ms=_lock_lease(request, limits),
        force=request.force,
    )
    if request.HasField("expected_version"):
        if request.wait_ms:
            raise invalid(f"wait_ms: {request.wait_ms}, and expected_version: who waits takes what version there is")
        operation.expected_version = request.expected_version
    return operation


def grant_operation(key: str, client_id: str, lease_ms: int) -> LockOperation:
    """Give a lock to the next one who waits for it."""
    return LockOperation(kind=LockOperation.ACQUIRE, key=key, client_id=client_id, lease_ms=lease_ms)


def renew_operation(request: RenewLockRequest, limits: LockLimits) -> LockOperation:
    """What RenewLock asks for. Raises RpcError."""
    check_key("lock_key", request.lock_key, limits)
    _check_client(request.client_id, limits)
    return LockOperation(
        kind=LockOperation.RENEW,
        key=request.lock_key,
        client_id=request.client_id,
        lease_ms=_lock_lease(request, limits),
        expected_version=request.version,
    )


def release_operation(request: ReleaseLockRequest, limits: LockLimits) -> LockOperation:
    """What ReleaseLock asks for. Raises RpcError."""
    check_key("lock_key", request.lock_key, limits)
    if not request.force:
        _check_client(request.client_id, limits)
    return release_of(request.lock_key, request.client_id, request.version, force=request.force)


def release_of(key: str, client_id: str, version: int, *, force: bool = False) -> LockOperation:
    """Give a lock back."""
    return LockOperation(
        kind=LockOperation.RELEASE, key=key, client_id=client_id, expected_version=version, force=force
    )


def expire_operation(is_lock: bool, key: str, stamp: int) -> LockOperation:
    """Remove what has outlived its lease, if neither it nor its lease is another one."""
    kind = LockOperation.EXPIRE_LOCK if is_lock else LockOperation.EXPIRE_STRING
    return LockOperation(kind=kind, key=key, expected_version=stamp)


def silent_operation(name: str, stamp: int, passed_ms: int) -> LockOperation:
    """Note that so much of a lock's lease has passed without a renewal, if it is still that lease."""
    return LockOperation(kind=LockOperation.SILENT, key=name, expected_version=stamp, passed_ms=passed_ms)


def set_operation(request: SetStringRequest, limits: LockLimits) -> LockOperation:
    """What SetString asks for. Raises RpcError."""
    check_key("key", request.key, limits)
    if len(request.value) > limits.value_bytes:
        raise invalid(f"value: {len(request.value)} bytes, more than limits.value_bytes {limits.value_bytes}")
    operation = LockOperation(
        kind=LockOperation.SET,
        key=request.key,
        value=request.value,
        lease_ms=_checked_lease(request.lease_time_ms, limits) if request.lease_time_ms else 0,
        request_id=request.request_id,
    )
    if request.HasField("expected_version"):
        operation.expected_version = request.expected_version
    return operation


def delete_operation(request: DeleteStringRequest, limits: LockLimits) -> LockOperation:
    """What DeleteString asks for. Raises RpcError."""
    check_key("key", request.key, limits)
    operation = LockOperation(kind=LockOperation.DELETE, key=request.key)
    if request.HasField("expected_version"):
        operation.expected_version = request.expected_version
    return operation
