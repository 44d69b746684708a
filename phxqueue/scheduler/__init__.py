"""The scheduler: who of a topic's consumers lives, and how much of the work each of them should get.

Consumers report to the master of the schedulers again and again: that they live, and their load. It answers with one
weight for each of them. From the weights every consumer computes by itself which queues are its own
(`phxqueue.consumer.assignment`), so the scheduler knows no queues, keeps nothing on disk, and is not asked when
an item is to be handled: while no scheduler answers, consumers go on with the weights they have.

It also shares out the speed limits: consumers say what they could use of each, and are told what they may.

Pure, time passed in: `load` (what reports say, smoothed), `balance` (weights from loads), `roll` (who lives; ties the
others together), `shares` (of one speed limit). `service` answers reports, and `share_desk` who asks for shares;
`mastership` makes one of several processes the master, through Lock.
"""
