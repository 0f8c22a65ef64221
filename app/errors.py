"""Everything fitserve raises on purpose.

::

    FitserveError
    ├── InvalidInput              the caller can mend it
    │   ├── InvalidJSON
    │   ├── InvalidRequest        a field of the request is wrong
    │   ├── InvalidData           the table itself is wrong
    │   ├── IdempotencyKeyReused
    │   ├── TooLarge
    │   └── UnsupportedMediaType
    ├── AccessDenied
    │   ├── Unauthorized
    │   ├── ForbiddenOrigin
    │   └── UnknownHost
    ├── NotFound
    ├── NotAcceptable
    ├── Conflict                  right request, wrong moment
    │   ├── NameTaken
    │   ├── InUse
    │   ├── InvalidTransition
    │   ├── IdempotencyInProgress
    │   ├── NotReady
    │   ├── PreconditionFailed    If-Match or If-None-Match
    │   └── QueueFull
    ├── ServiceError              ours to mend
    │   ├── Unavailable
    │   ├── ShuttingDown
    │   ├── ArtifactCorrupt
    │   └── StorageFull
    ├── TrainingError             ends a job as ``failed`` with this code
    │   ├── Diverged
    │   └── TimeLimit
    └── ConfigurationError        the command line exits 78 (EX_CONFIG)

No HTTP here: ``app.api.http.problems`` says which status each code gets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class FieldError:
    """One wrong place in the input: a JSON pointer, what is wrong and the remedy."""

    pointer: str
    detail: str
    code: str = "invalid"


def escape(name: str) -> str:
    """Return a name as one part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


class FitserveError(Exception):
    """Base of all; ``code`` is the stable name that clients may branch on."""

    code = "internal_error"

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)

    @classmethod
    def at(cls, pointer: str, detail: str, code: str = "invalid") -> Self:
        """Return the error of one field; its detail doubles as the summary."""
        return cls(detail, [FieldError(pointer, detail, code)])


class InvalidInput(FitserveError):
    code = "invalid_request"


class InvalidJSON(InvalidInput):
    code = "invalid_json"


class InvalidRequest(InvalidInput):
    code = "invalid_request"


class InvalidData(InvalidInput):
    code = "invalid_data"


class IdempotencyKeyReused(InvalidInput):
    code = "idempotency_key_reused"


class TooLarge(InvalidInput):
    code = "too_large"


class UnsupportedMediaType(InvalidInput):
    code = "unsupported_media_type"


class AccessDenied(FitserveError):
    code = "unauthorized"


class Unauthorized(AccessDenied):
    code = "unauthorized"


class ForbiddenOrigin(AccessDenied):
    code = "forbidden_origin"


class UnknownHost(AccessDenied):
    code = "unknown_host"


class NotFound(FitserveError):
    code = "not_found"


class NotAcceptable(FitserveError):
    code = "not_acceptable"


class Conflict(FitserveError):
    code = "conflict"


class NameTaken(Conflict):
    code = "name_taken"


class InUse(Conflict):
    code = "in_use"


class InvalidTransition(Conflict):
    code = "invalid_transition"


class IdempotencyInProgress(Conflict):
    code = "idempotency_in_progress"


class NotReady(Conflict):
    code = "not_ready"


class PreconditionFailed(Conflict):
    code = "precondition_failed"


class QueueFull(Conflict):
    code = "queue_full"


class ServiceError(FitserveError):
    code = "internal_error"


class Unavailable(ServiceError):
    code = "unavailable"


class ShuttingDown(ServiceError):
    code = "shutting_down"


class ArtifactCorrupt(ServiceError):
    code = "artifact_corrupt"


class StorageFull(ServiceError):
    code = "storage_full"


class TrainingError(FitserveError):
    code = "internal_error"


class Diverged(TrainingError):
    code = "diverged"


class TimeLimit(TrainingError):
    code = "time_limit"


class ConfigurationError(FitserveError):
    code = "configuration"
