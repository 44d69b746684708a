"""A topic in memory: the real producer, queues and consumers, without disks, sockets, certificates and waiting.

For the tests of applications (docs/api.md, "Testing handlers"). What is missing is consensus: every enqueue is chosen
at once. What is real is everything an application sees: routes, batches, order per uin, attempts, delays, dead letters.
"""
