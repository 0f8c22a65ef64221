"""Settings: ``FITSERVE_*`` in the environment, read once at the entry point and passed down."""

import ipaddress
import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import ConfigurationError

MIB = 1024 * 1024
_POSTGRES = re.compile(r"^postgres(ql)?(\+psycopg)?://")


def memory_of_machine() -> int:
    """Return the bytes of memory of this machine, or of the container's limit (cgroup v2)."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return installed
    return min(installed, int(limit)) if limit.isdigit() else installed


class Settings(BaseSettings):
    """The settings of one process; every field can be set as ``FITSERVE_<FIELD>``."""

    model_config = SettingsConfigDict(
        env_prefix="FITSERVE_", frozen=True, extra="forbid", env_ignore_empty=True
    )

    data_dir: Path = Field(
        Path("fitserve-data"), description="database and artifacts; made if missing"
    )
    database_url: SecretStr | None = Field(
        None,
        description="postgresql://user:password@host/name for the job table; "
        "default: SQLite in data_dir",
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    keep_alive: int = Field(
        75, ge=1, le=3600, description="seconds after which an idle connection is closed"
    )
    api_key: SecretStr | None = Field(None, description="bearer key; needed beyond loopback")
    max_parallel_jobs: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)),
        ge=0,
        description="training jobs at once in this process; default: the cores of this machine; "
        "0, with Postgres: leave training to `fitserve worker`",
    )
    lease_seconds: float = Field(
        15,
        ge=1,
        le=30,
        description="with Postgres: a worker that is silent for so long has lost its jobs",
    )
    max_json_bytes: int = Field(16 * MIB, ge=1024, description="largest JSON body")
    max_upload_bytes: int = Field(2048 * MIB, ge=1024, description="largest uploaded file")
    max_decoded_bytes: int = Field(
        256 * MIB,
        ge=1024,
        description="largest file once unpacked; 50 times what was sent is allowed in any case",
    )
    parse_memory_bytes: int = Field(
        default_factory=lambda: max(2048 * MIB, memory_of_machine() // 3),
        ge=1536 * MIB,
        description="memory of a process that reads a file; default: a third of the machine's, "
        "at least 2 GiB",
    )
    parse_seconds: float = Field(600, gt=0, description="time to read one file")
    max_queued_jobs: int = Field(
        20_000, ge=1, description="jobs that may wait; more are answered 429"
    )
    min_free_bytes: int | None = Field(
        None,
        ge=0,
        description="free disk below which nothing new is taken (507); "
        "default: 64 MiB, or a hundredth of a small disk",
    )
    checkpoint_days: float | None = Field(
        None,
        ge=0,
        description="days for which checkpoints of ended jobs are kept; default: until the job "
        "is deleted",
    )
    default_model: str | None = Field(
        None,
        max_length=128,
        description="model reference that answers MLflow's /invocations and /ping",
    )
    max_predict_rows: int = Field(
        10_000_000, ge=1, description="rows in one request to predict; more are answered 413"
    )
    model_cache_bytes: int = Field(
        512 * MIB, ge=0, description="memory for loaded models; the least recently used go first"
    )
    max_batch_size: int = Field(
        1024, ge=1, description="rows that concurrent predictions of larger models share a pass in"
    )
    max_delay_ms: float = Field(
        0,
        ge=0,
        le=1000,
        description="how long such a pass waits for more rows; 0: it takes what came while the "
        "one before was computed",
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    access_log: bool = Field(True, description="a line for every request; on or off")

    @field_validator("api_key")
    @classmethod
    def _blank_key_is_no_key(cls, key: SecretStr | None) -> SecretStr | None:
        return key if key and key.get_secret_value().strip() else None

    @field_validator("database_url")
    @classmethod
    def _only_postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not _POSTGRES.match(url.get_secret_value()):
            raise ValueError(
                "this wants postgresql://user:password@host/name; leave it out for SQLite in "
                "FITSERVE_DATA_DIR"
            )
        return url

    @property
    def postgres_url(self) -> str | None:
        """``database_url`` with its driver named; ``None`` where SQLite is used."""
        if self.database_url is None:
            return None
        return _POSTGRES.sub("postgresql+psycopg://", self.database_url.get_secret_value(), 1)

    @property
    def on_loopback(self) -> bool:
        """Whether ``host`` is reachable from this machine alone."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def require_safe_host(self) -> None:
        """Raise ConfigurationError where ``host`` lies beyond loopback and there is no key."""
        if not self.on_loopback and self.api_key is None:
            raise ConfigurationError(
                f"refusing to listen on {self.host} without a key: anyone who reaches it could "
                "train and read models. Set FITSERVE_API_KEY to a long random string "
                "(openssl rand -hex 32), or leave --host at 127.0.0.1"
            )


def unknown_settings() -> dict[str, str | None]:
    """Return variables that look like ours and are not (typos, or of another version), each with
    the one that may have been meant."""
    known = {f"FITSERVE_{name}".upper() for name in Settings.model_fields}
    unknown = sorted(set(os.environ) - known)
    return {
        name: next(iter(get_close_matches(name, known, n=1, cutoff=0.8)), None)
        for name in unknown
        if name.startswith("FITSERVE_")
    }


def load_settings(**overrides: object) -> Settings:
    """Return settings from the environment, with the command line's ``overrides`` on top.

    Raises ConfigurationError naming the variable that is wrong.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic checks each at run time
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = f"FITSERVE_{'.'.join(str(part) for part in first['loc'])}".upper()
        problem = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{name}: {problem}") from error
