"""Daemons of this machine, seen from outside: start them, hear that they are ready, see them end.

Nothing here polls or sleeps. A daemon tells its state by sd_notify(3) datagrams (:mod:`.notify`), and its end is an
event of its pidfd or of its parent (:mod:`.watch`, :mod:`.child`). Used by the demo, the benchmarks and the tests with
real processes.
"""
