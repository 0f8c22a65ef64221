"""Model versions: made by a job's success or a promotion, referred to by ``name`` (the newest),
``name@3``, ``name@alias`` or id."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from app.db.models import Alias, Job, ModelName, ModelVersion
from app.errors import NotFound
from app.ml.features.preprocessing import Decision
from app.ml.inference.card import TrainedOn
from app.ml.inference.conformal import Coverage
from app.ml.inference.explanations import Importance
from app.ml.specs import JobSpec
from app.names import nearest
from app.runtime.context import Context
from app.runtime.pagination import Page, Paging, page
from app.runtime.room import frees_room

_other = aliased(ModelVersion)
_BEYOND_ALL = 2**31 - 1
"""More versions than a model has."""
_REF = re.compile(
    r"(?P<name>[^@]+)(?:@(?:(?P<version>[0-9]{1,64})|(?P<alias>[A-Za-z0-9][A-Za-z0-9._-]{0,63})))?"
)


# ---------------------------------------------------------------- made


@dataclass(frozen=True)
class Result:
    """Weights that a job trained, published as the artifact ``models/<id>``, and their lineage."""

    id: str
    features: list[Any]
    """Name and type of each feature, in order."""
    metrics: dict[str, Any]
    parameters: int
    versions: dict[str, str]
    """Of the libraries that trained them."""
    decision: Decision | None = None
    """How a classification answers."""
    coverage: Sequence[Coverage] = ()
    """How often its intervals, or sets of classes, held what was true."""
    trained_on: TrainedOn = "train"
    """Whether all of that was measured of this very model, or before its refit."""
    importance: Importance | None = None
    """How much it relies on each feature (``ml.evaluation.importance``)."""
    checkpoint_id: str | None = None
    """The checkpoint that was promoted; ``None`` for what the job ended with."""


@dataclass(frozen=True)
class Origin:
    """The job that made a version, as far as it is known where it came from."""

    spec: JobSpec
    dataset_id: str
    dataset_sha256: str
    split: dict[str, int] | None
    metadata: dict[str, str]
    job_id: str | None = None
    """``None`` where the job was another server's."""

    @classmethod
    def of(cls, job: Job) -> "Origin":
        """Return a job of this server as an origin."""
        spec = job.spec
        return cls(spec, job.dataset_id, job.dataset_sha256, job.split, spec.metadata, job.id)


def register(session: Session, origin: Origin, name: str, result: Result) -> ModelVersion:
    """Return a new row: the next version of the model ``name``, of these weights."""
    spec = origin.spec
    version = ModelVersion(
        id=result.id,
        name=name,
        version=_next_version(session, name),
        job_id=origin.job_id or "",
        checkpoint_id=result.checkpoint_id,
        dataset_id=origin.dataset_id,
        dataset_sha256=origin.dataset_sha256,
        task=spec.task,
        features=result.features,
        target=spec.targets,
        metrics=result.metrics,
        lineage={
            "spec": spec.model_dump(mode="json"),
            "split": origin.split,
            "versions": result.versions,
            "trained_on": result.trained_on,
            "decision": result.decision and result.decision.model_dump(mode="json"),
            "importance": result.importance and result.importance.model_dump(mode="json"),
            "coverage": [item.model_dump(mode="json") for item in result.coverage],
        },
        parameters=result.parameters,
        metadata_=origin.metadata,
    )
    session.add(version)
    session.flush()
    return version


def _next_version(session: Session, name: str) -> int:
    """Return one more than ever before, also where two versions of one model are made at once."""
    raised = (
        update(ModelName)
        .where(ModelName.name == name)
        .values(last_version=ModelName.last_version + 1)
        .returning(ModelName.last_version)
        .execution_options(synchronize_session=False)
    )
    version = session.scalars(raised).one_or_none()
    if version is not None:
        return version
    try:
        with session.begin_nested():
            session.add(ModelName(name=name, last_version=1))
    except IntegrityError:  # the other was first
        return session.scalars(raised).one()
    return 1


# ---------------------------------------------------------------- found


def find(session: Session, ref: str) -> ModelVersion:
    """Return the version that ``ref`` means. Raises NotFound."""
    return _matching(session, ref, only_newest=True)[0]


