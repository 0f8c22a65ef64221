"""Model versions: by ``name`` (newest), ``name@3`` or id."""

import re

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from app.db.models import ModelVersion
from app.errors import NotFound
from app.services.listing import Page, Paging, page

_other = aliased(ModelVersion)
_REF = re.compile(r"(?P<name>[^@]+)(?:@(?P<version>[0-9]{1,9}))?")


def find(session: Session, ref: str) -> ModelVersion:
    """The version that ``ref`` names. Raises NotFound."""
    by_id = session.get(ModelVersion, ref)
    if by_id is not None:
        return by_id
    match = _REF.fullmatch(ref)
    if match:
        statement = select(ModelVersion).where(ModelVersion.name == match["name"])
        if match["version"]:
            statement = statement.where(ModelVersion.version == int(match["version"]))
        newest = statement.order_by(ModelVersion.version.desc()).limit(1)
        found = session.scalars(newest).one_or_none()
        if found is not None:
            return found
    raise NotFound(f"there is no model '{ref[:64]}'; a job that succeeds makes one")


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
