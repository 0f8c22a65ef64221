"""The background worker: claim, execute, record, finish.

``slots`` takes jobs from the queue, ``job_run`` follows one of them while its process trains,
``recorder`` writes what that says, and each policy stands in a file of its own: ``stop`` (cancel,
pause, shutdown), ``overtime`` (``max_seconds``) and ``pace`` (how long an epoch takes).
"""
