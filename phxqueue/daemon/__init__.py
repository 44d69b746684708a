"""What the process of every role does the same way: options, log, readiness, reload, and a loud end when it must fail.

The roles themselves (store, consumer, ...) know nothing of twistd; a plugin in ``twisted/plugins`` names the module
whose ``Options`` and ``makeService`` build one.
"""
