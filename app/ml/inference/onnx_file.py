"""A model as one ONNX file: named columns of a table in, predictions out.

torch exports the module of ``onnx_module``; around it come the lookups of strings, which torch has
not: labels to their places in front, the places of classes to the classes behind. ``onnx`` and
``onnxscript`` are of the extra ``onnx`` and imported where a file is made.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from app.errors import NotApplicable
from app.ml.column_types.categories import CategoryFeature, spelt
from app.ml.features.preprocessing import ClassTarget, NumberTargets
from app.ml.inference.card import Card

_OPSET, _OPSET_OF_LABELS = 20, 3
"""Of ONNX and of ``ai.onnx.ml``; ONNX Runtime has both since 1.17."""
_ROWS = 3
"""Of the example that is traced; 0 and 1 would be taken for constants."""


def require_exportable(card: Card) -> None:
    """Raise NotApplicable where a model has no ONNX file, or this installation makes none."""
    texts = [name for name, kind in card.preprocessing.features.types.items() if kind == "text"]
    if texts:
        raise NotApplicable(
            f"ONNX has nothing that takes texts apart into words, and '{texts[0][:64]}' is a text; "
            "take format=bundle, or train without it (features)"
        )
    if find_spec("onnx") is None or find_spec("onnxscript") is None:
        raise NotApplicable(
            "this server has no ONNX exporter; its operator may install fitserve[onnx], or take "
            "format=bundle"
        )


def written(folder: Path) -> bytes:
    """Return the model of a published directory as an ONNX file, the same bytes each time.

    Inputs are tensors ``(rows,)`` by the names of the features: numbers and booleans float64 with
    NaN where they are missing, categories strings (the empty one is missing, unless it is a label),
    datetimes int64 microseconds since 1970 in UTC (numpy's NaT is missing). Outputs are
    ``prediction`` ``(rows,)``, or one by the name of each of several targets, and for classes
    ``probabilities`` ``(rows, classes)`` in the order of the metadata's ``classes``.

    Raises ArtifactCorrupt, and what torch raises where it cannot export a module.
    """
    import onnx
    import torch

    from app.ml.inference import model_files
    from app.ml.inference.onnx_module import ColumnsToPredictions

    card, module = model_files.load(folder)
    features = card.preprocessing.features.features
    rows = torch.export.Dim("rows")
    program = torch.onnx.export(
        ColumnsToPredictions(card, module).eval(),
        ([_example(feature) for feature in features],),
        input_names=[f"column_{i}" for i in range(len(features))],
        dynamic_shapes=([{0: rows}] * len(features),),
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = _named(program.model_proto, card)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _example(feature: Any) -> Any:
    import torch

    whole = feature.type in ("category", "datetime")
    return torch.zeros(_ROWS, dtype=torch.int64 if whole else torch.float64)


def _named(model: Any, card: Card) -> Any:
    """Return what torch exported with named inputs and outputs and lookups of strings between; what
    torch tells of the sources on this machine goes."""
    from onnx import compose, helper

    features = card.preprocessing.features.features
    answers = _answers(card)
    taken = (*card.spec.features, *answers)
    inner = "_"  # before the names of torch's own values
    while any(name.startswith(inner) for name in taken):
        inner += "_"
    model = compose.add_prefix(model, inner)
    graph = model.graph
    before = [_entered(*pair) for pair in zip(features, graph.input, strict=True)]
    behind = [
        _left(card, name, value, graph.initializer)
        for name, value in zip(answers, graph.output, strict=True)
    ]
    nodes = [*before, *graph.node, *behind]
    for part in (graph, *nodes, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    del graph.node[:]
    graph.node.extend(nodes)
    graph.name = "fitserve"
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", _OPSET_OF_LABELS))
    model.producer_name, model.producer_version = "fitserve", card.versions.get("fitserve", "")
    del model.metadata_props[:]
    helper.set_model_props(model, _properties(card))
    return model


def _answers(card: Card) -> list[str]:
    """Return the names of the outputs; an underscore sets one apart from that of a column."""
    target = card.preprocessing.target
    found = ["prediction"] if len(target.names) == 1 else list(target.names)
    if not isinstance(target, NumberTargets):
        found.append("probabilities")
    taken = {*card.spec.features}
    for i, name in enumerate(found):
        while name in taken:
            name += "_"
        found[i] = name
        taken.add(name)
    return found


def _entered(feature: Any, value: Any) -> Any:
    """Return the node from a column to the input ``value`` of torch's graph, which takes the
    column's name and type."""
    from onnx import TensorProto, helper

    from app.ml.inference.onnx_module import MISSING, UNSEEN

    inner, value.name = value.name, feature.name
    if not isinstance(feature, CategoryFeature):
        return helper.make_node("Identity", [feature.name], [inner])
    value.type.tensor_type.elem_type = TensorProto.STRING
    places: dict[str, int] = {}
    labels = feature.categories
    plain = [spelt(label, folded=False) for label in labels]
    for spelling in (labels, plain, map(str.lower, plain) if feature.folded else ()):
        for place, label in enumerate(spelling):
            places.setdefault(label, place)
    places.setdefault("", MISSING)
    return helper.make_node(
        "LabelEncoder",
        [feature.name],
        [inner],
        domain="ai.onnx.ml",
        keys_strings=list(places),
        values_int64s=list(places.values()),
        default_int64=UNSEEN,
    )


def _left(card: Card, name: str, value: Any, initializers: Any) -> Any:
    """Return the node from the output ``value`` of torch's graph to an answer: of the place of a
    class the class itself."""
    from onnx import TensorProto, helper

    target = card.preprocessing.target
    inner, value.name = value.name, name
    if not isinstance(target, ClassTarget) or value.type.tensor_type.elem_type != TensorProto.INT64:
        return helper.make_node("Identity", [inner], [name])
    kinds = {
        bool: TensorProto.BOOL,
        int: TensorProto.INT64,
        float: TensorProto.DOUBLE,
        str: TensorProto.STRING,
    }
    kind = kinds[type(target.classes[0])]
    values: list[Any] = [c.encode() if isinstance(c, str) else c for c in target.classes]
    classes = helper.make_tensor(f"{inner}_classes", kind, [len(values)], values)
    initializers.append(classes)
    value.type.tensor_type.elem_type = kind
    return helper.make_node("Gather", [classes.name, inner], [name])


def _properties(card: Card) -> dict[str, str]:
    """Return the metadata: what the columns are, and what stands in which place of an answer."""
    target = card.preprocessing.target
    metadata: dict[str, Any] = {
        "features": card.preprocessing.features.types,
        "target": target.names,
        "outputs": _answers(card),
    }
    if isinstance(target, ClassTarget):
        metadata["classes"] = target.classes
    return {name: json.dumps(value, ensure_ascii=False) for name, value in metadata.items()}
