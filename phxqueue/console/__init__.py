"""How a node is observed: metrics, health, recent events and alarms, on a port of its own.

Every role makes one :class:`~phxqueue.console.console.Console` and tells it what happens; the role itself knows
nothing of HTTP. Metrics are read from the role's state when somebody asks for them, so they cost nothing meanwhile.

The package knows configuration, network and messages, and none of the roles: what a role has to show arrives as values
(a ``NodeStatusResponse``, a mapping) and becomes metrics here. What decides is pure (events, alarms, the making of
metrics); HTTP and webhooks are the edges.
"""
