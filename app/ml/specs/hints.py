"""Where a job's settings have their place, for those who look elsewhere first: the names that other
libraries use, and ours on the wrong level."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, get_args

import orjson

from app.ml.specs.base import Spec, kinds_of, plain
from app.ml.specs.data import PreprocessingSpec, SplitSpec
from app.ml.specs.job import CheckpointSpec, EarlyStoppingSpec, JobRequest
from app.ml.specs.layers import LayerSpec
from app.ml.specs.losses import LossSpec
from app.ml.specs.models import ModelSpec
from app.ml.specs.optimizers import OptimizerSpec
from app.ml.specs.schedulers import SchedulerSpec

_OPTIMIZER = '{"optimizer": {"kind": "adamw", "lr": 0.001, "weight_decay": 0.01}}'
_MODEL = '{"model": {"kind": "mlp", "hidden": [64, 64], "activation": "relu", "dropout": 0.1}}'
_LAYERS = '{"model": {"kind": "sequential", "layers": ["ReLU", {"kind": "Dropout", "p": 0.1}]}}'
_STOPPING = '{"early_stopping": {"patience": 10, "min_delta": 0}}'
_SPLIT = '{"split": {"train": 0.8, "validation": 0.1, "test": 0.1}}'
_PREPROCESSING = '{"preprocessing": {"numbers": "standard"}}'

_PLACES: dict[str, tuple[str, ...]] = {
    _OPTIMIZER: (
        *("lr", "learning_rate", "learning_rate_init", "eta", "weight_decay", "l2"),
        *("betas", "optim", "solver", "optimizer_name"),
    ),
    '{"optimizer": {"kind": "sgd", "lr": 0.01, "momentum": 0.9}}': ("momentum",),
    _MODEL: (
        *("hidden", "hidden_size", "hidden_sizes", "hidden_layers", "hidden_layer_sizes", "width"),
        *("activation", "dropout", "norm", "network", "architecture", "model_type"),
    ),
    _LAYERS: ("layers", "modules"),
    _STOPPING: ("patience", "min_delta", "tol", "n_iter_no_change", "early_stop"),
    _SPLIT: (
        *("val_split", "validation_split", "validation_fraction", "val_size", "test_size"),
        *("test_split", "train_size", "train_split", "valid", "validation", "shuffle"),
    ),
    _PREPROCESSING: ("scale", "scaling", "scaler", "normalize", "standardize", "impute"),
    '{"split": {"strategy": "stratified"}}': ("stratify", "stratified"),
    '{"class_weight": {"a": 2, "b": 1}}': ("weight", "weights", "class_weights", "pos_weight"),
    '{"epochs": 100}': ("max_epochs", "n_epochs", "num_epochs", "max_iter", "iterations", "epoch"),
    '{"batch_size": 64}': ("batch", "bs", "minibatch_size"),
    '{"loss": "mse"}': ("loss_fn", "loss_function", "criterion", "objective"),
    '{"gradient_accumulation": 4}': (
        *("accumulate_grad_batches", "gradient_accumulation_steps", "grad_accum"),
        *("accumulation_steps", "iter_size"),
    ),
    '{"scheduler": [{"kind": "linear", "total_iters": 5}, "cosine"]}': (
        *("warmup", "warm_up", "warmup_epochs", "warmup_steps", "warmup_ratio"),
    ),
    '{"loss": {"kind": "quantile", "q": 0.9}}': ("q", "quantile", "alpha"),
    '{"select": "auc"}': ("metric", "monitor", "eval_metric", "scoring"),
    '{"threshold": "f1"}': ("decision_threshold", "cutoff"),
    '{"calibrate": true}': ("calibration", "temperature"),
    '{"scheduler": "cosine"}': ("lr_scheduler", "schedule", "lr_schedule"),
    '{"gradient_clip_norm": 1.0}': ("clip", "grad_clip", "clip_norm", "max_grad_norm"),
    '{"target": "y"}': ("label", "labels", "y", "target_column", "outcome"),
    '{"features": ["x1", "x2"]}': ("X", "inputs", "columns", "feature_columns", "predictors"),
    '{"seed": 0}': ("random_state", "random_seed"),
    '{"max_seconds": 600}': ("timeout", "time_limit", "max_time"),
    '{"register_as": "name"}': ("model_name", "experiment", "run_name"),
    '{"dataset": "name"}': ("data", "data_id", "dataset_id", "dataset_name", "table"),
}
_VALUES = {"gpu": "cuda", "multi_class": "multiclass", "classification": "multiclass"}
_VALUES |= {"multi_label": "multilabel", "float16": "bfloat16", "bf16": "bfloat16"}
_VALUES |= {"ordered": "sequential", "stratify": "stratified"}
"""What a value is called here, by what others call it."""

_BY_NAME = {plain(name): example for example, names in _PLACES.items() for name in names}
_PARTS = ("val_", "validation_", "test_", "train_")
"""How metrics are called that are of a part."""


def value_for(value: str, known: Sequence[str]) -> str | None:
    """Return the known value that is called ``value`` elsewhere, None where there is none."""
    small = value.lower()
    bare = [small.removeprefix(part) for part in _PARTS if small.startswith(part)]
    meant = [_VALUES.get(small), *(name for name in known if plain(name) in map(plain, bare))]
    return next((name for name in meant if name in known), None)


def place_of(name: str, value: Any, job: dict[str, Any]) -> str | None:
    """Return how a ``job`` says what it calls ``name``, as others do, or has in the wrong place,
    there with its ``value``; ``None`` where nobody would know."""
    known = _BY_NAME.get(plain(name))
    if known == _OPTIMIZER and (own := _of_optimizer(job.get("optimizer"))) is not None:
        return own
    if known is not None or (place := _nested().get(plain(name))) is None:
        return known
    part, kind, field = place
    shown = orjson.dumps(value).decode() if isinstance(value, str | int | float) else "…"
    inside = f'"{field}": {shown[:64]}'
    if kind is not None:
        inside = f'"kind": "{kind}", {inside}'
    if part == "layers":
        return f'{{"model": {{"kind": "sequential", "layers": [{{{inside}}}]}}}}'
    return f'{{"{part}": {{{inside}}}}}'


def _of_optimizer(told: Any) -> str | None:
    """Return how a job with this optimizer says its learning rate and weight decay; ``None`` where
    it names none that there is."""
    kinds = kinds_of(get_args(OptimizerSpec)[0])
    by_name = {plain(kind): kind for kind in kinds}
    named = told.get("kind") if isinstance(told, dict) else told
    kind = by_name.get(plain(named)) if isinstance(named, str) else None
    if kind is None:
        return None
    fields = {"lr": 0.001, "weight_decay": 0.01}
    shown = {name: value for name, value in fields.items() if name in kinds[kind].model_fields}
    return f'{{"optimizer": {json.dumps({"kind": kind, **shown})}}}'


@cache
def _nested() -> dict[str, tuple[str, str | None, str]]:
    """Return the fields of a job's parts by how they compare: of which part, of which kind, and
    their name. The first that has one stands for the others."""
    found: dict[str, tuple[str, str | None, str]] = {}
    for part, kind, spec in _parts():
        for field in spec.model_fields:
            if field != "kind" and field not in JobRequest.model_fields:
                found.setdefault(plain(field), (part, kind, field))
    return found


def _parts() -> Iterator[tuple[str, str | None, type[Spec]]]:
    yield "split", None, SplitSpec
    yield "preprocessing", None, PreprocessingSpec
    yield "early_stopping", None, EarlyStoppingSpec
    yield "checkpoint", None, CheckpointSpec
    for part, union in (
        ("model", ModelSpec),
        ("optimizer", OptimizerSpec),
        ("scheduler", SchedulerSpec),
        ("loss", LossSpec),
        ("layers", LayerSpec),
    ):
        for kind, spec in kinds_of(get_args(union)[0]).items():
            yield part, kind, spec
