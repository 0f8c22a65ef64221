"""Tables made up on the spot: the generators of ``{"kind": "synthetic"}`` sources."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.ml.specs import Seed, Spec

Rows = Annotated[int, Field(ge=2, le=1_000_000)]
Features = Annotated[int, Field(ge=1, le=1000)]
Noise = Annotated[float, Field(ge=0)]

MAX_CELLS = 50_000_000
"""Rows times features of one table."""


class _Synthetic(Spec):
    kind: Literal["synthetic"] = "synthetic"
    seed: Seed = 0

    def columns(self) -> dict[str, Any]:
        """Return the columns ``(rows,)`` by name; the same seed gives the same values."""
        raise NotImplementedError


class Line(_Synthetic):
    """``y = weight * x + bias`` for x from ``start`` up to, not including, ``end`` by ``step``."""

    generator: Literal["line"]
    weight: float = 0.7
    bias: float = 0.3
    start: float = 0.0
    end: float = 1.0
    step: float = Field(0.02, gt=0)
    noise: Noise = 0.0

    @model_validator(mode="after")
    def _has_a_sensible_length(self) -> "Line":
        rows = (self.end - self.start) / self.step
        if not 1 < rows <= 1_000_000:
            raise PydanticCustomError(
                "length",
                "start, end and step give {rows} rows; they must give 2 to 1,000,000",
                {"rows": f"{max(0.0, rows):.4g}"},
            )
        return self

    def columns(self) -> dict[str, Any]:
        x = np.arange(self.start, self.end, self.step)
        y = self.weight * x + self.bias
        return {
            "x": x,
            "y": y + self.noise * np.random.default_rng(self.seed).standard_normal(len(x)),
        }


class Sine(_Synthetic):
    """``y = amplitude * sin(2 pi x / period)`` at ``rows`` places from ``start`` to ``end``."""

    generator: Literal["sine"]
    rows: Rows = 200
    amplitude: float = 1.0
    period: float = Field(1.0, gt=0)
    start: float = 0.0
    end: float = 1.0
    noise: Noise = 0.0

    def columns(self) -> dict[str, Any]:
        x = np.linspace(self.start, self.end, self.rows)
        y = self.amplitude * np.sin(2 * np.pi * x / self.period)
        return {
            "x": x,
            "y": y + self.noise * np.random.default_rng(self.seed).standard_normal(len(x)),
        }


class _SkLearn(_Synthetic):
    rows: Rows = 1000

    def _tabulate(self, features: Any, target: Any, label: str) -> dict[str, Any]:
        named = {f"x{i}": features[:, i] for i in range(features.shape[1])}
        return {**named, label: target}


class Moons(_SkLearn):
    """Two interleaving half circles (``sklearn.datasets.make_moons``); columns x0, x1, label."""

    generator: Literal["moons"]
    noise: Noise = 0.1

    def columns(self) -> dict[str, Any]:
        from sklearn.datasets import make_moons

        x, y = make_moons(self.rows, noise=self.noise, random_state=self.seed % 2**32)
        return self._tabulate(x, y, "label")


class Circles(_SkLearn):
    """A circle inside a circle (``sklearn.datasets.make_circles``); columns x0, x1, label."""

    generator: Literal["circles"]
    noise: Noise = 0.05
    factor: float = Field(0.5, ge=0, lt=1)

    def columns(self) -> dict[str, Any]:
        from sklearn.datasets import make_circles

        x, y = make_circles(
            self.rows,
            noise=self.noise,
            factor=self.factor,
            random_state=self.seed % 2**32,
        )
        return self._tabulate(x, y, "label")


class _Wide(_SkLearn):
    @model_validator(mode="after")
    def _fits(self) -> "_Wide":
        cells = self.rows * getattr(self, "features", 1)
        if cells > MAX_CELLS:
            raise PydanticCustomError(
                "cells",
                "rows times features is {cells}; at most 50,000,000",
                {"cells": cells},
            )
        return self


class Blobs(_Wide):
    """Gaussian clusters (``sklearn.datasets.make_blobs``); columns x0, x1, …, label."""

    generator: Literal["blobs"]
    centers: int = Field(3, ge=2, le=100)
    features: Features = 2
    std: float = Field(1.0, gt=0)

    def columns(self) -> dict[str, Any]:
        from sklearn.datasets import make_blobs

        x, y = make_blobs(
            self.rows,
            n_features=self.features,
            centers=self.centers,
            cluster_std=self.std,
            random_state=self.seed % 2**32,
        )
        return self._tabulate(x, y, "label")


class Regression(_Wide):
    """A random linear problem (``sklearn.datasets.make_regression``); columns x0, x1, …, y."""

    generator: Literal["regression"]
    features: Features = 10
    informative: Features = 10
    noise: Noise = 1.0

    def columns(self) -> dict[str, Any]:
        from sklearn.datasets import make_regression

        x, y = make_regression(
            self.rows,
            n_features=self.features,
            n_informative=min(self.informative, self.features),
            noise=self.noise,
            random_state=self.seed % 2**32,
        )
        return self._tabulate(x, y, "y")


class Classification(_Wide):
    """Clusters on a hypercube (``sklearn.datasets.make_classification``); x0, x1, …, label."""

    generator: Literal["classification"]
    features: Annotated[int, Field(ge=4, le=1000)] = 20
    classes: int = Field(2, ge=2, le=8)

    def columns(self) -> dict[str, Any]:
        from sklearn.datasets import make_classification

        x, y = make_classification(
            self.rows,
            n_features=self.features,
            n_informative=max(4, self.features // 2),
            n_redundant=0,
            n_classes=self.classes,
            n_clusters_per_class=1,
            random_state=self.seed % 2**32,
        )
        return self._tabulate(x, y, "label")


SyntheticSource = Annotated[
    Line | Sine | Moons | Circles | Blobs | Regression | Classification,
    Field(discriminator="generator"),
]
