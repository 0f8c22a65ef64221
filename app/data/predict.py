"""Predict with a fitserve bundle: ``python predict.py bundle.zip rows.json``.

Python 3.11 or newer, torch and safetensors are all it takes. ``rows.json`` is a list of objects by
feature, with values as JSON has them: datetimes in ISO 8601, null where a value is missing. The
answer is the list of predictions that the service gives for these rows.
"""

import base64
import json
import math
import re
import sys
import unicodedata
import zipfile
from bisect import bisect_right
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

Json = dict[str, Any]
EPOCH, DAY = datetime(1970, 1, 1, tzinfo=UTC), timedelta(days=1)


# ---------------------------------------------------------------- a value as columns of the matrix


def encode(feature: Json, row: Json) -> list[float]:
    """Return the columns that a row's value of a feature becomes."""
    name, kind = feature["name"], feature["type"]
    if name not in row:
        raise ValueError(f"a row lacks '{name}'; null says that it is missing")
    value = row[name]
    fits = isinstance(value, TYPES[kind]) and isinstance(value, bool) == (kind == "boolean")
    if value is not None and not fits:
        raise ValueError(f"'{name}' is a {kind}, and a row has {value!r}")
    columns: list[float] = ENCODERS[kind](feature, value)
    if feature["indicator"] and not feature.get("embedding"):
        columns.append(float(value is None))
    return columns


def of_number(feature: Json, value: float | None) -> list[float]:
    number = feature["fill"] if value is None else float(value)
    if knots := feature["knots"]:
        number = interpolated(number, knots, feature["scores"])
    return [(number - feature["center"]) / feature["scale"]]


def interpolated(value: float, knots: list[float], scores: list[float]) -> float:
    after = bisect_right(knots, value)
    if after in (0, len(knots)):
        return scores[0] if after == 0 else scores[-1]
    share = (value - knots[after - 1]) / (knots[after] - knots[after - 1])
    return scores[after - 1] + share * (scores[after] - scores[after - 1])


def of_boolean(feature: Json, value: bool | None) -> list[float]:
    return [float(feature["fill"] if value is None else value)]


def of_category(feature: Json, value: str | None) -> list[float]:
    labels = feature["categories"]
    place = None if value is None else place_of(feature, value)
    if feature["embedding"]:  # the row of its embedding: 0 for unseen, 1 for missing
        return [1.0 if value is None else 0.0 if place is None else place + 2.0]
    return [float(place == i) for i in range(len(labels))]


def place_of(feature: Json, value: str) -> int | None:
    """Return the number of a label: as it is written, or else but for blanks, accents and case."""
    labels = feature["categories"]
    if value in labels:
        return int(labels.index(value))
    plain = [spelt(label, feature["folded"]) for label in labels]
    wanted = spelt(value, feature["folded"])
    return plain.index(wanted) if wanted in plain else None


def spelt(label: str, folded: bool) -> str:
    plain = unicodedata.normalize("NFC", label.strip())
    return plain.lower() if folded else plain


def of_datetime(feature: Json, value: str | None) -> list[float]:
    width = 9 if feature["time"] else 7
    if value is None:
        return [0.0] * width
    moment = datetime.fromisoformat(value)
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    day = moment.date()
    year, month = date(day.year, 1, 1), date(day.year, day.month, 1)
    next_month = (month + timedelta(days=31)).replace(day=1)
    shares = [
        (day - year).days / (date(day.year + 1, 1, 1) - year).days,
        (day - month).days / (next_month - month).days,
        day.weekday() / 7,
    ]
    if feature["time"]:
        shares.append((moment - EPOCH) % DAY / DAY)
    angles = [2 * math.pi * share for share in shares]
    cycles = [wave(angle) for angle in angles for wave in (math.sin, math.cos)]
    return [((moment - EPOCH) / DAY - feature["center"]) / feature["scale"], *cycles]


def of_text(feature: Json, value: str | None) -> list[float]:
    """Return a text's place along the directions of latent semantic analysis."""
    terms, center, scale = feature["terms"], halves(feature["center"]), halves(feature["scale"])
    places = {term: place for place, term in enumerate(terms)}
    words = re.findall(r"\w+", (value or "")[:20_000].lower())
    counts = Counter(places[term] for term in terms_of(words) if term in places)
    if not counts:
        return [0.0] * len(center)
    known = sorted(counts)
    often = torch.tensor([1 + math.log(min(counts[place], 10_000)) for place in known])
    weighed = often * halves(feature["weights"])[known]
    weighed = weighed / weighed.norm()
    directions = halves(feature["directions"]).reshape(len(terms), -1)[known]
    columns: list[float] = ((weighed @ directions - center) / scale).tolist()
    return columns


