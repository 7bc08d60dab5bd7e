"""Every setting once: its name, default, unit, and one line of doc.

A value comes from an argument, else from the environment, else from a TOML file, else it is the default. Arguments and
the keys of the file are the fields' names; in the environment they stand behind `DEMUCS_WORKER_`, the first three also
without it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AliasChoices, BeforeValidator, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import InitSettingsSource

from demucs_server_worker.errors import InvalidOption, InvalidSetting
from demucs_server_worker.options import SeparationOptions

PREFIX = "DEMUCS_WORKER_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"

_SIZE_BYTES = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
               "kib": 2**10, "mib": 2**20, "gib": 2**30}  # fmt: skip
_DURATION_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_NUMBER_AND_UNIT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def _with_units(units: Mapping[str, int], allowed: str) -> Callable[[object], object]:
    def parse(value: object) -> object:
        if not isinstance(value, str):
            return value
        match = _NUMBER_AND_UNIT.fullmatch(value)
        if match is None or match[2].lower() not in units:
            raise ValueError(allowed)
        return float(match[1]) * units[match[2].lower()]

    return parse


def _whole_bytes(value: object) -> object:
    return int(value) if isinstance(value, float) else value


def _names(value: object) -> object:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def _word_or(*words: str) -> Callable[[object], object]:
    def parse(value: object) -> object:
        return value.strip().lower() if isinstance(value, str) and value.strip().lower() in words else value

    return parse


_SIZE = "a size such as 500MB, 2GiB or a number of bytes"
_DURATION = "a duration such as 90s, 15m, 6h, 7d or a number of seconds"

Bytes = Annotated[int, BeforeValidator(_whole_bytes), BeforeValidator(_with_units(_SIZE_BYTES, _SIZE))]
Seconds = Annotated[float, BeforeValidator(_with_units(_DURATION_SECONDS, _DURATION))]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


def _short(name: str) -> Any:
    """The aliases of a setting that answers to its bare name too."""
    return AliasChoices(name, f"{PREFIX}{name}")


class Settings(BaseSettings):
    """All settings. Frozen: read once at start, handed down, never global."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, populate_by_name=True, extra="forbid",
        protected_namespaces=(),
    )  # fmt: skip

    max_workers: Annotated[
        Annotated[int, Field(ge=1, le=256)] | Literal["auto"], BeforeValidator(_word_or("auto"))
    ] = Field(2, validation_alias=_short("MAX_WORKERS"),
              description="most workers at once: 1 to 256, or auto (by cores, memory and GPUs)")  # fmt: skip
    task_timeout: int = Field(900_000, ge=1, validation_alias=_short("TASK_TIMEOUT"),
                              description="one attempt's limit, in milliseconds")  # fmt: skip
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(_word_or("debug", "info", "warning", "error"))
    ] = Field("info", validation_alias=_short("LOG_LEVEL"),
              description="how much is logged: debug, info, warning or error")  # fmt: skip
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="console (for people), json (one object a line), or auto: console on a terminal"
    )
    max_attempts: int = Field(3, ge=1, le=100, description="attempts before a task is failed; a crash counts as one")
    retry_delay: Seconds = Field(
        5.0,
        ge=0,
        le=600,
        description="seconds before the second attempt (at most 600); doubles with each further one, with jitter",
    )
    stall_timeout: Seconds = Field(300.0, gt=0, description="seconds without progress before a worker counts as hung")
    shutdown_grace: Seconds = Field(
        30.0, ge=0, description="seconds that running tasks get at shutdown; then they return to the queue"
    )
    max_file_size: Bytes = Field(100_000_000, ge=1, description="larger input is refused (bytes, or with a unit)")
    max_duration: Seconds = Field(21_600.0, gt=0, description="longer audio is refused (seconds, or with a unit)")
    max_queued: int = Field(10_000, ge=1, description="past it, new tasks are refused until some are done")
    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("demucs-server-worker", appauthor=False)),
        description="folder of the queue's database, uploads, and results of uploaded tasks",
    )
    model: str = Field("htdemucs", description="the model of tasks that name none")
    model_repo: Path | None = Field(None, description="folder of local models; none means those Demucs publishes")
    device: str = Field("auto", description="auto, cpu, mps, cuda or cuda:N")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto, fp32, bf16 or fp16")
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="what runs models: auto (openvino where it is installed and faster), torch or openvino"
    )
    cache_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("demucs-server-worker", appauthor=False)),
        description="folder of models converted for openvino; may be deleted",
    )
    models: Names = Field(
        (), description="names that HTTP clients may ask for, comma-separated; none means all built-in"
    )
    preload: bool = Field(True, description="load the default model when a worker starts")
    worker_memory: Annotated[Bytes | Literal["auto"], BeforeValidator(_word_or("auto"))] = Field(
        "auto", description="a worker's memory limit (bytes, or with a unit); past it the worker is replaced"
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65_535, description="port to listen on; 0 takes a free one")
    api_keys: Names = Field((), repr=False, description="keys for HTTP clients, comma-separated; required off loopback")
    allowed_hosts: Names = Field(
        (), description="further names by which clients may call the server, comma-separated, as behind a proxy"
    )
    max_connections: int = Field(500, ge=1, description="HTTP connections at once; further ones are answered 503")
    upload_patience: Seconds = Field(
        30.0, gt=0, le=3600, description="an upload that brings less than 1 kB a second over this time is broken off"
    )
    allowed_roots: Names = Field((), description="folders from which HTTP clients may name server-side paths")
    watch: Path | None = Field(None, description="folder in which songs that appear become tasks; none means no such")
    watch_output: Path | None = Field(None, description="folder below which the stems of those songs are written")
    watch_options: str = Field("", description="separation options of those songs, as in: format=mp3 two_stems=vocals")
    result_ttl: Seconds = Field(604_800.0, gt=0, description="how long finished uploads and their stems are kept")
    derived_size: Bytes = Field(
        2_000_000_000,
        ge=0,
        description="most disk space for stems in other formats and peaks, made on request (bytes, or with a unit)",
    )
    webhook_hosts: Names = Field(
        (), description="hosts to which events of tasks may be told, comma-separated; none means no webhooks"
    )
    webhook_secret: str | None = Field(None, repr=False, description="signs what is told to webhooks")
    pool: Literal["local"] = Field(
        "local", description="where the workers are: local, this machine, is all there is so far"
    )

    @field_validator("device", "model")
    @classmethod
    def _as_an_option(cls, value: str, info: Any) -> str:
        """These are the defaults of options, and bound by the same rules."""
        try:
            SeparationOptions.parse({info.field_name: value})
        except InvalidOption as error:
            raise ValueError(error.message.partition(": ")[2].rstrip(".")) from None
        return value

    @property
    def task_timeout_seconds(self) -> float:
        """`task_timeout` in seconds."""
        return self.task_timeout / 1000

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        """Arguments, then the environment; the file's values come in as the last, by `load_settings`."""
        arguments = dict(init_settings())
        file_values = arguments.pop(_FILE_VALUES, {})
        return (
            InitSettingsSource(settings_cls, arguments), env_settings, InitSettingsSource(settings_cls, file_values),
        )  # fmt: skip


