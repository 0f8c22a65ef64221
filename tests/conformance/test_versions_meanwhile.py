"""Predictions go on while new versions are trained: each answer is of one version that was live."""

from tests.support.promotions import Clients, Meaning, predictions, train
from tests.support.server import Server
from tests.support.soak import rounds

NAME = "busy"


def test_versions_that_are_trained_meanwhile(server: Server) -> None:
    answers = rounds(240, 10_000)
    busy = server.start_long_job(register_as="other")
    meaning = Meaning(train(server, NAME, seed=0))
    expected = {meaning.last: predictions(server, NAME, meaning.last)}
    clients = Clients(server, {NAME: meaning})
    with clients.asking(answers):
        while not clients.over.is_set():
            version = meaning.last + 1
            with meaning.changing(version):
                assert train(server, NAME, seed=version) == version
            expected[version] = predictions(server, NAME, version)
    clients.check(answers, expected)
    assert server.ok("GET", f"/v1/jobs/{busy}")["status"] == "running"
    server.ok("POST", f"/v1/jobs/{busy}/cancel")
    told = sum(clients.versions.values())
    print(f"\n{told} answers of {len(clients.versions)} versions; {len(expected)} were trained")
    assert len(clients.versions) > 1
