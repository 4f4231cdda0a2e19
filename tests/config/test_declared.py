"""`[[subscriptions]]`: what is read, and with which line each fault is refused."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from webhookd.config.declared import look_up
from webhookd.config.load import load
from webhookd.core.declaration import Declared
from webhookd.errors import EXIT_CONFIG, ConfigError

KEY = "whsec_" + "QUFB" * 8
HEAD = """
[[subscriptions]]
name = "one"
url = "https://one.example/in"
secret = "env:ONE"
"""


def declared(directory: Path, text: str) -> tuple[Declared, ...]:
    path = directory / "config.toml"
    path.write_text(text)
    found = load(path, database="erp.db", environ={}).subscriptions
    assert found is not None
    return found


def block(**keys: str) -> str:
    """A block that is sound but for what is given: TOML by key, `''` to leave the key out."""
    written = {"name": '"acme"', "url": '"https://a.example/"', "secret": '"env:ACME"', **keys}
    lines = [f"{key} = {value}" for key, value in written.items() if value]
    return "\n".join(["[[subscriptions]]", *lines])


def refusal(directory: Path, text: str) -> str:
    """The one line that a file is refused with, from the file's name on."""
    with pytest.raises(ConfigError) as caught:
        declared(directory, text)
    line = str(caught.value)
    assert caught.value.exit_code == EXIT_CONFIG
    assert line.isprintable()
    assert "HUSH" not in line
    return line.removeprefix(f"{directory}/")


def test_a_block_is_read_whole(tmp_path: Path) -> None:
    text = """
        [egress]
        allow = ["10.1.0.0/16"]
        [[subscriptions]]
        name = "acme"
        url = "http://10.1.2.3:8080/in?token=HUSH"
        events = ["supplier.*", "order.created"]
        tenant = "north"
        profile = "standard"
        method = "post"
        headers = { X-Key = "HUSH", User-Agent = "erp" }
        secret = "file:/etc/acme.secret"
        timeout = "5s"
        retry_delays = [1, "2m"]
        jitter = 0
        concurrency = 2
        ordering = "none"
    """
    one, two = declared(tmp_path, text + HEAD)
    assert (one.name, two.name) == ("acme", "one")
    assert one.place == f"{tmp_path}/config.toml: subscriptions[1]"
    assert two.place.endswith(": subscriptions[2]")
    assert (one.secret, two.secret) == ("file:/etc/acme.secret", "env:ONE")
    definition = one.definition
    assert definition.url.text == "http://10.1.2.3:8080/in?token=HUSH"
    assert definition.events == ("supplier.*", "order.created")
    assert (definition.tenant, definition.profile.name, definition.method) == (
        "north", "standard", "POST",
    )  # fmt: skip
    assert definition.headers == (("X-Key", "HUSH"), ("User-Agent", "erp"))
    assert definition.policy == {
        "timeout": 5_000,
        "retry_delays": [1_000, 120_000],
        "jitter": 0.0,
        "concurrency": 2,
        "ordering": "none",
    }
    assert "HUSH" not in repr(one)


def test_what_is_left_out_is_as_add_has_it(tmp_path: Path) -> None:
    (one,) = declared(tmp_path, HEAD)
    assert one.definition.events == ("*",)
    assert (one.definition.tenant, one.definition.profile.name) == ("", "standard")
    assert (one.definition.method, one.definition.headers) == ("POST", ())
    assert one.definition.policy == {}


