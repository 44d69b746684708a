"""The command line: everything a person does to a cluster, and the demo that shows one.

Allowed to import any other package except ``testing``; imported by none. :mod:`phxqueue.admin.main` is the console
script ``phxqueue``; each command lives in a module of its own, imported when it is used, so that ``phxqueue --help``
answers at once. Commands are thin: they parse, ask, print. What they compute (a histogram, a table, a split into
lines) is in pure modules beside them.

:mod:`phxqueue.admin.edge` is the one place where a command meets the reactor: it runs a coroutine, turns Ctrl-C into
its cancellation, and every failure into one sentence and exit status 1.
"""
