"""The same for an alias that is moved between versions, forwards and backwards."""

import random
import time

from tests.support.promotions import Clients, Meaning, predictions, train
from tests.support.server import Server
from tests.support.soak import rounds

NAME = "moved"
REF = f"{NAME}@champion"
VERSIONS = 4


def promote(server: Server, version: int) -> None:
    server.ok("PUT", f"/v1/models/{NAME}/aliases/champion", json={"version": version})


def test_an_alias_that_moves_and_versions_that_are_trained_meanwhile(server: Server) -> None:
    answers = rounds(240, 10_000)
    versions = [train(server, NAME, seed=number) for number in range(VERSIONS)]
    expected = {version: predictions(server, NAME, version) for version in versions}
    promote(server, versions[0])
    champion, newest = Meaning(versions[0]), Meaning(versions[-1])
    clients = Clients(server, {REF: champion, NAME: newest})
    busy = server.start_long_job(register_as="other")
    dice, moves = random.Random(0), 0
    with clients.asking(answers):
        while not clients.over.is_set():
            version = dice.choice([known for known in expected if known != champion.last])
            with champion.changing(version):
                promote(server, version)
            moves += 1
            if moves % 20 == 0:
                version = newest.last + 1
                with newest.changing(version):
                    assert train(server, NAME, seed=version) == version
                expected[version] = predictions(server, NAME, version)
            time.sleep(0.01)
    server.ok("POST", f"/v1/jobs/{busy}/cancel")
    clients.check(answers, expected)
    assert len(clients.versions) > 1
    told = sum(clients.versions.values())
    print(f"\n{told} answers of {len(clients.versions)} versions; the alias moved {moves} times")
