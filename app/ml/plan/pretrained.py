"""What a pretrained model takes over from the version it starts from."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from app.errors import InvalidRequest
from app.ml.inference.card import Card
from app.ml.plan.columns import Column
from app.ml.specs import (
    Architecture,
    Inputs,
    JobRequest,
    JobSpec,
    PreprocessingSpec,
    PretrainedSpec,
    SequentialSpec,
    architecture_of,
)


@dataclass(frozen=True)
class Pretrained:
    """A model version that training starts from."""

    ref: str
    """``name@3``; an alias or the newest version is resolved to this."""
    card: Card


def inherit(request: JobRequest, source: Pretrained, known: dict[str, Column]) -> JobRequest:
    """Return the request with the source's features and preprocessing, which its weights fit.

    Raises InvalidRequest where the dataset or the request have others.
    """
    card = source.card
    names = card.spec.features
    if request.features is not None and request.features != names:
        listed = ", ".join(f"'{name[:64]}'" for name in names[:20])
        raise InvalidRequest.at(
            "/features", f"'{source.ref}' reads {listed}, in this order; leave features out"
        )
    for feature in card.preprocessing.features.features:
        column = known.get(feature.name)
        short = feature.name[:64]
        if column is None:
            raise InvalidRequest.at(
                "/model/model", f"'{source.ref}' reads a column '{short}', which the dataset lacks"
            )
        if column["type"] != feature.type:
            raise InvalidRequest.at(
                "/model/model",
                f"'{source.ref}' reads '{short}' as {feature.type}, and here it is "
                f"{column['type']}; upload the table with its type given as {feature.type}",
            )
        if feature.name in request.targets:
            raise InvalidRequest.at("/target", f"'{short}' is a feature of '{source.ref}'")
    own, given = card.spec.preprocessing, request.preprocessing
    for field in PreprocessingSpec.model_fields:
        if field == "target" or field not in given.model_fields_set:
            continue
        if getattr(given, field) != getattr(own, field):
            raise InvalidRequest.at(
                f"/preprocessing/{field}",
                f"'{source.ref}' brings its own preprocessing; leave this out",
            )
    preprocessing = own.model_copy(update={"target": given.target})
    return request.model_copy(update={"features": list(names), "preprocessing": preprocessing})


def inputs(source: Pretrained) -> Inputs:
    """Return the inputs of the source's module."""
    return source.card.preprocessing.features.inputs


def complete(spec: JobSpec, source: Pretrained, outputs: int) -> JobSpec:
    """Return the spec with the source's version and architecture written down.

    Raises InvalidRequest where a pattern freezes nothing, or all patterns everything.
    """
    assert isinstance(spec.model, PretrainedSpec)
    for position, pattern in enumerate(spec.model.freeze):
        if not any(fnmatchcase(name, pattern) for name in source.card.weights):
            listed = ", ".join(f"'{name}'" for name in source.card.weights[:12])
            raise InvalidRequest.at(
                f"/model/freeze/{position}",
                f"'{pattern[:64]}' matches no parameter of '{source.ref}'; there are {listed}",
            )
    if all(spec.model.freezes(name) for name in source.card.weights):
        raise InvalidRequest.at(
            "/model/freeze", "every parameter is frozen and nothing is left to train"
        )
    architecture = _with_outputs(source, outputs)
    if spec.model.architecture not in (None, architecture):
        raise InvalidRequest.at(
            "/model/architecture", f"'{source.ref}' is made of something else; leave this out"
        )
    model = spec.model.model_copy(update={"model": source.ref, "architecture": architecture})
    return spec.model_copy(update={"model": model})


def _with_outputs(source: Pretrained, outputs: int) -> Architecture:
    """Return the source's architecture, its last ``Linear`` as wide as the target needs."""
    made_of = architecture_of(source.card.spec.model)
    if source.card.outputs == outputs or not isinstance(made_of, SequentialSpec):
        return made_of
    if made_of.layers[-1].kind != "Linear":
        return made_of
    last = made_of.layers[-1].model_copy(update={"out_features": None})
    return made_of.model_copy(update={"layers": [*made_of.layers[:-1], last]})
