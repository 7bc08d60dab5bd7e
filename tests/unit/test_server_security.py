"""Who may ask: keys, sessions, names of the server, and pages of other sites."""

from __future__ import annotations

import pytest

from demucs_server_worker.errors import InvalidSetting
from demucs_server_worker.exposure import check_exposure, is_loopback
from demucs_server_worker.server.security import (
    MOST_SESSIONS,
    SESSION_SECONDS,
    Keys,
    Names,
    Sessions,
    comes_from_elsewhere,
    shown_key,
)
from demucs_server_worker.settings import load_settings


def test_a_key_fits_itself_alone() -> None:
    keys = Keys(["first-key", "zwölf"])
    assert keys.needed and keys.fits("first-key") and keys.fits("zwölf")
    assert not any(keys.fits(wrong) for wrong in ("", "first", "first-key ", "FIRST-KEY", "\udcff"))


def test_keys_are_not_kept() -> None:
    assert "first-key" not in repr(vars(Keys(["first-key"])))


def test_without_keys_none_is_needed_and_none_fits() -> None:
    assert not Keys([]).needed and not Keys([]).fits("")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": "Bearer abc"}, "abc"),
        ({"authorization": "bearer  abc "}, "abc"),
        ({"x-api-key": "abc"}, "abc"),
        ({"authorization": "Bearer abc", "x-api-key": "other"}, "abc"),
        ({"authorization": "Basic abc"}, None),
        ({"authorization": "Bearer "}, None),
        ({"x-api-key": ""}, None),
        ({}, None),
    ],
)
def test_a_key_comes_in_either_header(headers: dict[str, str], key: str | None) -> None:
    assert shown_key(headers) == key


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_runs_for_its_time() -> None:
    clock = Clock()
    sessions = Sessions(clock)
    token = sessions.begin()
    assert sessions.is_open(token) and not sessions.is_open(token + "x") and not sessions.is_open("")
    clock.now += SESSION_SECONDS - 1
    assert sessions.is_open(token)
    clock.now += 2
    assert not sessions.is_open(token)


def test_a_session_that_ended_is_over_and_the_others_are_not() -> None:
    sessions = Sessions(Clock())
    mine, yours = sessions.begin(), sessions.begin()
    sessions.end(mine)
    sessions.end("never begun")
    assert not sessions.is_open(mine) and sessions.is_open(yours)


def test_sessions_do_not_pile_up() -> None:
    sessions = Sessions(Clock())
    tokens = [sessions.begin() for _ in range(MOST_SESSIONS + 5)]
    assert [sessions.is_open(token) for token in tokens[:6]] == [False] * 5 + [True]
    assert sessions.is_open(tokens[-1])


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
def test_a_server_on_loopback_is_called_by_its_names(name: str) -> None:
    assert Names("127.0.0.1", ()).include(name)


@pytest.mark.parametrize(
    "name",
    ["", "evil.example", "evil.example:8000", "localhost.evil.example", "192.0.2.1", "localhost@evil.example", "[::1"],
)
def test_a_name_of_another_site_is_none_of_them(name: str) -> None:
    assert not Names("127.0.0.1", ()).include(name)


def test_names_behind_a_proxy_are_allowed_by_a_setting() -> None:
    names = Names("127.0.0.1", ["Stems.example", "www.stems.example"])
    assert names.include("stems.example") and names.include("www.stems.example:443")
    assert not names.include("other.example")
    assert Names("127.0.0.1", ["*"]).include("anything.example")


def test_a_server_open_to_a_network_answers_to_its_addresses_but_to_no_strange_name() -> None:
    names = Names("0.0.0.0", ())  # noqa: S104
    assert names.include("192.0.2.1:8000") and names.include("[2001:db8::1]")
    assert not names.include("evil.example")
    assert Names("studio.example", ()).include("studio.example:8000")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:9999"},
        {"origin": "http://localhost:8000", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://[broken"},
        {"origin": ""},
    ],
)
def test_a_page_of_another_site_is_told_apart(headers: dict[str, str]) -> None:
    assert comes_from_elsewhere({"host": "localhost:8000", **headers})


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("localhost:8000", {}),
        ("localhost:8000", {"origin": "http://localhost:8000", "sec-fetch-site": "same-origin"}),
        ("localhost:8000", {"origin": "http://LOCALHOST:8000"}),
        ("stems.example", {"origin": "https://stems.example"}),
        ("stems.example", {"origin": "http://stems.example:80"}),
        ("stems.example:443", {"origin": "https://stems.example"}),
        ("localhost:8000", {"sec-fetch-site": "none"}),
    ],
)
def test_the_own_page_and_programs_are_not(host: str, headers: dict[str, str]) -> None:
    assert not comes_from_elsewhere({"host": host, **headers})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_no_key_is_needed(host: str) -> None:
    assert is_loopback(host)
    check_exposure(load_settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "studio.example"])  # noqa: S104
def test_off_loopback_a_key_is_needed(host: str) -> None:
    with pytest.raises(InvalidSetting, match="DEMUCS_WORKER_API_KEYS") as refused:
        check_exposure(load_settings(host=host))
    assert "\n" not in str(refused.value) and host in str(refused.value)
    check_exposure(load_settings(host=host, api_keys="a-key"))
