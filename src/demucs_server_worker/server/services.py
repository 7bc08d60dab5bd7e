"""What the routes work with: the manager, and what the server keeps beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from demucs_server_worker.assistant.assistant import Assistant
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.server.derived import FOLDER, Derived
from demucs_server_worker.server.feed import Feed
from demucs_server_worker.server.gauges import StatusCollector
from demucs_server_worker.server.listing import Listing
from demucs_server_worker.server.metrics import Metrics
from demucs_server_worker.server.retention import Retention
from demucs_server_worker.server.security import Keys, Sessions
from demucs_server_worker.server.uploads import UploadStore, sweep_uploads
from demucs_server_worker.settings import Settings
from demucs_server_worker.stem_files import StemFiles
from demucs_server_worker.webhooks.courier import Courier
from demucs_server_worker.webhooks.rules import Rules


@dataclass(frozen=True, kw_only=True)
class Services:
    """All that a route may need; handed down, never global.

    Attributes:
        manager: started.
        listing: lists its tasks.
        settings: the manager's.
        keys: the API keys, hashed.
        sessions: of web pages that have shown a key.
        assistant: looks into songs.
        uploads: the songs that clients sent.
        webhook_rules: to whom events may be told.
        feed: events, for those who listen.
        courier: tells webhooks.
        metrics: figures for Prometheus.
        stem_files: opens stems.
        derived: what is made of stems on request.
        retention: deletes tasks with their files.
    """

    manager: WorkerManager
    listing: Listing
    settings: Settings
    keys: Keys
    sessions: Sessions
    assistant: Assistant
    uploads: UploadStore
    webhook_rules: Rules
    feed: Feed
    courier: Courier
    metrics: Metrics
    stem_files: StemFiles
    derived: Derived
    retention: Retention


@asynccontextmanager
async def opened(manager: WorkerManager) -> AsyncIterator[Services]:
    """The services over a manager that has been started; what they began is ended with the block."""
    settings = manager.settings
    assistant, uploads = Assistant(), UploadStore(settings.data_dir)
    derived = Derived(settings.data_dir / FOLDER, assistant, most_bytes=settings.derived_size)
    rules, feed, metrics, listing = Rules.of(settings), Feed(manager), Metrics(), Listing(manager)
    courier = Courier(manager.with_deliveries, rules, on_result=metrics.told)
    manager.follow(metrics.hear)
    manager.follow(courier.hear, courier.end)
    manager.follow(lambda _: None, listing.close)
    metrics.registry.register(StatusCollector(manager.get_status, {
        "event_listeners": lambda: feed.history.waiting, "webhook_pending": lambda: courier.pending,
    }))  # fmt: skip
    services = Services(
        manager=manager, listing=listing, settings=settings, keys=Keys(settings.api_keys), sessions=Sessions(),
        assistant=assistant, uploads=uploads, webhook_rules=rules, feed=feed, courier=courier, metrics=metrics,
        stem_files=StemFiles(), derived=derived,
        retention=Retention(manager, uploads, derived, seconds=settings.result_ttl),
    )  # fmt: skip
    try:
        await services.courier.start()
        await sweep_uploads(services.uploads, manager.list_tasks)
        await asyncio.to_thread(derived.discard_halves)
        manager.encode_with(assistant)
        services.retention.start()
        yield services
    finally:
        listing.close()
        await services.retention.stop()
        await services.derived.stop()
        await services.courier.close()
        await services.assistant.stop()
        services.uploads.close()


async def _given(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101 - put there by `create_app`
    return services


Given = Annotated[Services, Depends(_given)]
"""The annotation of a route's parameter that gets the services: `async def route(services: Given)`."""
