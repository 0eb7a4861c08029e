"""Everything that comes from the hub, as one hot observable that starts with the present state."""

from __future__ import annotations

from collections.abc import Hashable

from reactivex import abc

from wakestream.operators.model.ports import LinkDown, LinkUp
from wakestream.streams.jobs.keyed_subject import Fault, KeyedSubject
from wakestream.streams.protocol import messages as m

HubEvent = m.Message | LinkUp | LinkDown
"""`LinkUp`, every message in between, and `LinkDown` at each loss and each attempt that failed."""


class HubNews(KeyedSubject[HubEvent]):
    """Emits first the present `LinkUp` or `LinkDown` and the last `PowerState` of each GPU, then every event.

    `stops_in` of such an earlier `PowerState` counts from the time when it came.

    Example:
        >>> news = HubNews(on_fault=lambda error, item: logger.error(error))
        >>> news.subscribe(print)

    Args:
        on_fault: Is called with the error and the item when an observer raises.
    """

    def __init__(self, on_fault: Fault) -> None:
        super().__init__(on_fault)
        self._link: LinkUp | LinkDown | None = None
        self._power: dict[str, m.PowerState] = {}

    def _deliver(self, item: HubEvent, key: Hashable | None) -> None:
        if isinstance(item, m.PowerState):
            self._power[item.gpu] = item
        elif isinstance(item, LinkUp) or isinstance(item, LinkDown):  # noqa: SIM101 - called for each message: a union is slow
            self._link = item
            self._power.clear()
        super()._deliver(item, key)

    def _listen(
        self, observer: abc.ObserverBase[HubEvent], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        listener = super()._listen(observer, scheduler)
        delivering, self._feeding = self._feeding, True  # what is fed meanwhile comes after these
        link = () if self._link is None else (self._link,)
        try:
            for item in (*link, *self._power.values()):
                observer.on_next(item)
        except Exception:
            listener.dispose()
            raise
        finally:
            self._feeding = delivering
            if not delivering:
                self._deliver_queued()
        return listener
