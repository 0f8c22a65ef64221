"""What every use case needs, made once at the start and passed down."""

from dataclasses import dataclass, field
from threading import Event

from app import storage
from app.db.session import Database
from app.errors import StorageFull
from app.executors.parsers import Parsers
from app.executors.plotters import Plotters
from app.runtime.signals import Signals
from app.settings import Settings
from app.storage import Storage


@dataclass(frozen=True)
class Context:
    """Settings, storage, database and helpers of this process, as its services see them."""

    settings: Settings
    storage: Storage
    database: Database
    parsers: Parsers
    plotters: Plotters = field(default_factory=Plotters)
    signals: Signals = field(default_factory=Signals)
    stopping: Event = field(default_factory=Event)
    """Set once the process has been asked to end; nothing new is begun then."""
    closed: Event = field(default_factory=Event)
    """Set when running jobs have been released."""

    def require_room(self) -> None:
        """Raise StorageFull where the disk has less left than is to stay free, or what it has is
        being used to free some."""
        if self.database.reserve is not None and self.database.reserve.is_open:
            raise StorageFull(storage.NO_ROOM)
        storage.require_room(self.storage.scratch, self.settings.min_free_bytes)
