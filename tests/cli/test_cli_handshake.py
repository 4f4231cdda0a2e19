"""`subscriptions test --handshake`, with a receiver on a socket."""

import importlib

import pytest

from webhookd import __version__


@pytest.fixture
def receiver(receiver):
    receiver.status, receiver.answer = 200, {"WebHook-Allowed-Origin": "*"}
    return receiver


@pytest.fixture
def subscribed(webhookd, receiver):
    text = webhookd.config.read_text()
    webhookd.config.write_text(text + '[egress]\nallow = ["127.0.0.1"]\n')
    url = f"http://127.0.0.1:{receiver.server_port}/in?key=HUSHHUSH"
    webhookd(
        *("subscriptions", "add", url, "--name", "acme", "--profile", "cloudevents"),
        *("--header", "X-Key: HUSHHUSH"),
    )
    return ("subscriptions", "test", "acme", "--handshake")


def test_a_receiver_that_agrees(webhookd, receiver, subscribed):
    receiver.answer["WebHook-Allowed-Rate"] = "90"
    done = webhookd.json(*subscribed, "--origin", "erp.example")
    assert (done["origin"], done["rate_limit"]) == ("erp.example", "90/m")
    ((path, headers),) = receiver.asked
    assert path == "/in?key=HUSHHUSH"
    assert headers["WebHook-Request-Origin"] == "erp.example"
    assert headers["WebHook-Request-Rate"] == "*"
    assert set(headers) == {
        *("Host", "User-Agent", "Accept-Encoding", "Connection"),
        *("WebHook-Request-Origin", "WebHook-Request-Rate"),
    }
    assert headers["User-Agent"] == f"webhookd/{__version__}"
    assert headers["Accept-Encoding"] == "identity"
    shown = webhookd.json("subscriptions", "show", "acme")
    assert shown["headers"] == {"X-Key": "***", "WebHook-Request-Origin": "erp.example"}
    assert shown["policy"]["rate_limit"] == "90/m"
    webhookd("subscriptions", "update", "acme", "--no-headers")
    assert list(webhookd.json("subscriptions", "show", "acme")["headers"]) == [
        "WebHook-Request-Origin"
    ]
    said = webhookd(*subscribed, "--origin", "erp.example").stdout
    assert said == "acme: the receiver agrees to at most 90/m from erp.example\n"
    assert receiver.asked[-1][1]["WebHook-Request-Rate"] == "90"


def test_what_it_has_given_can_be_taken_back(webhookd, receiver, subscribed):
    before = webhookd.json("subscriptions", "show", "acme")
    line = webhookd.fails(*subscribed, "--undo", code=1)
    assert line == "acme: has had no handshake; there is nothing to take back"
    receiver.answer["WebHook-Allowed-Rate"] = "90"
    webhookd(*subscribed)
    asked = len(receiver.asked)
    undone = webhookd(*subscribed, "--undo")
    assert undone.stdout == (
        "acme: deliveries no longer name an origin; rate_limit is off (it was 90/m)\n"
    )
    assert len(receiver.asked) == asked, "nobody is asked"
    assert webhookd.json("subscriptions", "show", "acme") == before
    webhookd(*subscribed)
    done = webhookd.json(*subscribed, "--undo")
    assert (done["origin"], done["rate_limit"]) == (None, None)


def test_a_declared_one_gets_the_rate_of_its_block_back(webhookd, receiver, declared):
    receiver.answer["WebHook-Allowed-Rate"] = "90"
    asks = declared('rate_limit = "10/s"')
    webhookd(*asks)
    undo = (*asks[:4], "--undo")
    told = "acme: deliveries no longer name an origin; rate_limit is 10/s\n"
    assert webhookd(*undo).stdout == told
    assert webhookd("subscriptions", "apply").stdout == "unchanged  1 subscription\n"


def test_a_receiver_without_a_limit(webhookd, receiver, subscribed):
    assert "as many requests as come" in webhookd(*subscribed).stdout
    assert webhookd.json("subscriptions", "show", "acme")["policy"]["rate_limit"] == "off"


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (404, {}, "the receiver answered OPTIONS with 404"),
        (200, {}, "has no WebHook-Allowed-Origin"),
        (200, {"WebHook-Allowed-Origin": "other"}, "allows other and not erp.example"),
    ],
)
def test_a_receiver_that_does_not(webhookd, receiver, subscribed, status, answer, said):
    receiver.status, receiver.answer = status, answer
    line = webhookd.fails(*subscribed, "--origin", "erp.example", code=1)
    assert line.startswith("acme: ")
    assert said in line
    assert line.endswith("; nothing was changed")
    assert list(webhookd.json("subscriptions", "show", "acme")["headers"]) == ["X-Key"]


