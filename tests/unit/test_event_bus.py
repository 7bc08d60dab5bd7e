"""The bus that carries events from the manager."""

from __future__ import annotations

from structlog.testing import capture_logs

from demucs_server_worker.events import Event, EventBus, EventKind


def test_a_listener_that_fails_keeps_nobody_from_hearing() -> None:
    bus = EventBus(lambda: 1.0)
    heard: list[int] = []

    def fail(event: Event) -> None:
        raise ValueError(event)

    bus.call(fail)
    bus.call(lambda event: heard.append(event.seq))
    with capture_logs() as logs:
        bus.publish(EventKind.HEALTH_CHANGED)
        bus.publish(EventKind.HEALTH_CHANGED)
    assert heard == [1, 2]
    assert [line["event"] for line in logs] == ["a listener failed"] * 2


def test_who_asked_for_it_is_told_the_end_once() -> None:
    bus, ends = EventBus(lambda: 1.0), []
    bus.call(lambda event: None, lambda: ends.append("ended"))
    assert ends == []
    bus.close()
    assert ends == ["ended"]
