"""Tells webhooks what happened: each origin has a lane of its own, so that one that is down holds up no other.

A delivery leaves the database when it was taken or is given up. A crash in between has it told again with the same id:
a receiver hears of each event at least once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from typing import Protocol, TypeVar

import structlog

from demucs_server_worker.clock import SteadyClock
from demucs_server_worker.events import Event
from demucs_server_worker.pool.backoff import Backoff
from demucs_server_worker.queue.deliveries import Batch, Deliveries, Delivery
from demucs_server_worker.webhooks.parcel import body_of, headers_of
from demucs_server_worker.webhooks.rules import Rules
from demucs_server_worker.webhooks.schedule import Answer, answer_of, next_try
from demucs_server_worker.webhooks.sender import NotSent, Sender
from demucs_server_worker.webhooks.target import parse_target

T = TypeVar("T")

# To one origin; one that failed last time is tried with a single request.
AT_ONCE_TO_ONE = 4
# To all of them. Those that are down take one each.
AT_ONCE = 32
# An origin that has had nothing for so long is forgotten until there is something again.
IDLE_SECONDS = 60.0

_log = structlog.get_logger("demucs_server_worker.webhooks")


class Store(Protocol):
    """Runs a verb of the deliveries on the thread of their database, as `WorkerManager.with_deliveries`."""

    def __call__(self, verb: Callable[[Deliveries], T], /) -> Awaitable[T]: ...


class Courier:
    """Delivers what the database holds and what comes in. It belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        rules: Rules,
        *,
        clock: Callable[[], float] | None = None,
        on_result: Callable[[str, float], None] = lambda result, seconds: None,
        sender: Sender | None = None,
    ) -> None:
        """Args: store: the deliveries; rules: what the administrator allows; clock: epoch seconds, steady by default;
        on_result: told how each try ended (`delivered`, `failed`, `given_up`) and how many seconds it took; sender: by
        default one that obeys the rules."""
        self._store = store
        self._secret = rules.secret
        self._clock = clock or SteadyClock()
        self._on_result = on_result
        self._sender = sender or Sender(rules)
        self._places = asyncio.Semaphore(AT_ONCE)
        self._lanes: dict[str, _Lane] = {}
        self._ended = False

    @property
    def pending(self) -> int:
        """How many deliveries wait or are under way."""
        return sum(lane.pending for lane in self._lanes.values())

    async def start(self) -> None:
        """Take up what earlier servers left; from now on `hear` is to be called for every event."""
        for origin in await self._store(Deliveries.begin):
            self._wake(origin)

    def hear(self, event: Event) -> None:
        """Something happened to a task, and stands in the database."""
        webhook = event.task.request.webhook if event.task is not None else None
        if webhook is not None and event.kind in webhook.events:
            # Counted again, and exactly, when the lane looks next.
            self._wake(parse_target(webhook.url).origin, more=1)

    def end(self) -> None:
        """Stop at once: what is under way is told again by the next server. The store is not touched after this."""
        self._ended = True
        for lane in self._lanes.values():
            lane.running.cancel()

    async def close(self) -> None:
        """`end`, and give back what is held."""
        self.end()
        await asyncio.gather(*(lane.running for lane in self._lanes.values()), return_exceptions=True)
        await self._sender.close()

    def _wake(self, origin: str, more: int = 0) -> None:
        if self._ended:
            return
        lane = self._lanes.get(origin)
        if lane is None:
            lane = self._lanes[origin] = _Lane(origin)
            # In no request's context: what is logged there is not about the request that happened to wake it.
            lane.running = asyncio.create_task(self._work(lane), name=f"webhook {origin}", context=Context())
        lane.pending += more
        lane.news.set()

    async def _work(self, lane: _Lane) -> None:
        """Deliver to one origin until it has had nothing for a while."""
        trouble = Backoff()
        while True:
            lane.news.clear()
            try:
                batch = await self._batch(lane)
                await self._send_all(lane, batch)
            except Exception:
                # The disk is full, or another program has the database locked: nothing is lost by waiting.
                _log.exception("webhooks wait for the database", origin=lane.origin)
                await asyncio.sleep(trouble.delay())
                continue
            trouble = Backoff()
            if batch.deliveries:
                continue
            await lane.rest(IDLE_SECONDS if batch.next_due is None else batch.next_due - self._clock())
            if batch.pending == 0 and not lane.news.is_set():
                del self._lanes[lane.origin]
                return

    async def _batch(self, lane: _Lane) -> Batch:
        limit = 1 if lane.failing else AT_ONCE_TO_ONE
        batch = await self._store(lambda deliveries: deliveries.due(lane.origin, now=self._clock(), limit=limit))
        lane.pending = batch.pending
        return batch

    async def _send_all(self, lane: _Lane, batch: Batch) -> None:
        if batch.deliveries:
            # All of them end before the next batch is asked for: none is under way twice.
            ends = await asyncio.gather(*map(self._deliver, batch.deliveries), return_exceptions=True)
            lane.failing = True not in ends
            for error in (end for end in ends if isinstance(end, BaseException)):
                raise error

    async def _deliver(self, delivery: Delivery) -> bool:
        """Try once, and store how it ended. Returns whether the receiver is up."""
        async with self._places:
            began = time.monotonic()
            answer, reason = await self._try(delivery)
            seconds = time.monotonic() - began
        if answer is Answer.FAILED:
            await self._put_off(delivery, reason, seconds)
            return False
        if answer is Answer.GONE:
            _log.warning("webhook given up", **_named(delivery), reason=reason)
        self._on_result("delivered" if answer is Answer.TAKEN else "given_up", seconds)
        await self._store(lambda deliveries: deliveries.remove(delivery.number))
        return True

    async def _try(self, delivery: Delivery) -> tuple[Answer, str]:
        body = body_of(delivery)
        # The receiver compares the time with its own clock, so it is that of the machine.
        headers = headers_of(delivery, body, self._secret or "", time.time())
        try:
            status = await self._sender.post(parse_target(delivery.url), body, headers)
        except NotSent as error:
            return Answer.FAILED, str(error)
        return answer_of(status), f"it answered {status}"

    async def _put_off(self, delivery: Delivery, reason: str, seconds: float) -> None:
        now = self._clock()
        tries, first = delivery.tries + 1, delivery.first_try_at or now
        due_at = next_try(tries, first, now, random.random())  # noqa: S311 - spreads load, keeps no secret
        if due_at is None:
            _log.error("webhook given up", **_named(delivery), tries=tries, reason=reason)
            self._on_result("given_up", seconds)
            await self._store(lambda deliveries: deliveries.remove(delivery.number))
            return
        again = round(due_at - now)
        _log.info("webhook not delivered yet", **_named(delivery), tries=tries, reason=reason, again_seconds=again)
        self._on_result("failed", seconds)
        await self._store(
            lambda deliveries: deliveries.postpone(delivery.number, tries=tries, first_try_at=first, due_at=due_at)
        )


class _Lane:
    """One origin: what wakes it, and how it fares."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.news = asyncio.Event()
        self.pending = 0
        self.failing = False
        self.running: asyncio.Task[None]

    async def rest(self, seconds: float) -> None:
        """Wait for news, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self.news.wait()


def _named(delivery: Delivery) -> dict[str, str]:
    return {"task": delivery.task.id, "kind": delivery.event, "origin": delivery.origin, "delivery": delivery.id}
