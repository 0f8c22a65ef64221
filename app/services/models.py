"""Model versions: by ``name`` (newest), ``name@3`` or id."""

import re
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from app.db.models import ModelVersion
from app.errors import NotFound
from app.services.context import Context
from app.services.listing import Page, Paging, page

_other = aliased(ModelVersion)
_REF = re.compile(r"(?P<name>[^@]+)(?:@(?P<version>[0-9]{1,9}))?")


def find(session: Session, ref: str) -> ModelVersion:
    """The version that ``ref`` names. Raises NotFound."""
    return _all(session, ref, only_newest=True)[0]


def _all(session: Session, ref: str, *, only_newest: bool = False) -> Sequence[ModelVersion]:
    """The versions that ``ref`` names, newest first; at least one. Raises NotFound."""
    by_id = session.get(ModelVersion, ref)
    if by_id is not None:
        return [by_id]
    found: Sequence[ModelVersion] = []
    match = _REF.fullmatch(ref)
    if match:
        statement = select(ModelVersion).where(ModelVersion.name == match["name"])
        if match["version"]:
            statement = statement.where(ModelVersion.version == int(match["version"]))
        statement = statement.order_by(ModelVersion.version.desc())
        found = session.scalars(statement.limit(1 if only_newest else None)).all()
    if not found:
        raise NotFound(f"there is no model '{ref[:64]}'; a job that succeeds makes one")
    return found


def newest(session: Session, paging: Paging) -> Page[ModelVersion]:
    """One page of models, each by its newest version."""
    last = (
        select(func.max(ModelVersion.version))
        .where(ModelVersion.name == _other.name)
        .correlate(_other)
        .scalar_subquery()
    )
    ids = select(_other.id).where(_other.version == last)
    return page(session, ModelVersion, paging, ModelVersion.id.in_(ids))


def versions(session: Session, name: str, paging: Paging) -> Page[ModelVersion]:
    """One page of the versions of a model."""
    found = page(session, ModelVersion, paging, ModelVersion.name == name)
    if not found.rows and paging.after is None:
        raise NotFound(f"there is no model '{name[:64]}'")
    return found


def numbers(session: Session, name: str) -> Sequence[int]:
    """The versions that a model has, oldest first."""
    found = select(ModelVersion.version).where(ModelVersion.name == name)
    return session.scalars(found.order_by(ModelVersion.version)).all()


def delete(context: Context, ref: str) -> None:
    """Forget one version (``name@3`` or id) or, by ``name``, all of them, and free their disk.

    Their numbers are not used again. Raises NotFound.
    """
    with context.database.write() as session:
        gone = _all(session, ref)
        for version in gone:
            session.delete(version)
        session.flush()
        context.database.give_back_room(session)
    context.signals.models_changed()
    for version in gone:
        context.storage.remove("models", version.id)
