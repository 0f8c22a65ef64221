"""A full disk, damaged and missing files: an error that says so, and recovery without a restart."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import LINE_JOB, QUICK_JOB, Server, problem


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 12 MB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", mount], capture_output=True
    )
    if made.returncode != 0:
        pytest.skip("cannot mount a tmpfs here (not root)")
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


def test_a_full_disk_is_said_and_recovered_from(small_disk: Path) -> None:
    with Server(small_disk / "data") as server:
        server.line()
        server.train(**LINE_JOB)
        rows = {"rows": [{"x": 0.5}]}
        before = server.ok("POST", "/v1/models/line/predict", json=rows)
        filler = small_disk / "filler"
        _fill(filler, leaving=600_000)
        wide = {**QUICK_JOB, "model": {"kind": "mlp", "hidden": [512, 512]}}
        job = server.ok("POST", "/v1/jobs", json=wide, headers={"Prefer": "wait=30"})
        assert (job["status"], job["error"]["code"]) == ("failed", "storage_full")
        _fill(filler, leaving=0)
        assert server.client.get("/readyz").status_code == 503
        table = "a,b\n" + "".join(f"{i},{i * 7919 % 1000003}\n" for i in range(50_000))
        refused = server.client.post(
            "/v1/datasets", content=table, headers={"Content-Type": "text/csv"}
        )
        problem(refused, 507, "storage_full")
        assert server.ok("POST", "/v1/models/line/predict", json=rows) == before
        assert list((small_disk / "data" / "tmp").iterdir()) == []
        filler.unlink()
        assert server.client.get("/readyz").status_code == 200
        again = server.train(**wide)
        assert again["status"] == "succeeded"


def _fill(path: Path, leaving: int) -> None:
    """Grow ``path`` until only ``leaving`` bytes are free."""
    free = shutil.disk_usage(path.parent).free
    with path.open("ab") as file:
        file.write(bytes(max(0, free - leaving)))


def test_damaged_and_missing_files_are_said(data_dir: Path) -> None:
    with Server(data_dir) as server:
        made = server.line()
        job = server.train(**LINE_JOB)
        model = server.ok("GET", "/v1/models/line")
        table = data_dir / "datasets" / made["id"] / "table.parquet"
        weights = data_dir / "models" / model["id"] / "weights.safetensors"
        paths = ["/v1/datasets/line/rows", "/v1/datasets/line/plots/scatter.png"]
        paths.append(f"/v1/jobs/{job['id']}/plots/data.png")
        whole = table.read_bytes()
        for damage in (whole[:-9], _flipped(whole), None):
            table.unlink() if damage is None else table.write_bytes(damage)
            for path in paths:
                problem(server.client.get(path), 503, "artifact_corrupt")
        problem(server.client.post("/v1/jobs", json=QUICK_JOB), 503, "artifact_corrupt")
        table.write_bytes(_flipped(whole))  # in a column that making a job does not read
        failed = server.ok("POST", "/v1/jobs", json=QUICK_JOB, headers={"Prefer": "wait=30"})
        assert failed["status"] == "failed"
        assert "restore it from a backup" in failed["error"]["message"]
        kept = weights.read_bytes()
        for damage in (kept[:-1], _flipped(kept), None):
            weights.unlink() if damage is None else weights.write_bytes(damage)
            problem(server.client.get("/v1/models/line/download"), 503, "artifact_corrupt")
        shutil.rmtree(data_dir / "tmp")
        assert server.client.get("/readyz").status_code == 503
        body = {"source": {"kind": "synthetic", "generator": "line"}}
        problem(server.client.post("/v1/datasets", json=body), 503, "unavailable")


def _flipped(content: bytes) -> bytes:
    """With one bit changed in the middle of the data."""
    bits = bytearray(content)
    bits[len(bits) // 3] ^= 1
    return bytes(bits)


def test_a_read_only_data_directory_exits_78(small_disk: Path) -> None:
    for rooms in ("datasets", "models", "checkpoints", "tmp"):
        (small_disk / "data" / rooms).mkdir(parents=True)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    server = Server(small_disk / "data")
    assert server.process.wait(30) == 78
    said = server.log.read_text()
    assert "Read-only file system" in said
    assert "Traceback" not in said
    server.client.close()
    server.log.unlink()
