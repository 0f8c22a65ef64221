"""Everything fitserve raises on purpose.

::

    FitserveError
    ├── InvalidInput              the caller can mend it
    │   ├── MalformedRequest      it is not what HTTP wants
    │   ├── InvalidJSON
    │   ├── InvalidRequest        a field of the request is wrong
    │   ├── InvalidData           the table itself is wrong
    │   ├── NotApplicable         there is no such thing of this kind of resource
    │   ├── IdempotencyKeyReused
    │   ├── TooLarge
    │   │   ├── RequestLineTooLong
    │   │   └── HeadersTooLarge
    │   ├── RequestTimeout        the request came too slowly
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
    │   ├── QueueFull
    │   └── TooManyRequests       of one kind at once
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
    """The input is wrong, and the caller can mend it."""

    code = "invalid_request"


class MalformedRequest(InvalidInput):
    """The request is not put together as HTTP, or the type of its body, has it."""

    code = "invalid_request"


class InvalidJSON(InvalidInput):
    """The body is no JSON, or JSON that could mean two things."""

    code = "invalid_json"


class InvalidRequest(InvalidInput):
    """A field of the request is wrong."""

    code = "invalid_request"


class InvalidData(InvalidInput):
    """The table itself is wrong."""

    code = "invalid_data"


class NotApplicable(InvalidInput):
    """What was requested can never exist for this resource."""

    code = "not_applicable"


class IdempotencyKeyReused(InvalidInput):
    """The idempotency key came before with another request."""

    code = "idempotency_key_reused"


class TooLarge(InvalidInput):
    """The input is larger than a limit allows."""

    code = "too_large"


class RequestLineTooLong(TooLarge):
    """The request's line is longer than a limit allows."""


class HeadersTooLarge(TooLarge):
    """The request's headers are larger than a limit allows."""


class RequestTimeout(InvalidInput):
    """The request came too slowly."""

    code = "timeout"


class UnsupportedMediaType(InvalidInput):
    """The content is of a type that is not read here."""

    code = "unsupported_media_type"


class AccessDenied(FitserveError):
    """The caller may not do this."""

    code = "unauthorized"


class Unauthorized(AccessDenied):
    """The API key is missing or wrong."""

    code = "unauthorized"


class ForbiddenOrigin(AccessDenied):
    """The request comes from a page of another origin."""

    code = "forbidden_origin"


class UnknownHost(AccessDenied):
    """The request names a host that this server does not answer for."""

    code = "unknown_host"


class NotFound(FitserveError):
    """There is nothing of this name or id."""

    code = "not_found"


class NotAcceptable(FitserveError):
    """None of the media types that the caller accepts can be answered."""

    code = "not_acceptable"


class Conflict(FitserveError):
    """The request is right, and the moment is wrong."""

    code = "conflict"


class NameTaken(Conflict):
    """Something else has this name."""

    code = "name_taken"


class InUse(Conflict):
    """Something else needs what should be deleted."""

    code = "in_use"


class InvalidTransition(Conflict):
    """The job is in a state that does not allow this."""

    code = "invalid_transition"


class IdempotencyInProgress(Conflict):
    """The first request with this idempotency key is still being answered."""

    code = "idempotency_in_progress"


class NotReady(Conflict):
    """What was requested does not exist yet; it may come by waiting."""

    code = "not_ready"


class PreconditionFailed(Conflict):
    """``If-Match`` or ``If-None-Match`` does not hold."""

    code = "precondition_failed"


class QueueFull(Conflict):
    """Too many jobs are waiting."""

    code = "queue_full"


class TooManyRequests(Conflict):
    """As many requests of this kind as there may be are being answered."""

    code = "too_many_requests"


class ServiceError(FitserveError):
    """Something is wrong on our side."""

    code = "internal_error"


class Unavailable(ServiceError):
    """A part of the service cannot be reached; the same request may succeed later."""

    code = "unavailable"


class ShuttingDown(ServiceError):
    """The server is stopping; the same request will succeed once it is back."""

    code = "shutting_down"


class ArtifactCorrupt(ServiceError):
    """A stored artifact is missing or damaged."""

    code = "artifact_corrupt"


class StorageFull(ServiceError):
    """There is no room left on the disk."""

    code = "storage_full"


class TrainingError(FitserveError):
    """Training ended the job as ``failed``, with this code."""

    code = "internal_error"


class Diverged(TrainingError):
    """A loss is no longer a number."""

    code = "diverged"


class TimeLimit(TrainingError):
    """Training took longer than the job allows."""

    code = "time_limit"


class ConfigurationError(FitserveError):
    """A setting is wrong; the command line exits 78 (EX_CONFIG)."""

    code = "configuration"
