"""Health and counts, on either database."""

import re

from tests.support.server import LINE_JOB, Server


def test_health(server: Server) -> None:
    assert server.client.get("/livez").text == "ok"
    ready = server.ok("GET", "/readyz")
    assert ready["status"] == "ready"
    assert set(ready["checks"].values()) == {"ok"}


def test_metrics_count_requests_and_jobs(server: Server) -> None:
    server.train(**LINE_JOB)
    text = server.client.get("/metrics").text
    found = re.search(r'fitserve_jobs\{status="succeeded"\} (\S+)', text)
    assert found
    assert float(found[1]) >= 1
    for path in ("/nothing", "/v1/nothing"):
        server.client.get(path)
    requests = 'fitserve_http_requests_total{method="POST",route="/v1/jobs",status="201"}'
    text = server.client.get("/metrics").text
    assert requests in text
    assert "/nothing" not in text, "an unknown path must not make a series of its own"
