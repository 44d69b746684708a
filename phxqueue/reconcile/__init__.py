"""Reconciliation: the books of what producers were confirmed, what is stored, and what became of it. Pure.

Every Paxos group of a store keeps a ledger as part of its replicated state: sums by minute, pub and consumer group,
where the minute is that of the entry an item was stored in, whenever it is confirmed, delivered, acknowledged or
reported. A batch counts, whole, for every group of its mask, on all sides alike.

The arithmetic. For each row, in items; nothing is netted away, every term is a column of its own:

1. ``produced + unreported + unconfirmed + unnumbered + added - unstored = stored``, added up over all kinds of items
   (new, retried, dead, expired, requeued). `produced` is what producers report that stores confirmed to them; the books
   are kept per producer, minute, pub, mask and kind, counts and digest sums, until both sides are equal. What is stored
   and not reported (yet, or because the producer died) is `unreported`: no loss; what came from clients that do not
   number their batches is `unnumbered`; what is stored for a group that was created at run time is `added`, for no
   producer names that group. What was confirmed and is not stored is `unstored`: a loss. What is stored although its
   producer vouches that it was not confirmed is `unconfirmed`: a confirmation that got lost, or a second copy.
2. ``stored + retried + requeued + replayed = delayed + cancelled + acknowledged + skipped + outstanding``: what came
   into queues (or was moved back to) is to come later, or will not come, or is done with, or was passed over, or is
   not done with yet.
3. ``acknowledged = finished + passed on + dropped``: an acknowledged item was handled for good, or went on (as a later
   attempt or a dead letter, which is `retried`, `dead` or `expired` in the row of the minute it was stored again in),
   or had expired and its pub drops those.
4. ``prepared = committed + rolled back + timed out + undecided``: half messages, in the minute in which they were
   prepared. `undecided` is what the store's table has, not what is left of the others. Committed ones are stored then,
   in the minute of the commit, as `unnumbered`.
5. What an acknowledgement claims (count and digest sum) is compared with what is stored in its range. What disagrees
   is `lost`, `invented` or `altered`, with queue and cursors.

``difference = unstored + unconfirmed + lost + invented + altered``, and by how much 4. fails. It is zero exactly when
all counts and digest sums agree.

What is derived from applied entries alone: everything but `produced`, `duplicates`, `passed on`, `dropped` (told by
producers and consumers, taken in once each) and `delivered` (known to the master, not replicated). Rows of the last
`ledger_retention_h` hours are kept apart; older ones are added up in the row of minute 0, so sums stay what they are.

- :mod:`~phxqueue.reconcile.kinds`: what an item is in the books.
- :mod:`~phxqueue.reconcile.columns`: the columns of a row.
- :mod:`~phxqueue.reconcile.runs`: which minute, pub and groups the items between two cursors belong to.
- :mod:`~phxqueue.reconcile.accounts`: what each producer has still to report.
- :mod:`~phxqueue.reconcile.given_up`: what cannot be judged, because there were too many accounts.
- :mod:`~phxqueue.reconcile.places`: where in the queues the items of an account lie.
- :mod:`~phxqueue.reconcile.disputes`: acknowledgements that what is stored contradicts.
- :mod:`~phxqueue.reconcile.tally`: what an entry has stored, as it is counted.
- :mod:`~phxqueue.reconcile.ledger`: the replicated books.
- :mod:`~phxqueue.reconcile.rows`: rows as they are shown, added up over groups and stores.

Imports nothing of ours but `proto` and `config`; stores, producers and the command line use it.
"""
