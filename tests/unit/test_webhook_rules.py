"""Where webhooks may go, how they are signed, and when they are tried again."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demucs_server_worker.errors import InvalidOption, InvalidSetting
from demucs_server_worker.settings import load_settings
from demucs_server_worker.task import Webhook
from demucs_server_worker.webhooks import schedule, signature
from demucs_server_worker.webhooks.rules import Entry, Rules, permitted, webhook_of
from demucs_server_worker.webhooks.schedule import Answer
from demucs_server_worker.webhooks.target import parse_target

SECRET = "a secret that nobody guesses"  # noqa: S105


def rules(*hosts: str) -> Rules:
    return Rules.of(load_settings(webhook_hosts=",".join(hosts), webhook_secret=SECRET))


# --- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://studio.example/hooks", "https://studio.example/hooks"),
        ("https://studio.example", "https://studio.example/"),
        ("https://studio.example?a=b", "https://studio.example/?a=b"),
        ("HTTPS://Studio.EXAMPLE/Hooks", "https://studio.example/Hooks"),
        ("https://studio.example./x", "https://studio.example/x"),
        ("https://studio.example:443/x", "https://studio.example/x"),
        ("http://studio.example:80/x", "http://studio.example/x"),
        ("http://studio.example:443/x", "http://studio.example:443/x"),
        ("https://studio.example:8443/x", "https://studio.example:8443/x"),
        ("https://bücher.example/x", "https://xn--bcher-kva.example/x"),
        ("https://BÜCHER.example/x", "https://xn--bcher-kva.example/x"),
        ("https://xn--bcher-kva.example/x", "https://xn--bcher-kva.example/x"),
        ("https://ｓｔｕｄｉｏ.example/x", "https://studio.example/x"),
        ("https://studio。example/x", "https://studio.example/x"),
        ("http://[::1]:3000/x", "http://[::1]:3000/x"),
        ("http://[0:0:0:0:0:0:0:1]:3000/x", "http://[::1]:3000/x"),
        ("http://[::ffff:127.0.0.1]/x", "http://127.0.0.1/x"),
        ("http://10.0.0.5:3000", "http://10.0.0.5:3000/"),
    ],
)
def test_two_ways_to_write_a_url_are_one(url: str, normal: str) -> None:
    assert parse_target(url).url == normal
    assert parse_target(normal).url == normal


@pytest.mark.parametrize(
    "url",
    [
        "", "studio.example", "//studio.example", "ftp://studio.example/", "file:///etc/passwd", "javascript:alert(1)",
        "http:/studio.example", "http://", "http:///x", "http://:80/", "http://user@studio.example/",
        "http://user:password@studio.example/", "http://studio.example@evil.example/", "http://studio.example\\@evil/",
        "http://studio.example#@evil.example/", "http://studio.example/#top", "http://studio.example/a b",
        "http://studio.example/\r\nHost: evil", "http://stu\tdio.example/", "http://studio.example/ü",
        "http://studio.example:0/", "http://studio.example:65536/", "http://studio.example:x/",
        "http://studio.example:١/", "http://studio.example:-1/", "http://studio.example:/", "http://studio..example/",
        "http://.example/", "http://-a.example/", "http://stu%64io.example/", "http://[::1/", "http://::1/",
        "http://[fe80::1%25eth0]/", "http://[studio.example]/", "http://127.1/", "http://2130706433/", "http://0x7f.1/",
        "http://0177.0.0.1/", "http://127.0.0.1.2/", "http://256.0.0.1/", "http://studio.example/" + "a" * 2048,
        "http://" + "a" * 64 + ".example/", "http://stu\u200bdio\ud800.example/", "http://*.example/",
    ],
)  # fmt: skip
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        parse_target(url)
    refused.value.message.encode()


@given(st.text(max_size=60))
def test_any_text_is_refused_or_has_a_normal_form(text: str) -> None:
    try:
        normal = parse_target("http://" + text).url
    except InvalidOption:
        return
    assert parse_target(normal).url == normal


# --- hosts that are allowed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "url", "allowed"),
    [
        ("studio.example", "https://studio.example/", True),
        ("studio.example", "http://studio.example/", True),
        ("Studio.Example.", "https://studio.example/", True),
        ("studio.example", "https://STUDIO.example./", True),
        ("studio.example", "https://studio.example:8443/", False),
        ("studio.example", "http://studio.example:443/", False),
        ("studio.example:8443", "https://studio.example:8443/", True),
        ("studio.example:8443", "https://studio.example/", False),
        ("studio.example:443", "https://studio.example/", True),
        ("studio.example", "https://evil-studio.example/", False),
        ("studio.example", "https://studio.example.evil/", False),
        ("studio.example", "https://a.studio.example/", False),
        ("*.studio.example", "https://a.studio.example/", True),
        ("*.studio.example", "https://b.a.studio.example/", True),
        ("*.studio.example", "https://studio.example/", False),
        ("*.studio.example", "https://evilstudio.example/", False),
        ("*.studio.example:8443", "https://a.studio.example:8443/", True),
        ("bücher.example", "https://xn--bcher-kva.example/", True),
        ("xn--bcher-kva.example", "https://BÜCHER.example/", True),
        ("127.0.0.1:3000", "http://127.0.0.1:3000/", True),
        ("127.0.0.1:3000", "http://[::ffff:7f00:1]:3000/", True),
        ("127.0.0.1:3000", "http://localhost:3000/", False),
        ("localhost:3000", "http://127.0.0.1:3000/", False),
        ("[::1]:3000", "http://[0::1]:3000/", True),
        ("[::1]", "http://[::1]/", True),
        ("[::1]", "http://[::2]/", False),
    ],
)
def test_a_host_is_allowed_by_its_name_and_port(entry: str, url: str, allowed: bool) -> None:
    assert (rules(entry).entry_for(parse_target(url)) is not None) is allowed


@pytest.mark.parametrize("entry", ["https://studio.example", "studio.example/x", "*", "*.", "*.127.0.0.1", "a b",
                                   "studio.example:0", "studio.example:", "127.1", "[::1", "a.*.example"])  # fmt: skip
def test_an_entry_that_names_no_host_stops_the_start(entry: str) -> None:
    with pytest.raises(InvalidSetting, match="DEMUCS_WORKER_WEBHOOK_HOSTS"):
        rules(entry)


@pytest.mark.parametrize(
    ("values", "shown"),
    [({"webhook_hosts": "a.example"}, "=  *is not valid"), ({"webhook_secret": "too short"}, "=… is not valid")],
)
def test_hosts_need_a_secret_that_is_long_enough(values: dict[str, Any], shown: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        Rules.of(load_settings(**values))
    assert "DEMUCS_WORKER_WEBHOOK_SECRET=" in refused.value.message and "too short" not in refused.value.message


def test_the_secret_is_not_shown_with_the_settings() -> None:
    assert SECRET not in repr(load_settings(webhook_secret=SECRET))


@pytest.mark.parametrize(
    ("entry", "address", "may"),
    [
        ("studio.example", "93.184.216.34", True), ("studio.example", "10.0.0.5", True),
        ("studio.example", "127.0.0.1", False), ("studio.example", "::1", False),
        ("studio.example", "::ffff:127.0.0.1", False), ("studio.example", "169.254.169.254", False),
        ("studio.example", "fe80::1", False), ("studio.example", "0.0.0.0", False),  # noqa: S104
        ("studio.example", "224.0.0.1", False), ("*.studio.example", "93.184.216.34", True),
        ("*.studio.example", "10.0.0.5", False), ("*.studio.example", "fd00::1", False),
        ("localhost", "127.0.0.1", True), ("localhost", "::1", True), ("localhost", "10.0.0.5", False),
        ("127.0.0.1", "127.0.0.1", True), ("127.0.0.1", "127.0.0.2", False),
        ("169.254.169.254", "169.254.169.254", True),
    ],
)  # fmt: skip
def test_an_allowed_name_may_not_lead_to_where_the_machine_talks_to_itself(entry: str, address: str, may: bool) -> None:
    assert permitted(ipaddress.ip_address(address), Entry.parse(entry)) is may


# --- what a submitter asks for ---------------------------------------------------------------------------------------


def test_a_webhook_is_a_url_or_a_url_with_events() -> None:
    allowed = rules("studio.example")
    plain = Webhook(url="https://studio.example/hooks")
    assert webhook_of("https://Studio.example/hooks", allowed) == plain
    assert plain.events == ("completed", "failed", "cancelled")
    assert webhook_of({"url": plain.url, "events": None}, allowed) == plain
    assert webhook_of({"url": plain.url, "events": []}, allowed) == plain
    chosen = webhook_of({"url": plain.url, "events": ["started", "failed", "started"]}, allowed)
    assert chosen == Webhook(url=plain.url, events=("started", "failed"))
    assert webhook_of(None, allowed) is None and webhook_of("", allowed) is None


@pytest.mark.parametrize("event", ["progress", "worker_died", "Completed", ""])
def test_only_events_that_can_be_told_can_be_chosen(event: str) -> None:
    with pytest.raises(InvalidOption, match="queued, started, retrying, completed, failed, cancelled"):
        webhook_of({"url": "https://studio.example/", "events": [event]}, rules("studio.example"))


def test_without_allowed_hosts_the_refusal_says_what_to_set() -> None:
    with pytest.raises(InvalidOption, match=r"add studio\.example:8443 to DEMUCS_WORKER_WEBHOOK_HOSTS"):
        webhook_of("https://studio.example:8443/x", Rules.of(load_settings()))


# --- the signature ---------------------------------------------------------------------------------------------------


def test_the_signature_is_the_hmac_of_time_and_body() -> None:
    header = signature.sign(SECRET, b'{"a": 1}', 1_700_000_000.9)
    mac = hmac.new(SECRET.encode(), b'1700000000.{"a": 1}', hashlib.sha256).hexdigest()
    assert header == f"t=1700000000,v1={mac}"


@pytest.mark.parametrize(
    ("secret", "body", "seconds_later", "fits"),
    [
        (SECRET, b"body", 0, True), (SECRET, b"body", 300, True), (SECRET, b"body", -300, True),
        (SECRET, b"body", 301, False), (SECRET, b"body", -301, False), (SECRET, b"bodz", 0, False),
        (SECRET + "x", b"body", 0, False),
    ],
)  # fmt: skip
def test_a_signature_fits_one_body_one_secret_and_a_few_minutes(
    secret: str, body: bytes, seconds_later: int, fits: bool
) -> None:
    header = signature.sign(SECRET, b"body", 1000.0)
    assert signature.verify(secret, header, body, 1000.0 + seconds_later) is fits


@pytest.mark.parametrize(
    "header", ["", "t=1000", "v1=ab", "t=x,v1=ab", "t=1000,v1=ü", "t=1000,t=1000,v1=ab", "nonsense"]
)
def test_a_header_that_makes_no_sense_does_not_fit(header: str) -> None:
    assert not signature.verify(SECRET, header, b"body", 1000.0)


# --- when to try again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "answer"),
    [(200, Answer.TAKEN), (204, Answer.TAKEN), (299, Answer.TAKEN), (302, Answer.FAILED), (400, Answer.FAILED),
     (404, Answer.FAILED), (410, Answer.GONE), (429, Answer.FAILED), (500, Answer.FAILED)],
)  # fmt: skip
def test_what_a_status_means(status: int, answer: Answer) -> None:
    assert schedule.answer_of(status) is answer


def test_delays_double_up_to_an_hour() -> None:
    delays = [schedule.next_try(tries, 0.0, 0.0, 0.5) for tries in (1, 2, 3, 4, 10, 11, 12, 1000)]
    assert delays == [5.0, 10.0, 20.0, 40.0, 2560.0, 3600.0, 3600.0, 3600.0]


def test_delays_are_spread_by_a_fifth() -> None:
    assert [schedule.next_try(1, 0.0, 100.0, chance) for chance in (0.0, 0.5, 1.0)] == [104.0, 105.0, 106.0]


def test_after_a_day_it_is_given_up() -> None:
    now, tries, first = 50.0, 1, 50.0
    while (due_at := schedule.next_try(tries, first, now, 0.5)) is not None:
        now, tries = due_at, tries + 1
    assert 82_800 < now - first <= 86_400
    assert tries == 33