def test_without_blocks_there_are_none_and_without_a_file_nobody_says_so(tmp_path: Path) -> None:
    assert declared(tmp_path, "") == ()
    assert load(None, database="erp.db", environ={}).subscriptions is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[subscriptions]\nname = 'a'",
            "subscriptions: is a list of tables: write [[subscriptions]] above the keys of each",
        ),
        ("subscriptions = [1]", "subscriptions: is a list of tables: write [[subscriptions]]"),
        (
            HEAD + block(evnts='["*"]'),
            "subscriptions[2].evnts: unknown key; did you mean events? (in the block of 'acme')",
        ),
        (block(zzzz="1"), "subscriptions[1].zzzz: unknown key; known here: name, url, events, "),
        (block(name=""), 'subscriptions[1].name: is missing; give each block one: name = "acme"'),
        (block(name='""'), "subscriptions[1].name: takes 1 to 300 printable characters"),
        (block(name="1"), "subscriptions[1].name: is text: write it in quotes"),
        (block(name='"wh_x"'), "subscriptions[1].name: cannot begin with wh_"),
        (
            HEAD + block(name='"one"'),
            "subscriptions[2].name: 'one' is the name of subscriptions[1] already; give each",
        ),
        (block(url=""), "subscriptions[1].url: is missing; say where it is delivered to"),
        (block(url='["HUSH"]'), "subscriptions[1].url: is text: write it in quotes"),
        (block(url='"ftp://HUSH"'), "subscriptions[1].url: its scheme is neither https nor http"),
        (
            block(url='"https://10.1.2.3/HUSH"'),
            "subscriptions[1].url: blocked: 10.1.2.3 is private; if it is meant, say [egress]",
        ),
        (block(events='"*"'), 'subscriptions[1].events: is a list of patterns: ["supplier.*", '),
        (block(events="[1]"), "subscriptions[1].events: is a list of patterns"),
        (block(events="[]"), "subscriptions[1].events: there is no pattern"),
        (
            block(events='["a b"]'),
            'subscriptions[1].events: no event can match "a b": a type has',
        ),
        (block(tenant='" x"'), "subscriptions[1].tenant: takes at most 512 printable"),
        (
            block(profile='"standart"'),
            "subscriptions[1].profile: no profile 'standart'; did you mean 'standard'?",
        ),
        (block(method='"PUT"'), "subscriptions[1].method: profile standard takes POST, not PUT"),
        (block(headers='["HUSH"]'), "subscriptions[1].headers: is a table of texts"),
        (block(headers="{ X = 1 }"), "subscriptions[1].headers: is a table of texts"),
        (
            block(headers='{ Content-Length = "HUSH" }'),
            "subscriptions[1].headers: header Content-Length: webhookd sets it itself",
        ),
        (
            block(secret=""),
            (
                "subscriptions[1].secret: is missing: profile standard signs every request;"
                " write env:NAME or file:PATH"
            ),
        ),
        (
            block(secret='"whsec_HUSH"'),
            (
                "subscriptions[1].secret: takes no secret itself, only a reference to one;"
                " write env:NAME or file:PATH"
            ),
        ),
        (block(secret='"env:"'), "subscriptions[1].secret: takes no secret itself"),
        (block(secret='["HUSH"]'), "subscriptions[1].secret: takes no secret itself"),
        (block(timeout='"1h"'), "subscriptions[1].timeout: takes 1ms to 2m, not 1h"),
        (block(coalesce="[[true]]"), "subscriptions[1].coalesce: is text, a number, true or"),
        (block(ordering="{}"), "subscriptions[1].ordering: is text, a number, true or false"),
        (block(jitter="2026-01-31"), "subscriptions[1].jitter: is text, a number, true or"),
    ],
)
def test_E15_E24_a_fault_is_one_line_with_its_place(tmp_path: Path, text: str, line: str) -> None:
    assert refusal(tmp_path, text).startswith(f"config.toml: {line}")


def test_E15_a_fault_in_a_block_names_its_subscription(tmp_path: Path) -> None:
    said = refusal(tmp_path, HEAD + block(concurrency="0"))
    assert said == (
        "config.toml: subscriptions[2].concurrency: takes a whole number from 1 to 256"
        " (in the block of 'acme')"
    )


def test_the_faults_of_several_blocks_are_one_line(tmp_path: Path) -> None:
    bad = block(name='"bad"', secret="")
    slow = block(name='"slow"', timeout='"never"')
    said = refusal(tmp_path, f"{bad}\n{block()}\n{slow}\n{block()}")
    assert said == (
        "config.toml: subscriptions[1].secret: is missing: profile standard signs every request; "
        "write env:NAME or file:PATH (in the block of 'bad'); also subscriptions[3].timeout: a "
        'duration is seconds, or text with a unit (ms, s, m, h, d): "30s" (in the block of '
        "'slow'); also subscriptions[4].name: 'acme' is the name of subscriptions[2] already; "
        "give each its own"
    )
    said = refusal(tmp_path, "\n".join([bad] * 7))
    assert said.endswith("'bad'); also 2 more")
    assert said.count("; also subscriptions[") == 4


