"""Which days share a partition on disk, so that each holds about as many events. Knows times in seconds, no users."""

import numpy as np
import numpy.typing as npt

from slipway.workloads.movies.interactions import IntArray

DAY = 86_400  # seconds
AT_ONCE = 1 << 20  # events of a partition, about: what sorting and writing hold in memory


class Days:
    """The histogram of days while events come in, then their partitions: neighbouring days together, a day with more
    than `at_once` events over several.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.at_once = at_once
        self._first = 0
        self._counts = np.zeros(0, np.int64)

    def see(self, seconds: IntArray) -> None:
        if not len(seconds):
            return
        days = seconds // DAY
        first, last = int(days.min()), int(days.max())
        self._cover(first, last)
        counts = np.bincount(days - first)
        place = first - self._first
        self._counts[place : place + len(counts)] += counts

    def _cover(self, first: int, last: int) -> None:
        if not len(self._counts):
            self._first = first
        before = max(0, self._first - first)
        after = max(0, last + 1 - self._first - len(self._counts))
        if before or after:
            self._counts = np.pad(self._counts, (before, after))
            self._first -= before

    def plan(self) -> "Plan":
        widths = np.maximum(1, -(-self._counts // self.at_once))
        begins = np.zeros(len(self._counts), np.int64)
        partition, filled = 0, 0
        for day, count in enumerate(self._counts):
            if filled and (filled + count > self.at_once or widths[day] > 1):
                partition, filled = partition + 1, 0
            begins[day] = partition
            filled += int(count)
            if widths[day] > 1:
                partition, filled = partition + int(widths[day]), 0
        return Plan(self._first, begins, widths, partition + 1)


class Plan:
    """begins: (days,) the first partition of each day from `first` on; widths: (days,) over how many it is spread."""

    def __init__(self, first: int, begins: IntArray, widths: IntArray, count: int) -> None:
        self.first, self.begins, self.widths, self.count = first, begins, widths, count

    def owners(self, seconds: IntArray, users: IntArray) -> npt.NDArray[np.uint16]:
        """(events,) the partition of each; a day that is spread is parted by user."""
        days = seconds // DAY - self.first
        owners = self.begins[days]
        if (self.widths > 1).any():
            owners = owners + users % self.widths[days]
        return owners.astype(np.uint16)
