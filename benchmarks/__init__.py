"""``make bench``: how fast a cluster of real processes is on this machine, mutual TLS on, fsync always.

``python -m benchmarks`` runs the rows of the speed table; ``python -m benchmarks failover`` kills masters;
``python -m benchmarks locks`` compares the lock service with etcd's. Every run measures the machine too
(:mod:`benchmarks.calibration`), before and after: numbers of two machines, or of a quiet and a busy one, can only be
compared as ratios to that.
"""
