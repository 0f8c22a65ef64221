"""How fast an attempt trains."""

import time


class Pace:
    """The clock of one attempt, which begins with its process."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first_epoch: tuple[int, float] | None = None
        self.seconds_per_epoch: float | None = None
        """Of this attempt, ``None`` before its first epoch; the start of its process is left out as
        soon as two epochs have ended."""

    @property
    def seconds(self) -> float:
        """Seconds since this attempt began."""
        return time.monotonic() - self._started

    def epoch_ended(self, epoch: int) -> None:
        """Take note that the epoch of this number has ended just now."""
        now = time.monotonic()
        if self._first_epoch is None:
            self._first_epoch = epoch, now
            self.seconds_per_epoch = self.seconds
        else:
            first, since = self._first_epoch
            self.seconds_per_epoch = (now - since) / (epoch - first)
