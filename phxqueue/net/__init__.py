"""The wire: TLS, framing, calls, access control, and the client that finds a master.

Knows nothing of queues: methods and messages come from `phxqueue.proto`. What may be imported from
where: `status`, `address`, `identity`, `settings`, `framing`, `envelope`, `liveness` are pure;
`rpc` is one connection, `endpoints` opens them, `pool` shares them, `routing` picks the right one.

Promises to the layers above:
  * every call ends: with a response, or an `RpcError` whose status says whether it may have been
    carried out (`maybe_executed`) and whether a retry makes sense (`status.retry`);
  * every buffer, queue and wait has a bound, named in `settings.RpcSettings`;
  * a peer that misbehaves costs only itself: it is told why, logged in one line, and closed.
"""
