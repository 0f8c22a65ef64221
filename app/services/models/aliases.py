"""Aliases: names for versions of a model that can be moved, by clients that may race."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.models import Alias, ModelVersion, now
from app.errors import InvalidRequest, PreconditionFailed
from app.runtime.context import Context
from app.runtime.pagination import Page, Paging, page
from app.services.models import versions

ANY = "*"
"""As an entity tag: whatever it is."""


@dataclass(frozen=True)
class Condition:
    """``If-Match`` and ``If-None-Match`` (RFC 9110, section 13.1) on an alias.

    The alias must name one of the versions in ``match`` already, and none of those in
    ``none_match``; ``"*"`` is any version, ``None`` a header that was left out.
    """

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None

    def holds(self, version: int | None) -> bool:
        """Return whether it holds for an alias of ``version``; ``None``: it is not there."""
        tags = set() if version is None else {str(version), ANY}
        matches = self.match is None or not tags.isdisjoint(self.match)
        return matches and (self.none_match is None or tags.isdisjoint(self.none_match))

    def require(self, alias: str, version: int | None) -> None:
        """Raise PreconditionFailed where it does not hold for ``alias``."""
        if self.holds(version):
            return
        header = "If-None-Match" if Condition(match=self.match).holds(version) else "If-Match"
        state = f"names version {version}" if version is not None else "is not there"
        raise PreconditionFailed.at(
            f"/{header}",
            f"alias '{alias[:64]}' {state}, and {header} wants it otherwise; "
            f"look at it again, and send its ETag or leave {header} out",
        )


def put(
    context: Context, name: str, alias: str, version: int, condition: Condition
) -> tuple[Alias, bool]:
    """Make an alias name a version; return ``(alias, whether it is new)``.

    Of several that race under one condition, one wins. Raises NotFound where there is no such
    model, PreconditionFailed, or InvalidRequest where it has no such version.
    """
    with context.signals.models_changing(), context.database.write() as session:
        versions.require_model(session, name)
        target = select(ModelVersion.id).where(
            ModelVersion.name == name, ModelVersion.version == version
        )
        # locked until the commit; always before the alias, as in a deletion, so that none waits for
        # the other
        version_id = session.scalars(target.with_for_update(read=True, key_share=True)).first()
        while True:
            row = _locked(session, name, alias)
            condition.require(alias, row.version if row else None)
            if version_id is None:
                detail = versions.no_version(session, name, version)
                raise InvalidRequest.at("/version", detail, "unknown_version")
            if row is not None:
                row.version, row.updated_at = version, now()
                return row, False
            created = Alias(name=name, alias=alias, version=version)
            with suppress(IntegrityError), session.begin_nested():  # else the other was first
                session.add(created)
                session.flush()
                return created, True


def _locked(session: Session, name: str, alias: str) -> Alias | None:
    """Return the alias as it is once whoever writes it has committed; it stays so until we do."""
    return session.get(Alias, (name, alias), with_for_update=True, populate_existing=True)


def find(session: Session, name: str, alias: str, *, lock: bool = False) -> Alias:
    """Return an alias; ``lock`` holds it until the transaction ends. Raises NotFound."""
    row = _locked(session, name, alias) if lock else session.get(Alias, (name, alias))
    if row is None:
        versions.require_model(session, name)
        raise versions.no_alias(name, alias)
    return row


def listed(session: Session, name: str, paging: Paging) -> Page[Alias]:
    """Return one page of a model's aliases, by alias; ``after`` is an alias or its reference.

    Raises NotFound where there is no such model, or for an unknown ``after``.
    """
    versions.require_model(session, name)

    def after(ref: str) -> Alias:
        return find(session, name, ref.removeprefix(f"{name}@"))

    return page(session, Alias, paging, Alias.name == name, by="alias", find=after)


def by_version(session: Session, versions: Sequence[ModelVersion]) -> dict[str, list[str]]:
    """Return the aliases of each version by its id, in one query; empty lists included."""
    pairs = [(version.name, version.version) for version in versions]
    named = tuple_(Alias.name, Alias.version).in_(pairs)
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in session.scalars(select(Alias).where(named).order_by(Alias.alias)):
        found[row.name, row.version].append(row.alias)
    return {item.id: found[item.name, item.version] for item in versions}


def delete(context: Context, name: str, alias: str, condition: Condition) -> None:
    """Delete an alias; its version stays. Raises NotFound or PreconditionFailed."""
    with context.signals.models_changing(), context.database.write() as session:
        row = find(session, name, alias, lock=True)
        condition.require(alias, row.version)
        session.delete(row)
