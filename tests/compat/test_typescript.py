"""What openapi-typescript generates from the document type-checks the requests of the README."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.openapi import SNAPSHOT
from tests.support.soak import soak_only

PACKAGES = ("openapi-typescript@7", "typescript@5")
CLIENT = """
import type { paths } from "./schema";
type Body<P extends keyof paths> = paths[P] extends
  { post: { requestBody: { content: { "application/json": infer B } } } } ? B : never;
export const inline: Body<"/v1/datasets"> = { source: { kind: "inline", rows: [{ x: 1 }] } };
export const least: Body<"/v1/jobs"> = { dataset: "flats", target: "rent" };
export const linear: Body<"/v1/jobs"> = { ...least, model: { kind: "linear" } };
export const said: Body<"/v1/jobs"> = {
  ...least, model: { kind: "mlp", hidden: [64] }, optimizer: { kind: "adamw", lr: 0.01 },
  split: { strategy: "random" }, preprocessing: { numbers: "robust" },
  early_stopping: { patience: 5 }, loss: { kind: "huber" },
};
export const rows: Body<"/v1/models/{ref}/predict"> = { rows: [{ size: 1, city: "Oslo" }] };
type Job = paths["/v1/jobs/{job_id}"]["get"]["responses"][200]["content"]["application/json"];
export const ended = (job: Job): boolean => job.status === "succeeded" && job.error === null;
// @ts-expect-error: there is no such optimizer
export const wrong: Body<"/v1/jobs"> = { ...least, optimizer: { kind: "adm" } };
"""


@soak_only
@pytest.mark.skipif(shutil.which("npx") is None, reason="there is no npx")
def test_requests_are_typed(tmp_path: Path) -> None:
    def npx(*command: str) -> None:
        packages = [part for package in PACKAGES for part in ("-p", package)]
        done = subprocess.run(
            ["npx", "-y", *packages, *command],
            cwd=tmp_path,
            env={**os.environ, "npm_config_cache": str(tmp_path / "npm")},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    npx("openapi-typescript", str(SNAPSHOT), "-o", "schema.d.ts")
    (tmp_path / "client.ts").write_text(CLIENT)
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "esnext"]
    npx("tsc", *options, "--moduleResolution", "bundler", "client.ts")
