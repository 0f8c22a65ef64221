"""Versions and references of models, on either database."""

from tests.support.server import LINE_JOB, Server, problem


def test_versions_and_references(server: Server) -> None:
    name = "versioned"
    for _ in range(3):
        server.train(**{**LINE_JOB, "register_as": name})
    newest = server.ok("GET", f"/v1/models/{name}")
    assert newest["version"] == 3
    assert newest["features"] == [{"name": "x", "type": "number"}]
    assert newest["target"] == "y"
    assert newest["parameters"] == 2
    assert newest["aliases"] == []
    assert server.ok("GET", f"/v1/models/{name}@1")["version"] == 1
    assert server.ok("GET", f"/v1/models/{newest['id']}") == newest
    problem(server.client.get(f"/v1/models/{name}@4"), 404, "not_found")
    problem(server.client.get("/v1/models/nobody/versions"), 404, "not_found")
    versions = server.ok("GET", f"/v1/models/{name}/versions", params={"limit": "2"})
    assert [item["version"] for item in versions["data"]] == [3, 2]
    assert versions["has_more"] is True
    listed = server.ok("GET", "/v1/models", params={"limit": "100"})["data"]
    assert [item["version"] for item in listed if item["name"] == name] == [3]


def test_a_deleted_version_is_gone_and_its_number_not_used_again(server: Server) -> None:
    job = {**LINE_JOB, "register_as": "given-up", "epochs": 3}
    made = [server.train(**job)["model"]["ref"] for _ in range(3)]
    folder = server.data_dir / "models"
    ids = [server.ok("GET", f"/v1/models/{ref}")["id"] for ref in made]
    body = {"rows": [{"x": 0.5}]}
    assert server.client.post("/v1/models/given-up/predict", json=body).json()["version"] == 3
    assert server.client.delete("/v1/models/given-up@3").status_code == 204
    assert not (folder / ids[2]).exists()
    assert server.client.post("/v1/models/given-up/predict", json=body).json()["version"] == 2
    problem(server.client.get("/v1/models/given-up@3"), 404, "not_found")
    problem(server.client.delete("/v1/models/given-up@3"), 404, "not_found")
    assert server.train(**job)["model"]["ref"] == "given-up@4"
    assert server.client.delete(f"/v1/models/{ids[0]}").status_code == 204
    assert server.client.delete("/v1/models/given-up").status_code == 204
    for method in ("GET", "DELETE"):
        problem(server.client.request(method, "/v1/models/given-up"), 404, "not_found")
    assert not any((folder / model_id).exists() for model_id in ids)
    assert server.train(**job)["model"]["ref"] == "given-up@5"
