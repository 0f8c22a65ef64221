"""What the tests of promotions share: clients that predict while what a reference means changes."""

import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx

from tests.support.server import LINE_JOB, PATIENCE, Server

CLIENTS = 8
ROWS = {"rows": [{"x": x} for x in (0.5, -2.0, 7.25, 100.0)]}
"""Several, so that an answer of two versions would show."""
_NEVER = float("inf")


def train(server: Server, name: str, seed: int) -> int:
    """The next version of ``name``, with weights of its own; its number."""
    job = {**LINE_JOB, "register_as": name, "seed": seed, "epochs": 3}
    return int(server.train(**job)["model"]["version"])


class Meaning:
    """Which versions a reference may have meant at which time."""

    def __init__(self, version: int) -> None:
        self._changes = [(0.0, 0.0, version)]
        """When each was begun and done."""

    @property
    def last(self) -> int:
        return self._changes[-1][2]

    @contextmanager
    def changing(self, version: int) -> Iterator[None]:
        """While inside, it may mean ``version`` already or the one before still."""
        begun = time.monotonic()
        self._changes = [*self._changes, (begun, _NEVER, version)]
        yield
        self._changes = [*self._changes[:-1], (begun, time.monotonic(), version)]

    def between(self, sent: float, received: float) -> set[int]:
        """The versions that were meant at some time in it."""
        changes = self._changes
        ends = [done for _, done, _ in changes[1:]] + [_NEVER]
        return {
            version
            for (begun, _, version), end in zip(changes, ends, strict=True)
            if begun <= received and sent <= end
        }


class Clients:
    """Ask for references in turn, and keep what is wrong."""

    def __init__(self, server: Server, meanings: dict[str, Meaning]) -> None:
        self._server, self._meanings = server, meanings
        self._lock = threading.Lock()
        self.wrong: list[str] = []
        self.versions: Counter[int] = Counter()
        self.predictions: defaultdict[int, set[tuple[float, ...]]] = defaultdict(set)
        self.over = threading.Event()
        """Set when all have had their answers."""

    @contextmanager
    def asking(self, answers: int) -> Iterator[None]:
        """So many answers in all, and until there were two versions; waits for them."""
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            asking = [pool.submit(self._ask, answers // CLIENTS) for _ in range(CLIENTS)]

            def tell() -> None:
                for one in asking:
                    one.exception()
                self.over.set()

            telling = pool.submit(tell)
            yield
        for one in (*asking, telling):
            one.result()

    def _ask(self, answers: int) -> None:
        refs = list(self._meanings)
        with httpx.Client(
            base_url=self._server.url, timeout=90, trust_env=False, verify=False
        ) as client:
            deadline = time.monotonic() + PATIENCE
            for number in itertools.count():
                enough = number >= answers and len(self.versions) > 1
                if enough or time.monotonic() > deadline:
                    break
                ref = refs[number % len(refs)]
                sent = time.monotonic()
                response = client.post(f"/v1/models/{ref}/predict", json=ROWS)
                received = time.monotonic()
                self._note(ref, response, sent, received)

    def _note(self, ref: str, response: httpx.Response, sent: float, received: float) -> None:
        with self._lock:
            if response.status_code != 200:
                self.wrong.append(f"{ref}: {response.status_code} {response.text}")
                return
            body = response.json()
            self.versions[body["version"]] += 1
            self.predictions[body["version"]].add(tuple(body["predictions"]))
            meant = self._meanings[ref].between(sent, received)
            if body["version"] not in meant:
                self.wrong.append(f"{ref}: version {body['version']}, live were {sorted(meant)}")

    def check(self, answers: int, expected: dict[int, list[float]]) -> None:
        """Every answer was right, and of one version alone: ``expected`` is what each predicts."""
        assert self.wrong == []
        assert sum(self.versions.values()) >= answers // CLIENTS * CLIENTS
        for version, seen in self.predictions.items():
            assert seen == {tuple(expected[version])}, version
        assert len({tuple(values) for values in expected.values()}) == len(expected)


def predictions(server: Server, name: str, version: int) -> list[float]:
    """What a version predicts, asked for by its number."""
    path = f"/v1/models/{name}@{version}/predict"
    found: list[float] = server.ok("POST", path, json=ROWS)["predictions"]
    return found