def test_a_url_that_was_changed_while_the_old_one_was_asked(
    webhookd, receiver, subscribed, monkeypatch
):
    module = importlib.import_module("webhookd.cli.commands.subscription_test")
    asked = module.ask

    def slow(*args):
        webhookd("subscriptions", "update", "acme", "--url", "http://127.0.0.1:1/")
        return asked(*args)

    monkeypatch.setattr(module, "ask", slow)
    receiver.answer["WebHook-Allowed-Rate"] = "90"
    line = webhookd.fails(*subscribed, code=1)
    assert line == "acme: its URL was changed meanwhile; ask the new one"
    shown = webhookd.json("subscriptions", "show", "acme")
    assert list(shown["headers"]) == ["X-Key"]
    assert shown["policy"]["rate_limit"] == "off"


def test_nobody_there(webhookd, receiver, subscribed):
    webhookd("subscriptions", "update", "acme", "--url", "http://127.0.0.1:1/?k=HUSHHUSH")
    line = webhookd.fails(*subscribed, code=1)
    assert "refused" in line
    assert "HUSH" not in line


def test_usage(webhookd, subscribed):
    said = "--undo: goes with --handshake, and without --origin"
    assert webhookd.fails(*subscribed[:-1], "--undo", code=2) == said
    assert webhookd.fails(*subscribed, "--undo", "--origin", "a.example", code=2) == said
    assert "is the name of the system" in webhookd.fails(*subscribed, "--origin", "a b", code=2)
    webhookd.add()
    line = webhookd.fails("subscriptions", "test", "partner", "--handshake", code=2)
    assert line == "--handshake: profile standard has none; it is for cloudevents"


@pytest.fixture
def declared(webhookd, receiver, monkeypatch):
    """Declares it, with further lines of the block; returns what to say for a handshake."""
    monkeypatch.setenv("ACME", "whsec_" + "QUFB" * 8)

    def declare(more=""):
        webhookd.configure(
            f"""
            [egress]
            allow = ["127.0.0.1"]
            [[subscriptions]]
            name = "acme"
            url = "http://127.0.0.1:{receiver.server_port}/in"
            profile = "cloudevents"
            secret = "env:ACME"
            headers = {{ X-Key = "a" }}
            {more}
            """
        )
        webhookd("subscriptions", "apply")
        return ("subscriptions", "test", "acme", "--handshake", "--origin", "erp.example")

    return declare


def test_what_a_handshake_gave_a_declared_one_outlives_each_apply(webhookd, receiver, declared):
    receiver.answer["WebHook-Allowed-Rate"] = "90"
    webhookd(*declared())
    assert webhookd("subscriptions", "apply").stdout == "unchanged  1 subscription\n"
    declared("concurrency = 2")
    shown = webhookd.json("subscriptions", "show", "acme")
    assert list(shown["headers"]) == ["X-Key", "WebHook-Request-Origin"]
    assert (shown["policy"]["rate_limit"], shown["policy"]["concurrency"]) == ("90/m", 2)
    del receiver.answer["WebHook-Allowed-Rate"]
    webhookd(*declared())
    assert webhookd.json("subscriptions", "show", "acme")["policy"]["rate_limit"] == "off"


def test_a_rate_that_a_block_names_is_the_blocks(webhookd, receiver, declared):
    receiver.answer["WebHook-Allowed-Rate"] = "90"
    done = webhookd(*declared('rate_limit = "10/s"'))
    assert done.stdout == "acme: the receiver agrees to at most 90/m from erp.example\n"
    place = f"{webhookd.config}: subscriptions[1].rate_limit"
    assert f"{place}: the receiver takes at most 90/m; write that there" in done.stderr
    assert webhookd.json("subscriptions", "show", "acme")["policy"]["rate_limit"] == "10/s"
    assert webhookd(*declared('rate_limit = "90/m"')).stderr == ""
    assert "at most 90/m" in webhookd(*declared('rate_limit = "off"')).stderr
    assert webhookd.json("subscriptions", "show", "acme")["policy"]["rate_limit"] == "off"
