"""The same forward pass behind other servers, each as its documentation shows it.

Each is started as ``python -m benchmarks.serving_peers.NAME`` with ``SERVING_WEIGHTS`` and
``SERVING_PORT`` in its environment, and imports nothing of fitserve.
"""
