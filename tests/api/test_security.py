"""Who may talk to the server."""

import socket
from pathlib import Path

import pytest

from tests.support.server import Server, problem


def test_every_answer_has_its_headers(server: Server) -> None:
    for path in (
        "/livez",
        "/docs",
        "/nothing",
        "/v1/datasets",
        "/openapi.json",
        "/v2",
        "/invocations",
    ):
        for method in ("GET", "HEAD", "OPTIONS", "POST"):
            headers = server.client.request(method, path).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["referrer-policy"] == "no-referrer"
            policy = headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert ("default-src 'none'" in policy) == (path != "/docs")
    plot = server.client.get("/v1/datasets/line/plots/histogram.svg?x=x")
    assert "sandbox" in plot.headers["content-security-policy"]


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
PATHS = ["/livez", "/v1/datasets", "/docs", "/openapi.json", "/metrics", "/nothing"]


@pytest.mark.parametrize("method", METHODS)
def test_foreign_hosts_and_origins_are_refused_for_every_method(
    server: Server, method: str
) -> None:
    for path in PATHS:
        for host in ("evil.example", f"evil.example:{server.port}", "localhost.evil.example", ""):
            refused = server.client.request(method, path, headers={"Host": host})
            assert refused.status_code == 421, (path, host)
        for origin in ("http://evil.example", "null", "http://localhost:1", server.url + "0"):
            refused = server.client.request(method, path, headers={"Origin": origin})
            assert refused.status_code == 403, (path, origin)
        for site in ("cross-site", "same-site"):
            refused = server.client.request(method, path, headers={"Sec-Fetch-Site": site})
            assert refused.status_code == 403, (path, site)


def test_refusals_are_problems(server: Server) -> None:
    problem(server.client.get("/v1/jobs", headers={"Host": "evil.example"}), 421, "unknown_host")
    refused = server.client.get("/v1/jobs", headers={"Origin": "http://evil.example"})
    problem(refused, 403, "forbidden_origin")
    assert "access-control-allow-origin" not in refused.headers


def test_own_names_and_origin_are_served(server: Server) -> None:
    for host in (f"127.0.0.1:{server.port}", f"localhost:{server.port}", "localhost", "[::1]:9"):
        assert server.client.get("/livez", headers={"Host": host}).status_code == 200
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert server.client.get("/v1/jobs", headers=own).status_code == 200
    assert server.client.get("/docs", headers={"Sec-Fetch-Site": "none"}).status_code == 200


def test_two_host_headers_are_refused(server: Server) -> None:
    request = f"GET /livez HTTP/1.1\r\nHost: localhost:{server.port}\r\nHost: evil.example\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(request.encode())
        assert raw.recv(64).split()[1] in (b"400", b"421")


def test_with_a_key_everything_but_health_wants_it(data_dir: Path) -> None:
    key = "k-0123456789"
    with Server(data_dir, FITSERVE_API_KEY=key) as server:
        server.client.headers.pop("Authorization")
        for path in ("/livez", "/readyz"):
            assert server.client.get(path).status_code == 200
        for path in (*PATHS[1:], "/v1/models/x/predict"):
            for given in ({}, _bearer("wrong"), {"Authorization": key}):
                response = server.client.get(path, headers=given)
                problem(response, 401, "unauthorized")
                assert response.headers["www-authenticate"] == "Bearer"
        allowed = server.client.get("/v1/jobs", headers=_bearer(key))
        assert allowed.status_code == 200
        named = {**_bearer(key), "Host": "fitserve.example"}
        assert server.client.get("/v1/jobs", headers=named).status_code == 200
        assert key not in server.log.read_text()


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