def terms_of(words: list[str]) -> list[str]:
    """Return words, pairs of words, and their pieces of 3 and 4 characters behind a NUL."""
    pieces = [
        "\0" + f" {word} "[start : start + size]
        for word in words
        for size in (3, 4)
        for start in range(len(word) + 3 - size)
    ]
    return [*words, *(f"{one} {two}" for one, two in pairwise(words)), *pieces]


def halves(packed: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(packed)), dtype=torch.float16).float()


TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, float),
    "boolean": (bool,),
    "category": (str,),
    "datetime": (str,),
    "text": (str,),
}
ENCODERS: dict[str, Any] = {
    "number": of_number,
    "boolean": of_boolean,
    "category": of_category,
    "datetime": of_datetime,
    "text": of_text,
}


# ---------------------------------------------------------------- the module

ACTIVATIONS = {
    "relu": "ReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
}
NORMS = {"batch": "BatchNorm1d", "layer": "LayerNorm"}
WIDTHS = {"Linear": "in_features", "BatchNorm1d": "num_features"}
WIDTHS |= {"LayerNorm": "normalized_shape", "RMSNorm": "normalized_shape"}


class Residual(nn.Sequential):
    """Layers whose input is added to their output."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return x + y


def mlp(spec: Json, width: int, outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for hidden in spec["hidden"]:
        block: list[nn.Module] = [nn.Linear(width, hidden)]
        if spec["norm"]:
            block.append(getattr(nn, NORMS[spec["norm"]])(hidden))
        block.append(getattr(nn, ACTIVATIONS[spec["activation"]])())
        if spec["dropout"]:
            block.append(nn.Dropout(spec["dropout"]))
        layers += [Residual(*block)] if spec["residual"] and width == hidden else block
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def sequential(spec: Json, width: int, outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for place, layer in enumerate(spec["layers"]):
        options = {name: value for name, value in layer.items() if name != "kind"}
        if field := WIDTHS.get(layer["kind"]):
            options[field] = width
        if layer["kind"] == "Linear":
            last = place == len(spec["layers"]) - 1
            width = options["out_features"] or (outputs if last else width)
            options["out_features"] = width
        layers.append(getattr(nn, layer["kind"])(**options))
    return nn.Sequential(*layers)


class Tabular(nn.Module):
    """The ensemble of ``tabular``, by its tensors."""

    def __init__(self, weights: dict[str, Tensor], loss: str) -> None:
        super().__init__()
        self.weights, self.loss = weights, loss

    def forward(self, x: Tensor) -> Tensor:
        w = self.weights
        x = torch.where(w["numeric"], clipped(x), x)
        at = x[:, w["embed.places"]].T[:, :, None]  # (numbers, rows, 1)
        bends = ((at - w["embed.low"]) * w["embed.slope"]).clamp(0, 1)
        y = torch.baddbmm(w["embed.bias"] + at * w["embed.line"], bends, w["embed.weight"])
        z = torch.cat([x, functional.relu(y).transpose(0, 1).flatten(1)], 1)
        h = functional.linear(z, w["first.weight"], w["first.bias"])
        h = functional.relu(w["shift"] + h * w["scale"])  # (members, rows, width)
        h = functional.relu(h @ w["hidden"] + w["bias"])
        direct = functional.linear(z, w["direct.weight"], w["direct.bias"])
        return self.averaged(
            torch.baddbmm(w["offset"], h, w["head"]).transpose(0, 1) + direct[:, None]
        )

    def averaged(self, y: Tensor) -> Tensor:
        """``(rows, members, outputs)`` to ``(rows, outputs)``: means of what outputs stand for."""
        if self.loss == "bce_with_logits":
            yes, no = functional.logsigmoid(y), functional.logsigmoid(-y)
            return yes.logsumexp(1) - no.logsumexp(1)
        if self.loss == "cross_entropy":
            return functional.log_softmax(y, -1).logsumexp(1) - math.log(y.shape[1])
        if self.loss == "poisson_nll":
            return y.logsumexp(1) - math.log(y.shape[1])
        return y.mean(1)


def clipped(x: Tensor) -> Tensor:
    x = x.clamp(-1e6, 1e6)
    return x / (1 + (x / 3.0).square()).sqrt()


def build(card: Json, weights: dict[str, Tensor], width: int) -> nn.Module:
    """Return the module with its weights; ``width`` columns come in, embeddings looked up."""
    spec = card["spec"]["model"]
    spec = spec.get("architecture") or spec  # of one that began as another model
    if spec["kind"] == "tabular":
        return Tabular(weights, card["spec"]["loss"]["kind"])
    outputs = card["outputs"]
    if spec["kind"] == "linear":
        module: nn.Module = nn.Linear(width, outputs)
    else:
        module = {"mlp": mlp, "sequential": sequential}[spec["kind"]](spec, width, outputs)
    module.load_state_dict(weights)
    return module.eval()


# ---------------------------------------------------------------- rows in, predictions out


class Model:
    """A bundle that predicts."""

    def __init__(self, path: str | Path) -> None:
        with zipfile.ZipFile(path) as bundle:
            self.card: Json = json.loads(bundle.read("model.json"))
            weights = load(bundle.read("weights.safetensors"))
        loss = self.card["spec"]["loss"]
        self.card["spec"]["loss"] = {"kind": loss} if isinstance(loss, str) else loss
        self.features: list[Json] = self.card["preprocessing"]["features"]["features"]
        self.target: Json = self.card["preprocessing"]["target"]
        coded = [item for item in self.features if item.get("embedding")]
        self.tables = [weights[f"embeddings.{i}.weight"] for i in range(len(coded))]
        self.dense = self.card["inputs"] - len(coded)
        if coded:
            body = "body."
            weights = {k.removeprefix(body): v for k, v in weights.items() if k.startswith(body)}
        self.module = build(self.card, weights, self.dense + sum(t.shape[1] for t in self.tables))

    def matrix(self, rows: list[Json]) -> Tensor:
        """Return ``(rows, inputs)``: what is multiplied first, then the codes of embeddings."""
        dense = [item for item in self.features if not item.get("embedding")]
        coded = [item for item in self.features if item.get("embedding")]
        matrix = []
        for number, row in enumerate(rows):
            try:
                matrix.append([x for item in (*dense, *coded) for x in encode(item, row)])
            except ValueError as error:
                raise ValueError(f"row {number}: {error}") from error
        return torch.tensor(matrix)

    @torch.inference_mode()
    def outputs(self, rows: list[Json]) -> Tensor:
        """Return the module's raw outputs ``(rows, outputs)`` as float64."""
        x = self.matrix(rows)
        codes = x[:, self.dense :].long()
        found = [table[codes[:, i]] for i, table in enumerate(self.tables)]
        y: Tensor = self.module(torch.cat([x[:, : self.dense], *found], 1))
        return y.double()

    def probabilities(self, rows: list[Json]) -> Tensor:
        """Return ``(rows, classes)``, or ``(rows, labels)`` of several booleans."""
        y: Tensor = self.outputs(rows) / self.target["temperature"]
        if self.target["kind"] == "labels":
            return y.sigmoid()
        if self.target["outputs"] == 1:
            y = torch.cat([torch.zeros_like(y), y], 1)
        return y.softmax(1)

    def chosen(self, probabilities: Tensor) -> list[int]:
        """Return the number of each row's class: of two, the positive one from a threshold on."""
        classes, threshold = self.target["classes"], self.target["threshold"]
        if len(classes) != 2 or threshold == 0.5:
            return [int(place) for place in probabilities.argmax(1)]
        yes = next((i for i, value in enumerate(classes) if value in (1, "1")), 1)
        return [yes if share >= threshold else 1 - yes for share in probabilities[:, yes].tolist()]

    def predict(self, rows: list[Json]) -> list[Any]:
        """Return one prediction a row: numbers, classes, or booleans; of several targets objects
        by name."""
        names = self.target["names"]
        if self.target["kind"] == "classes":
            return [self.target["classes"][i] for i in self.chosen(self.probabilities(rows))]
        if self.target["kind"] == "labels":
            return [
                dict(zip(names, r, strict=True)) for r in (self.probabilities(rows) > 0.5).tolist()
            ]
        y = self.outputs(rows)
        if self.target["link"] == "log":
            y = y.clamp(max=88.0).exp()
        scale, center = (
            torch.tensor(self.target[k], dtype=torch.float64) for k in ("scale", "center")
        )
        found = (y * scale + center).tolist()
        return [row[0] if len(names) == 1 else dict(zip(names, row, strict=True)) for row in found]


def main(bundle: str, rows: str) -> None:
    """Write the predictions for a file of rows; a row that does not fit ends it with a line."""
    model = Model(bundle)
    try:
        found = model.predict(json.loads(Path(rows).read_bytes()))
    except ValueError as error:
        sys.exit(f"{rows}: {error}")
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python predict.py bundle.zip rows.json")
    main(*sys.argv[1:])
