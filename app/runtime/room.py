"""What frees room is done on a full disk too."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from app.errors import StorageFull
from app.runtime.context import Context

P = ParamSpec("P")
R = TypeVar("R")


def frees_room(work: Callable[Concatenate[Context, P], R]) -> Callable[Concatenate[Context, P], R]:
    """Have ``work`` done once more, with the database's reserve, where it met a full disk.

    Its transaction has been rolled back by then. Raises StorageFull where even that is not enough,
    or where there is no reserve (Postgres).
    """

    @wraps(work)
    def done(context: Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return work(context, *args, **kwargs)
        except StorageFull:
            if context.database.reserve is None:
                raise
            with context.database.reserve.opened():
                return work(context, *args, **kwargs)

    return done
