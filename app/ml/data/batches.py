"""The rows of one part as tensors, and slices of them in a new order every epoch."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from app.ml.data.preparation import Part
from app.ml.specs import JobSpec


class Rows(NamedTuple):
    """Rows of one part, on a device."""

    x: Tensor
    """``(rows, inputs)`` float32."""
    y: Tensor
    """``(rows, outputs)`` float32, or ``(rows,)`` int64 class numbers."""
    weight: Tensor | None = None
    """``(rows,)`` float32; ``None`` where all rows count the same."""


def rows_of(part: Part, device: torch.device) -> Rows:
    """Copy a part to a device, once for the whole job."""
    arrays = (part.x, part.y, part.weight)
    return Rows(*(None if a is None else torch.from_numpy(a).to(device) for a in arrays))  # type: ignore[arg-type]


def bounds(rows: int, batch_size: int | None) -> list[tuple[int, int]]:
    """Return ``(start, end)`` of each batch of an epoch; all rows are one where it has no size.

    A single row left over joins the batch before it.
    """
    size = batch_size or rows
    starts = list(range(0, rows, size))
    if 1 < size < rows and rows - starts[-1] == 1:  # batch norm cannot learn from one row
        starts.pop()
    return list(zip(starts, [*starts[1:], rows], strict=True))


def steps_per_epoch(rows: int, spec: JobSpec) -> int:
    """Return how often the optimizer steps in an epoch over so many rows."""
    return math.ceil(len(bounds(rows, spec.batch_size)) / spec.gradient_accumulation)


def steps(rows: Rows, spec: JobSpec, epoch: int, skip: int = 0) -> Iterator[list[Rows]]:
    """Yield the batches of each step of an epoch, but the first ``skip`` batches."""
    each = batches(rows, spec, epoch, skip)
    while step := [*islice(each, spec.gradient_accumulation)]:
        yield step


def batches(rows: Rows, spec: JobSpec, epoch: int, skip: int = 0) -> Iterator[Rows]:
    """Yield the batches of an epoch but the first ``skip``: slices of the training part, shuffled
    anew each epoch from the spec's seed and the epoch's number."""
    if spec.batch_size is None:
        if not skip:
            yield rows
        return
    generator = torch.Generator().manual_seed(_epoch_seed(spec.seed, epoch))
    order = torch.randperm(len(rows.x), generator=generator).to(rows.x.device)
    x, y = rows.x[order], rows.y[order]
    weight = None if rows.weight is None else rows.weight[order]
    for start, end in bounds(len(x), spec.batch_size)[skip:]:
        yield Rows(x[start:end], y[start:end], None if weight is None else weight[start:end])


def _epoch_seed(seed: int, epoch: int) -> int:
    """Return a seed of 63 bits, which is what torch takes."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> 1)
