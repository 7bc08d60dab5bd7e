"""Python clients of the HTTP API: `Client` for programs that block, `AsyncClient` for asyncio."""

from demucs_server_worker.client.answers import Health
from demucs_server_worker.client.asynchronous import AsyncClient
from demucs_server_worker.client.blocking import Client
from demucs_server_worker.client.server import Patience

__all__ = ["AsyncClient", "Client", "Health", "Patience"]
