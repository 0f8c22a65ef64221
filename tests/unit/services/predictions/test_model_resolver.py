"""From a reference to a loaded model: what is remembered, for how long, and what it costs."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.db.models import Job
from app.db.session import Database
from app.errors import ArtifactCorrupt, NotFound, Unavailable
from app.executors.parsers import Parsers
from app.ids import new_id
from app.ml.inference.predictor import Predictor
from app.runtime.context import Context
from app.services.jobs import queue
from app.services.models import aliases, versions
from app.services.models.aliases import Condition
from app.services.models.versions import Origin, Result
from app.services.predictions.predictors import Predictors
from app.services.predictions.resolver import LoadedModel, ModelResolver
from app.settings import load_settings
from app.storage import Storage
from tests.support.postgres import Postgres
from tests.support.server import PATIENCE
from tests.support.statements import counted
from tests.support.workbench import LINE_REQUEST, Workbench, line_spec, table_of

ROOMY = 1 << 30
ALWAYS = Condition()


class House:
    """A context whose models are real ones."""

    def __init__(self, database: Database, folder: Path) -> None:
        settings, self.storage = load_settings(data_dir=folder), Storage(folder)
        self.workbench = Workbench(folder)
        parsers = Parsers(settings.parse_memory_bytes, settings.parse_seconds)
        self.context = Context(settings, self.storage, database, parsers)
        spec = line_spec()
        self._job = Job(id=new_id("job"), spec=spec, split={}, dataset_id="ds", dataset_sha256="0")
        self._job.warnings, self._job.metadata_ = [], {}
        with database.write() as session:
            queue.enqueue(session, self._job)
        self.table = table_of({"x": [i / 50 for i in range(50)], "y": [i / 50 for i in range(50)]})

    def publish(self) -> str:
        """A model on disk, without a row."""
        fields = {**LINE_REQUEST, "epochs": 1}
        return self.workbench.train(self.table, **fields).task.model_id

    def version(self, name: str = "m") -> str:
        """Another version, as somebody makes it of whom no signal comes."""
        model_id = self.publish()
        with self.context.database.write() as session:
            versions.register(session, Origin.of(self._job), name, Result(model_id, [], {}, 2, {}))
        return model_id

    def live(self, limit: int = ROOMY) -> ModelResolver:
        return ModelResolver(self.context, Predictors(self.storage, limit))


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    return House(database, tmp_path)


def asked(live: ModelResolver, ref: str) -> LoadedModel:
    """As a request does it."""
    return live.cached(ref) or live.get(ref)


# ---------------------------------------------------------------- what a reference means


def test_warm_answers_ask_the_database_nothing(house: House) -> None:
    model_id = house.version()
    live = house.live()
    refs = ("m", "m@1", model_id)
    assert [live.cached(ref) for ref in refs] == [None] * 3
    with counted(house.context.database) as statements:
        first = [live.get(ref) for ref in refs]
        cold = len(statements)
        assert cold >= 3
        for _ in range(100):
            assert [live.cached(ref) for ref in refs] == first
        assert len(statements) == cold
    assert {(found.id, found.ref) for found in first} == {(model_id, "m@1")}
    assert len({id(found.predictor) for found in first}) == 1
    print(f"\n{cold} statements for 3 references, none for 300 answers")


def test_a_change_that_was_told_is_seen_at_once(house: House) -> None:
    house.version()
    live = house.live()
    aliases.put(house.context, "m", "champion", 1, ALWAYS)
    for version in range(2, 12):
        assert {asked(live, ref).version for ref in ("m", "m@champion")} == {version - 1}
        house.version()
        house.context.signals.models_changed()
        assert asked(live, "m").version == version
        assert asked(live, "m@champion").version == version - 1
        aliases.put(house.context, "m", "champion", version, ALWAYS)
        assert asked(live, "m@champion").version == version
    versions.delete(house.context, "m@11")
    assert asked(live, "m").version == 10
    for gone in ("m@11", "m@champion"):
        assert live.cached(gone) is None
        with pytest.raises(NotFound):
            live.get(gone)


def test_nobody_is_told_what_is_older_than_a_commit_that_was_seen(house: House) -> None:
    """Versions are made by one thread and asked for by four, each after having looked itself."""
    house.version()
    live, over = house.live(), threading.Event()
    made = [house.publish() for _ in range(12)]
    older: list[tuple[int, int]] = []
    looks = [0] * 4

    def ask(number: int) -> None:
        while not over.is_set():
            with house.context.database.read() as session:
                seen = versions.find(session, "m").version
            found = asked(live, "m").version
            looks[number] += 1
            if found < seen:
                older.append((found, seen))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in range(4)]
        try:
            for model_id in made:
                signals, database = house.context.signals, house.context.database
                with signals.models_changing(), database.write() as session:
                    versions.register(
                        session, Origin.of(house._job), "m", Result(model_id, [], {}, 2, {})
                    )
                time.sleep(0.01)
        finally:
            over.set()
        for one in asking:
            one.result()
    assert older == []
    assert min(looks) > 0
    assert asked(live, "m").version == 13
    print(f"\n13 versions, {sum(looks)} answers, none older than what its client had seen")


def test_on_a_shared_database_a_reference_is_believed_for_a_moment(
    postgres_database: Database, tmp_path: Path
) -> None:
    """Another process promotes, and its signal is lost."""
    house = House(postgres_database, tmp_path)
    house.version()
    live = house.live()
    with counted(postgres_database) as look:
        asked(live, "m")
    house.version()
    started, answers = time.monotonic(), 0
    with counted(postgres_database) as statements:
        while (version := asked(live, "m").version) == 1 and time.monotonic() - started < 30:
            answers += 1
            time.sleep(0.001)
    assert version == 2
    assert len(statements) <= 2 * len(look)  # not a look for each answer
    print(f"\nseen after {answers} answers and {len(statements) / len(look):g} looks")


def test_a_database_of_its_own_owner_is_believed_for_ever(tmp_path: Path) -> None:
    from app.db import migrate

    database = Database(tmp_path / "fitserve.db")
    migrate.upgrade(database)
    house = House(database, tmp_path)
    house.version()
    live = house.live()
    asked(live, "m")
    with counted(database) as statements:
        time.sleep(1.2)
        assert live.cached("m") is not None
    assert statements == []
    database.close()


# ---------------------------------------------------------------- the database is away


@contextmanager
def away(database: Database, postgres: Postgres) -> Iterator[None]:
    if database.shared:
        with postgres.away():
            yield
        return
    database.close()  # connections that are open would read on
    assert database.path is not None
    hidden = database.path.rename(database.path.with_suffix(".hidden"))
    database.path.mkdir()
    try:
        yield
    finally:
        database.close()
        database.path.rmdir()
        hidden.rename(database.path)


def test_known_references_are_answered_while_the_database_is_away(
    house: House, postgres: Postgres
) -> None:
    house.version()
    house.version()
    live = house.live(limit=0)  # one model at a time: others are loaded again
    before = [asked(live, ref) for ref in ("m@1", "m")]
    with away(house.context.database, postgres):
        with pytest.raises(Unavailable):
            live.get("m@2")
        house.context.signals.models_changed()
        time.sleep(1)  # longer than a reference is believed
        for _ in range(3):
            found = [asked(live, ref) for ref in ("m@1", "m")]
            assert [(one.id, one.ref) for one in found] == [(one.id, one.ref) for one in before]
            with pytest.raises(Unavailable):
                live.get("nobody")
    model_id = house.version()
    house.context.signals.models_changed()
    assert asked(live, "m").id == model_id


def test_while_it_is_away_it_is_not_asked_for_each_answer(
    house: House, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.version()
    live = house.live()
    asked(live, "m")
    tries = 0
    read = house.context.database.read

    def counting() -> object:
        nonlocal tries
        tries += 1
        return read()

    monkeypatch.setattr(house.context.database, "read", counting)
    with away(house.context.database, postgres):
        house.context.signals.models_changed()
        for _ in range(50):
            assert asked(live, "m").version == 1
        assert tries <= 5
        print(f"\n50 answers, {tries} tries to reach the database")
    house.version()
    deadline = time.monotonic() + PATIENCE
    while asked(live, "m").version == 1:  # found again without a signal
        assert time.monotonic() < deadline
        time.sleep(0.02)


# ---------------------------------------------------------------- loaded models


@pytest.fixture
def published(tmp_path: Path) -> tuple[Workbench, list[str]]:
    """Four models of the same size on disk."""
    workbench = Workbench(tmp_path)
    table = table_of({"x": [i / 50 for i in range(50)], "y": [i / 50 for i in range(50)]})
    fields = {**LINE_REQUEST, "epochs": 1, "model": {"kind": "mlp", "hidden": [64]}}
    return workbench, [workbench.train(table, **fields).task.model_id for _ in range(4)]


def test_the_least_recently_used_go_first(published: tuple[Workbench, list[str]]) -> None:
    workbench, (a, b, c, d) = published
    size = Predictors(workbench.storage, ROOMY).get(a).size_bytes
    cache = Predictors(workbench.storage, 3 * size)

    def loaded() -> set[str]:
        return set(cache._loaded)

    first = cache.get(a)
    for model_id in (b, c):
        cache.get(model_id)
    assert loaded() == {a, b, c}
    assert cache.get(a) is first  # used again: b is the oldest now
    cache.get(d)
    assert loaded() == {c, a, d}
    assert cache.cached(c) is not None  # a look counts
    cache.get(b)
    assert loaded() == {d, c, b}
    assert cache.cached(a) is None
    assert cache.get(a) is not first
    assert sum(model.size_bytes for model in cache._loaded.values()) <= 3 * size
    small = Predictors(workbench.storage, size - 1)
    for model_id in (a, b):  # one that is larger than the cache is served nevertheless
        small.get(model_id)
        assert set(small._loaded) == {model_id}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are read from disk."""
    found: list[str] = []
    load: Callable[..., Predictor] = Predictor.load

    def slowly(folder: Path, **options: bool) -> Predictor:
        found.append(folder.name)
        time.sleep(0.1)
        return load(folder, **options)

    monkeypatch.setattr(Predictor, "load", slowly)
    return found


def test_who_come_first_at_once_load_once(
    published: tuple[Workbench, list[str]], loads: list[str]
) -> None:
    workbench, ids = published
    cache, start = Predictors(workbench.storage, ROOMY), threading.Barrier(32)

    def get(number: int) -> Predictor:
        start.wait()
        return cache.get(ids[number % 2])

    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(get, range(32)))
    assert sorted(loads) == sorted(ids[:2])
    assert len({id(predictor) for predictor in found}) == 2
    assert not cache._loading


def test_a_damaged_model_is_nobodys_and_good_again_when_it_is_put_back(
    published: tuple[Workbench, list[str]], loads: list[str]
) -> None:
    workbench, ids = published
    weights = workbench.storage.path("models", ids[0]) / "weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    cache = Predictors(workbench.storage, ROOMY)

    def refused(_: int) -> bool:
        with pytest.raises(ArtifactCorrupt):
            cache.get(ids[0])
        return cache.cached(ids[0]) is None

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(refused, range(16)))
    assert loads == []
    assert cache.get(ids[1])
    weights.write_bytes(good)
    assert cache.get(ids[0]) is cache.get(ids[0])
    assert loads == [ids[1], ids[0]]