_FILE_VALUES = "_file_values"


def load_settings(config: Path | None = None, **arguments: Any) -> Settings:
    """Read the settings.

    Args:
        config: a TOML file; None takes the one that DEMUCS_WORKER_CONFIG names, if any.
        arguments: settings by their names; None means not given.

    Raises:
        InvalidSetting: one line with the setting, the value and what is allowed.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    file_values = _read_file(config)
    for name, value in [*given.items(), *file_values.items()]:
        if name not in Settings.model_fields:
            raise InvalidSetting(setting=name, value=value, allowed="there is no such setting")
    try:
        values: dict[str, Any] = {**given, _FILE_VALUES: file_values}
        return Settings(**values)
    except ValidationError as error:
        raise _blame(error) from None


def environment_name(field: str) -> str:
    """The environment variable of a setting, the short one where there are two."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"{PREFIX}{field.upper()}"


def _read_file(config: Path | None) -> dict[str, Any]:
    path = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidSetting(setting=CONFIG_VARIABLE, value=path, allowed=f"a TOML file is needed ({error})") from None


def _blame(error: ValidationError) -> InvalidSetting:
    """The first thing that is wrong, in one line."""
    first = error.errors()[0]
    where = str(first["loc"][0]) if first["loc"] else ""
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    for field, info in Settings.model_fields.items():
        if where in (field, environment_name(field), f"{PREFIX}{field.upper()}"):
            value = "…" if field in ("api_keys", "webhook_secret") else first.get("input")
            allowed = f"{reason} ({info.description})"
            return InvalidSetting(setting=environment_name(field), value=value, allowed=allowed)
    return InvalidSetting(setting=where, value=first.get("input"), allowed=reason)