def looked_up(directory: Path, secret: str, environ: Mapping[str, str]) -> str:
    (one,) = declared(directory, block(secret=f'"{secret}"'))
    return look_up(one, environ)


def test_E14_a_secret_that_is_unfit_is_refused_with_its_place(tmp_path: Path) -> None:
    assert looked_up(tmp_path, "env:ACME", {"ACME": KEY}) == ""
    place = f"{tmp_path}/config.toml: subscriptions[1].secret: "
    with pytest.raises(ConfigError) as caught:
        looked_up(tmp_path, "env:ACME", {"ACME": "whsec_HUSH"})
    assert str(caught.value).startswith(f"{place}env:ACME: the secret must hold 24")
    readable = tmp_path / "secret"
    readable.write_text(KEY)
    readable.chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        looked_up(tmp_path, f"file:{readable}", {})
    assert str(caught.value) == (
        f"{place}file:{readable}: mode 0644 lets others at it; chmod 600 it"
    )


def test_E13_a_secret_that_is_missing_is_said_and_refused_by_nobody(tmp_path: Path) -> None:
    said = looked_up(tmp_path, "env:ACME", {})
    assert said.startswith(f"{tmp_path}/config.toml: subscriptions[1].secret: env:ACME: no such")


def test_a_secret_beside_the_file_is_found_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "etc"
    (home / "keys").mkdir(parents=True)
    for name in ("s", "keys/s"):
        (home / name).touch(0o600)
        (home / name).write_text(KEY)
    monkeypatch.chdir(tmp_path)
    for given, found in (("./s", "s"), ("keys/s", "keys/s"), (f"{home}/s", "s")):
        (one,) = declared(Path("etc"), block(secret=f'"file:{given}"'))
        assert one.secret == f"file:{home}/{found}"
        assert look_up(one, {}) == ""


def test_a_bare_name_is_a_credential_of_systemds(tmp_path: Path) -> None:
    (tmp_path / "s").write_text(KEY)
    assert looked_up(tmp_path, "file:s", {}).endswith(
        "subscriptions[1].secret: file:s: relative, and CREDENTIALS_DIRECTORY is not set; write an "
        "absolute path, or LoadCredential= in the service; one beside the configuration is file:./s"
    )
    (tmp_path / "s").chmod(0o600)
    assert looked_up(tmp_path, "file:s", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == ""
    missing = looked_up(tmp_path, "file:./none", {})
    assert missing.endswith(f"file:{tmp_path}/none: no such file; put the secret there")


def test_a_profile_that_does_without_needs_no_secret(tmp_path: Path) -> None:
    (one,) = declared(tmp_path, block(secret="", profile="'floriday'", tenant="'acme'"))
    assert one.secret == ""
    assert look_up(one, {}) == ""


OWN = """
[profiles.mine]
base = "ntropy"
ordering = "subscription"
"""


def test_a_block_may_have_a_profile_of_the_same_file(tmp_path: Path) -> None:
    (one,) = declared(tmp_path, OWN + block(profile='"mine"'))
    assert one.definition.profile.name == "mine"
    assert one.definition.policy == {"ordering": "subscription"}, "its lines stay what they are"
    line = refusal(tmp_path, OWN + block(profile='"mine2"'))
    assert line.startswith("config.toml: subscriptions[1].profile: no profile 'mine2'; did you")


def test_a_block_has_a_mode_where_its_profile_has_some(tmp_path: Path) -> None:
    blocks = (
        block(name='"a"', profile='"cloudevents"'),
        block(name='"b"', profile='"cloudevents"', mode='"binary"'),
    )
    found = declared(tmp_path, "\n".join(blocks))
    assert [one.definition.mode for one in found] == ["structured", "binary"]
    line = refusal(tmp_path, block(mode='"binary"'))
    assert line == (
        "config.toml: subscriptions[1].mode: profile standard has no modes; leave it out "
        "(in the block of 'acme')"
    )
    assert refusal(tmp_path, block(mode="1")).startswith("config.toml: subscriptions[1].mode: is")