def _matching(session: Session, ref: str, *, only_newest: bool = False) -> Sequence[ModelVersion]:
    """Return the versions that ``ref`` means, newest first; at least one. Raises NotFound."""
    by_id = session.get(ModelVersion, ref)
    if by_id is not None:
        return [by_id]
    found: Sequence[ModelVersion] = []
    match = _REF.fullmatch(ref)
    if match:
        statement = select(ModelVersion).where(ModelVersion.name == match["name"])
        if match["version"]:
            number = min(int(match["version"]), _BEYOND_ALL)  # the database has integers of 32 bits
            statement = statement.where(ModelVersion.version == number)
        elif match["alias"]:
            named = and_(Alias.name == ModelVersion.name, Alias.version == ModelVersion.version)
            statement = statement.join(Alias, named).where(Alias.alias == match["alias"])
        statement = statement.order_by(ModelVersion.version.desc())
        found = session.scalars(statement.limit(1 if only_newest else None)).all()
    if not found:
        raise _not_found(session, ref, match)
    return found


def _not_found(session: Session, ref: str, match: "re.Match[str] | None") -> NotFound:
    """Return the error that says whether the model, its version or its alias is not there."""
    name = match["name"] if match else ref
    if match and numbers(session, name):
        if match["alias"]:
            return no_alias(name, match["alias"])
        return NotFound(no_version(session, name, match["version"]))
    guess = nearest(name, session.scalars(select(ModelVersion.name).distinct()))
    remedy = f"did you mean '{guess}'?" if guess else "a job that succeeds makes one"
    return NotFound(f"there is no model '{ref[:64]}'; {remedy}")


def no_version(session: Session, name: str, version: int | str) -> str:
    """Return the sentence for a model that has no such version."""
    newest = numbers(session, name)[-1]
    return f"'{name[:64]}' has no version {version}; its newest is {newest}"


def no_alias(name: str, alias: str) -> NotFound:
    """Return the error for a model that has no such alias."""
    return NotFound(
        f"model '{name[:64]}' has no alias '{alias[:64]}'; "
        f"PUT /v1/models/{name[:64]}/aliases/{alias[:64]} makes it"
    )


def newest(session: Session, paging: Paging, *, named: bool = False) -> Page[ModelVersion]:
    """Return one page of models, each by its newest version; ``named``: only those that have not
    just their job's id for a name. Raises NotFound for an unknown ``after``."""
    last = (
        select(func.max(ModelVersion.version))
        .where(ModelVersion.name == _other.name)
        .correlate(_other)
        .scalar_subquery()
    )
    ids = select(_other.id).where(_other.version == last)
    where: list[ColumnElement[bool]] = [ModelVersion.id.in_(ids)]
    if named:
        where.append(ModelVersion.name != ModelVersion.job_id)
    return page(session, ModelVersion, paging, *where)


def of_model(session: Session, name: str, paging: Paging) -> Page[ModelVersion]:
    """Return one page of the versions of a model. Raises NotFound for an unknown model or
    ``after``."""
    # a job's result got its id when the job began, perhaps before one that was promoted since
    found = page(session, ModelVersion, paging, ModelVersion.name == name, by="version")
    if not found.rows:
        require_model(session, name)
    return found


def numbers(session: Session, name: str) -> Sequence[int]:
    """Return the numbers of a model's versions, oldest first; none for an unknown model."""
    found = select(ModelVersion.version).where(ModelVersion.name == name)
    return session.scalars(found.order_by(ModelVersion.version)).all()


def require_model(session: Session, name: str) -> None:
    """Raise NotFound where the model ``name`` has no version."""
    if session.scalars(select(ModelVersion.id).where(ModelVersion.name == name)).first() is None:
        raise _not_found(session, name, None)


# ---------------------------------------------------------------- deleted


@frees_room
def delete(context: Context, ref: str) -> None:
    """Delete one version (``name@3``, ``name@alias`` or id) or, by ``name``, all of them, with the
    aliases that name them, and free their disk.

    Their numbers are not used again. Raises NotFound.
    """
    with context.signals.models_changing(), context.database.write() as session:
        gone = _matching(session, ref)
        for version in gone:
            session.delete(version)
        session.flush()
        context.database.reclaim_space(session)
    for version in gone:
        context.storage.remove("models", version.id)
