"""A client that openapi-python-client generates from the document walks the main path."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.support.openapi import SNAPSHOT, document
from tests.support.server import Server

PACKAGE = "generated_fitserve"


def test_the_document_is_valid() -> None:
    validate(document())


def test_operations_have_short_names_and_say_their_errors() -> None:
    found = document()
    operations = [
        (path, method, operation)
        for path, item in found["paths"].items()
        for method, operation in item.items()
    ]
    names = [operation["operationId"] for *_, operation in operations]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and len(name) <= 25 for name in names)
    assert {"create_dataset", "create_job", "get_job", "predict", "infer"} <= set(names)
    for path, method, operation in operations:
        assert operation["tags"], path
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                (content,) = answer["content"].values()
                of_connection = status in ("408", "414", "431")  # before anyone has read the path
                oip = path.startswith("/v2") and not of_connection
                name = "InferenceError" if oip else "Problem"
                assert content["schema"] == {"$ref": f"#/components/schemas/{name}"}
        if path.startswith("/v1/jobs/{job_id}"):
            assert {"401", "404", "422", "500", "503"} <= operation["responses"].keys(), method
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        assert body is None or body["examples"], f"{method} {path} has no example"
    assert "HTTPValidationError" not in found["components"]["schemas"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The generated package."""
    folder = tmp_path_factory.mktemp("client")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    command += ["--path", str(SNAPSHOT), "--output-path", str(folder / PACKAGE)]
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Endpoint will not be generated" not in done.stdout
    sys.path.insert(0, str(folder))
    yield importlib.import_module(PACKAGE)
    sys.path.remove(str(folder))


@pytest.fixture
def call(client: ModuleType, server: Server) -> Callable[..., Any]:
    """Calls an operation of the generated package, ``datasets.get_dataset``, on the server."""

    def called(operation: str, *arguments: Any, **options: Any) -> Any:
        module = importlib.import_module(f"{PACKAGE}.api.{operation}")
        api = client.Client(base_url=server.url, timeout=90, httpx_args={"trust_env": False})
        with api as connection:
            return module.sync(*arguments, client=connection, **options)

    return called


def test_every_module_can_be_imported(client: ModuleType) -> None:
    (folder,) = client.__path__
    names = [
        ".".join((PACKAGE, *path.relative_to(folder).with_suffix("").parts))
        for path in Path(folder).rglob("*.py")
    ]
    assert len(names) > 200
    for name in names:
        importlib.import_module(name)


def test_tables_and_tensors(client: ModuleType, call: Callable[..., Any], server: Server) -> None:
    models = importlib.import_module(f"{PACKAGE}.models")
    server.line("generated-table")
    text = call("datasets.get_dataset_content", "generated-table")
    assert text == server.client.get("/v1/datasets/generated-table/content").text
    server.train(dataset="generated-table", target="y", epochs=2, register_as="generated-infer")
    tensor = {"name": "x", "datatype": "FP64", "shape": [2, 1], "data": [0.1, 0.2]}
    asked = models.InferRequest.from_dict({"inputs": [tensor]})
    for operation, *names in (
        ("infer", "generated-infer"),
        ("infer_version", "generated-infer", "1"),
    ):
        answer = call(f"inference_protocol.{operation}", *names, body=asked)
        assert answer.outputs[0].shape == [2]
    wrong = call("inference_protocol.infer", "generated-infer", body=models.InferRequest())
    assert isinstance(wrong, models.InferenceError)


def test_the_main_path(client: ModuleType, call: Callable[..., Any]) -> None:
    models = importlib.import_module(f"{PACKAGE}.models")
    line = models.Line(kind="synthetic", generator="line")
    dataset = call(
        "datasets.create_dataset", body=models.DatasetRequest(name="generated", source=line)
    )
    assert isinstance(dataset, models.DatasetOut)
    assert (dataset.rows, dataset.columns[0].type_) == (50, "number")
    assert call("datasets.list_datasets", limit=1).data[0].id == dataset.id

    job = call(
        "jobs.create_job",
        body=models.JobRequest(
            dataset="generated",
            target="y",
            model=models.LinearSpec(kind="linear"),
            loss="l1",
            optimizer=models.SGDSpec(kind="sgd", lr=0.05),
            epochs=20,
            register_as="generated",
        ),
        prefer="wait=60",
    )
    assert isinstance(job, models.JobOut), job
    assert job.status == "succeeded"
    assert job.spec.optimizer.lr == 0.05
    assert job.error is None
    assert job.id in {one.id for one in call("jobs.list_jobs", status="succeeded").data}
    history = call("jobs.get_job_metrics", job.id)
    assert history.series["train_loss"].epoch == list(range(job.progress.epoch))

    model = call("models.get_model", "generated")
    assert model.lineage.spec.loss == "l1"
    rows = models.PredictRequest.from_dict({"rows": [{"x": 0.5}]})
    answer = call("models.predict", "generated", body=rows)
    assert len(answer.predictions) == 1
    held = call(
        "models.evaluate_model", "generated", body=models.EvaluateRequest(dataset="generated")
    )
    assert held.rows == 50

    wrong = call("jobs.create_job", body=models.JobRequest(dataset="generated", target="z"))
    assert isinstance(wrong, models.Problem)
    assert (wrong.status, wrong.errors[0].pointer) == (422, "/target")
    missing = call("models.get_model", "nobody")
    assert isinstance(missing, models.Problem)
    assert missing.code == "not_found"
    call("jobs.delete_job", job.id)
    assert call("jobs.get_job", job.id).code == "not_found"
