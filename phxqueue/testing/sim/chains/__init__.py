"""Items on an attempt chain: handled, tried again, buried as dead letters, or dropped when their time has passed.

A pub of its own beside the one that the other clients use, with two consumer groups. What a handler makes of an item
stands in the item, so its end is known when it is enqueued. Handlers read, decide and acknowledge with the parts that
the consumer itself is made of (window, claims, attempt chain); only what is around them is simulated.
"""
