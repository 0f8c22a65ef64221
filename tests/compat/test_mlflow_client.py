"""MLflow's own scoring client, as it comes, against ``/invocations``."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest

from app import __version__
from tests.support.server import Json, Server
from tests.support.zoo import MIXED, Zoo, mixed_row

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what MLflow imports
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

ROWS = [mixed_row(i) for i in range(12)]
LISTS = [list(row.values()) for row in ROWS]
COLUMNS = {name: [row[name] for row in ROWS] for name in MIXED}
FRAME = pd.DataFrame(ROWS, columns=MIXED)
REFUSED_BY_CLIENT = "Invocation failed"


def test_the_client_as_it_comes(models: Zoo) -> None:
    client = ScoringServerClient("127.0.0.1", models.server.port)
    client.wait_server_ready(timeout=10)
    client.ping()
    assert client.get_version() == __version__
    expected = models.predict("score", ROWS)
    assert len(set(expected)) > 5
    for frame in (FRAME, FRAME[MIXED[::-1]], FRAME.set_index(pd.Index(range(50, 62)))):
        answer = client.invoke(frame)
        assert list(answer) == ["predictions"]
        assert answer["predictions"] == expected
    assert client.invoke(FRAME.iloc[:1])["predictions"] == models.predict("score", ROWS[:1])
    assert client.invoke(ROWS)["predictions"] == expected
    assert client.invoke(LISTS)["predictions"] == expected
    assert client.invoke(json.dumps({"inputs": COLUMNS}))["predictions"] == expected


def test_gaps_of_data_frames_are_missing_values(models: Zoo) -> None:
    """pandas has NaN for them in every type of column, and the client writes them so."""
    rows: list[Json] = [{**row, "size": None, "color": None} for row in ROWS]
    frame = pd.DataFrame(rows, columns=MIXED).astype({"size": float})
    frame["color"] = pd.Series([np.nan] * len(rows), dtype=object)
    client = ScoringServerClient("127.0.0.1", models.server.port)
    sent = json.dumps({"dataframe_split": frame.to_dict(orient="split")})
    assert "NaN" in sent
    expected = models.predict("score", rows)
    assert client.invoke(frame)["predictions"] == expected
    one = client.invoke(frame.iloc[:1])["predictions"]
    assert one == models.predict("score", rows[:1])


def test_moments_of_data_frames(models: Zoo) -> None:
    rows = [row for row in map(mixed_row, range(40)) if row["at"] and row["day"]]
    frame = pd.DataFrame(rows, columns=MIXED)
    frame = frame.assign(at=pd.to_datetime(frame["at"]), day=pd.to_datetime(frame["day"]))
    client = ScoringServerClient("127.0.0.1", models.server.port)
    assert client.invoke(frame)["predictions"] == models.predict("score", rows)


def test_the_client_is_told_what_is_wrong(models: Zoo) -> None:
    client = ScoringServerClient("127.0.0.1", models.server.port)
    for frame, says in (
        (FRAME.drop(columns=["new"]), "the feature 'new' is missing"),
        (FRAME.drop(columns="size").assign(sise=1), "the feature 'size' is missing"),
        (FRAME.assign(size="big"), "'size' wants a number or null, got 'big'"),
        (FRAME.assign(size=np.inf), "Infinity is no JSON number"),
        (FRAME.iloc[:0], "there are no rows to predict"),
    ):
        with pytest.raises(Exception, match=REFUSED_BY_CLIENT) as caught:
            client.invoke(frame)
        assert says in json.loads(str(caught.value).partition("response: ")[2][:-1])["message"]
    with pytest.raises(Exception, match="this model has no parameters"):
        client.invoke(FRAME, params={"temperature": 1})


def test_without_a_default_model_it_is_told_so(server: Server) -> None:
    client = ScoringServerClient("127.0.0.1", server.port)
    assert client.get_version() == __version__
    with pytest.raises(Exception, match="ping failed"):
        client.ping()
