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
from app.services.models import versions

ANY = "*"


@dataclass(frozen=True)
class Condition:
    """``If-Match`` and ``If-None-Match``: the versions (or ``"*"``) one of which an alias must name
    already, and those none of which it may; ``None``: the header was left out."""

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None

    def holds(self, version: int | None) -> bool:
        """Whether it does for an alias of ``version``, or for none."""
        there = set() if version is None else {str(version), ANY}
        matches = self.match is None or not there.isdisjoint(self.match)
        return matches and (self.none_match is None or there.isdisjoint(self.none_match))

    def require(self, alias: str, version: int | None) -> None:
        """Raise PreconditionFailed where it does not hold."""
        if self.holds(version):
            return
        header = "If-None-Match" if Condition(match=self.match).holds(version) else "If-Match"
        stands = f"names version {version}" if version is not None else "is not there"
        raise PreconditionFailed.at(
            f"/{header}",
            f"alias '{alias[:64]}' {stands}, and {header} wants it otherwise; "
            f"look at it again, and send its ETag or leave {header} out",
        )


def put(
    context: Context, name: str, alias: str, version: int, condition: Condition
) -> tuple[Alias, bool]:
    """Have an alias name a version; ``(alias, whether it is new)``.

    Of several that race under one condition, one wins. Raises NotFound where there is no such
    model, PreconditionFailed, or InvalidRequest where it has no such version.
    """
    with context.signals.models_changing(), context.database.write() as session:
        versions.require_named(session, name)
        wanted = select(ModelVersion.id).where(
            ModelVersion.name == name, ModelVersion.version == version
        )
        # kept until the commit; always before the alias, as in a deletion, so that none waits for
        # the other
        there = session.scalars(wanted.with_for_update(read=True, key_share=True)).first()
        while True:
            row = _locked(session, name, alias)
            condition.require(alias, row.version if row else None)
            if there is None:
                detail = versions.without_version(session, name, version)
                raise InvalidRequest.at("/version", detail, "unknown_version")
            if row is not None:
                row.version, row.updated_at = version, now()
                return row, False
            made = Alias(name=name, alias=alias, version=version)
            with suppress(IntegrityError), session.begin_nested():  # else the other was first
                session.add(made)
                session.flush()
                return made, True


def _locked(session: Session, name: str, alias: str) -> Alias | None:
    """As it is once whoever writes it has committed, and stays until we do."""
    return session.get(Alias, (name, alias), with_for_update=True, populate_existing=True)


def find(session: Session, name: str, alias: str, *, lock: bool = False) -> Alias:
    """``lock`` keeps it until the transaction ends. Raises NotFound."""
    row = _locked(session, name, alias) if lock else session.get(Alias, (name, alias))
    if row is None:
        versions.require_named(session, name)
        raise versions.no_alias(name, alias)
    return row


def listed(session: Session, name: str) -> Sequence[Alias]:
    """All of one model, by name. Raises NotFound where there is no such model."""
    versions.require_named(session, name)
    return session.scalars(select(Alias).where(Alias.name == name).order_by(Alias.alias)).all()


def of(session: Session, versions: Sequence[ModelVersion]) -> dict[str, list[str]]:
    """The aliases of each version by its id, in one look; empty lists included."""
    pairs = [(version.name, version.version) for version in versions]
    named = tuple_(Alias.name, Alias.version).in_(pairs)
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in session.scalars(select(Alias).where(named).order_by(Alias.alias)):
        found[row.name, row.version].append(row.alias)
    return {item.id: found[item.name, item.version] for item in versions}


def delete(context: Context, name: str, alias: str, condition: Condition) -> None:
    """Forget an alias; its version stays. Raises NotFound or PreconditionFailed."""
    with context.signals.models_changing(), context.database.write() as session:
        row = find(session, name, alias, lock=True)
        condition.require(alias, row.version)
        session.delete(row)
