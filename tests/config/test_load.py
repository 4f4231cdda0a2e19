import dataclasses
import itertools
from pathlib import Path

import pytest

from webhookd.config import declared
from webhookd.config.load import load
from webhookd.config.settings import Settings
from webhookd.core import policy
from webhookd.core.columns import NAMES
from webhookd.core.egress import parse_policy
from webhookd.core.policy import PARSERS
from webhookd.core.profiles import BUILT_IN
from webhookd.errors import EXIT_CONFIG, ConfigError

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def written(directory: Path, text: str) -> Path:
    path = directory / "config.toml"
    path.write_text(text)
    return path


def refusal(directory: Path, text: str) -> str:
    """The one line that a file is refused with, from the file's name on."""
    with pytest.raises(ConfigError) as caught:
        load(written(directory, text), database="erp.db", environ={})
    line = str(caught.value)
    assert caught.value.exit_code == EXIT_CONFIG
    assert line.isprintable()
    assert line.startswith(f"{directory}/config.toml: ")
    return line.removeprefix(f"{directory}/")


def test_without_a_file_everything_but_the_database_is_the_default() -> None:
    settings = load(None, database="erp.db", environ={})
    assert settings == Settings(Path("erp.db"))
    assert settings.outbox.max_payload == 1024 * 1024
    assert settings.delivery.shutdown_grace == 20_000
    assert settings.status.max_owed_age == 3_600_000


def test_every_key_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        database = "data/erp.db"
        [outbox]
        table = "integration_events"
        start = 4711
        ids = "never-reused"
        max_payload = "2 MiB"
        default_tenant = "main"
        validate = "warn"
        catalog = ["onestock", "ntropy", "onestock"]
        order_column = "nr"
        [outbox.columns]
        id = "key"
        event_type = { value = "order.changed" }
        aggregate_type = "kind"
        aggregate_id = "order"
        tenant = ""
        payload = "body"
        occurred_at = "at"
        event_id = "key"
        [delivery]
        shutdown_grace = 2.5
        max_in_flight = 7
        max_per_host = 6
        max_unrecorded = 8
        [egress]
        allow = ["10.1.0.0/16", "erp-gw.local"]
        deny = ["198.51.100.7"]
        [log]
        format = "text"
        level = "debug"
        [status]
        max_lag = "90s"
        max_owed_age = "2h"
        max_failed = 0
        """,
    )
    settings = load(path, database=None, environ={})
    assert settings.database == tmp_path / "data/erp.db"
    assert dataclasses.astuple(settings.outbox) == (
        "integration_events",
        4711,
        "never-reused",
        2 * 1024 * 1024,
        "main",
        "warn",
        ("onestock", "ntropy"),
        ("key", ("order.changed",), "kind", "order", "", "body", "at", "key", "nr"),
    )
    assert dataclasses.astuple(settings.delivery) == (2_500, 7, 6, 8)
    assert settings.egress == parse_policy(["10.1.0.0/16", "erp-gw.local"], ["198.51.100.7"])
    assert dataclasses.astuple(settings.log) == ("text", "debug")
    assert dataclasses.astuple(settings.status) == (90_000, 7_200_000, 0)


def test_the_example_is_the_defaults_and_names_every_key() -> None:
    settings = load(EXAMPLE, database=None, environ={})
    assert settings == Settings(EXAMPLE.parent / "erp.db", subscriptions=())
    lines = EXAMPLE.read_text().splitlines()
    table = ""
    named = set()
    for line in lines:
        if line.removeprefix("# ").startswith("["):
            table = line.strip("# []")
        key, equals, _ = line.removeprefix("# ").partition(" = ")
        if equals and key.isidentifier():
            named.add(f"{table}.{key}".lstrip("."))
    fields = {"database", "egress.allow", "egress.deny", "egress.proxy", "cloudevents.source"}
    fields |= {f"profiles.acme.{name}" for name in ("base", "signature_header", "timeout")}
    for part in ("outbox", "delivery", "log", "status", "retention"):
        fields |= {f"{part}.{name.name}" for name in dataclasses.fields(getattr(settings, part))}
    fields -= {"outbox.columns"}
    fields |= {f"outbox.columns.{name}" for name in NAMES} | {"outbox.order_column"}
    fields |= {f"subscriptions.{name}" for name in (*declared.FIELDS, *PARSERS)}
    assert named == fields


def test_every_key_of_the_example_has_its_reason_above_it() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for above, line in itertools.pairwise(lines):
        key, equals, _ = line.removeprefix("# ").partition(" = ")
        if equals and key.isidentifier():
            assert above.startswith("# "), line
            assert " = " not in above, line


def test_the_examples_commented_keys_are_valid_too(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("# start = ", "start = ").replace("# ids = ", "ids = ")
    settings = load(written(tmp_path, text), database=None, environ={})
    assert (settings.outbox.start, settings.outbox.ids) == ("end", "never-reused")


def test_the_examples_subscription_is_valid_and_the_profiles_preset(tmp_path: Path) -> None:
    block = EXAMPLE.read_text().partition("# [[subscriptions]]\n")[2].splitlines()
    keys = [
        line.removeprefix("# ") for line in block if line.partition(" = ")[0][2:].isidentifier()
    ]
    text = "\n".join(["[[subscriptions]]", *keys])
    (one,) = load(written(tmp_path, text), database="erp.db", environ={}).subscriptions or ()
    assert one.definition.policy.keys() == PARSERS.keys()
    preset = BUILT_IN.get("standard").policy
    assert policy.apply(preset, one.definition.policy) == preset


def test_a_database_in_the_file_starts_from_its_directory(tmp_path: Path) -> None:
    assert load(written(tmp_path, 'database = "a.db"'), database=None, environ={}).database == (
        tmp_path / "a.db"
    )
    absolute = load(written(tmp_path, 'database = "/srv/a.db"'), database=None, environ={})
    assert absolute.database == Path("/srv/a.db")


def test_the_argument_wins_over_the_files_database(tmp_path: Path) -> None:
    path = written(tmp_path, 'database = "a.db"')
    assert load(path, database="b.db", environ={}).database == Path("b.db")


@pytest.mark.parametrize("with_file", [True, False])
def test_no_database_at_all_says_how_to_name_one(tmp_path: Path, with_file: bool) -> None:
    path = written(tmp_path, "") if with_file else None
    with pytest.raises(ConfigError) as caught:
        load(path, database=None, environ={"WEBHOOKD_DATABASES": "/srv/a.db", "PATH": "/bin"})
    line = str(caught.value)
    assert line.isprintable()
    for hint in (
        "--database PATH",
        "WEBHOOKD_DATABASE ",
        "database = PATH",
        "WEBHOOKD_DATABASES is",
    ):
        assert hint in line
    assert "PATH is set" not in line


def test_an_empty_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--database: is empty"):
        load(None, database="", environ={})
    assert "config.toml: database: " in refusal(tmp_path, 'database = ""')
    assert "config.toml: database: " in refusal(tmp_path, 'database = "a\\u0000b"')


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[outbox]\nmax_paylod = 1",
            "config.toml: outbox.max_paylod: unknown key; did you mean max_payload?",
        ),
        ("[outbix]", "config.toml: outbix: unknown key; did you mean outbox?"),
        (
            "[log]\nzzzz = 1",
            "config.toml: log.zzzz: unknown key; known here: format, level",
        ),
        (
            '"a\\nb" = 1',
            (
                "config.toml: a\\nb: unknown key;"
                " known here: database, outbox, delivery, egress, cloudevents, profiles, log,"
                " status, retention, subscriptions"
            ),
        ),
        ("outbox = 1", "config.toml: outbox: is a table: write [outbox] above its keys"),
        (
            '[delivery]\nmax_in_flight = "many"',
            "config.toml: delivery.max_in_flight: is a whole number from 1 to 10000, not 'many'",
        ),
    ],
)
def test_E15_a_fault_is_one_line_with_its_place(tmp_path: Path, text: str, line: str) -> None:
    assert refusal(tmp_path, text) == line


@pytest.mark.parametrize(
    ("table", "entry"),
    [
        ("outbox", "table = 5"),
        ("outbox", 'table = ""'),
        ("outbox", 'table = "a\\nb"'),
        ("outbox", 'table = "webhookd_events"'),
        ("outbox", 'table = "SQLITE_master"'),
        ("outbox", 'start = "middle"'),
        ("outbox", "start = true"),
        ("outbox", "start = 1.0"),
        ("outbox", "start = 9223372036854775808"),
        ("outbox", 'start = ["end"]'),
        ("outbox", 'ids = "reused"'),
        ("outbox", "ids = []"),
        ("outbox", "max_payload = 0"),
        ("outbox", "max_payload = true"),
        ("outbox", "max_payload = 1.5"),
        ("outbox", 'max_payload = "1MB"'),
        ("outbox", 'max_payload = "1GiB"'),
        ("outbox", "validate = true"),
        ("outbox", 'validate = "strict"'),
        ("outbox", 'catalog = "ntropy"'),
        ("outbox", "catalog = []"),
        ("outbox", 'catalog = ["ntropi"]'),
        ("outbox", "default_tenant = 1"),
        ("outbox", 'default_tenant = "a\\tb"'),
        ("outbox", f'default_tenant = "{"x" * 513}"'),
        ("delivery", 'shutdown_grace = "20"'),
        ("delivery", "shutdown_grace = -1"),
        ("delivery", "max_in_flight = 0"),
        ("delivery", "max_in_flight = true"),
        ("delivery", "max_unrecorded = 1.0"),
        ("egress", 'allow = "10.0.0.0/8"'),
        ("egress", "deny = [1]"),
        ("log", 'format = "xml"'),
        ("log", "level = 10"),
        ("status", "max_lag = 0"),
        ("status", 'max_owed_age = "1 fortnight"'),
        ("status", "max_failed = -1"),
        ("status", 'max_failed = "never"'),
    ],
)
def test_E15_a_wrong_value_is_refused_at_its_key(tmp_path: Path, table: str, entry: str) -> None:
    key = entry.partition(" ")[0]
    assert refusal(tmp_path, f"[{table}]\n{entry}").startswith(f"config.toml: {table}.{key}: ")


@pytest.mark.parametrize("key", ["allow", "deny"])
def test_an_egress_entry_that_is_none_is_named(tmp_path: Path, key: str) -> None:
    line = refusal(tmp_path, f'[egress]\n{key} = ["10.0.0.0/8", "10.0.0.1/8"]')
    assert line.startswith(f"config.toml: egress.{key}: ")
    assert "10.0.0.1/8" in line


def test_the_largest_payload_is_sqlites_own_limit(tmp_path: Path) -> None:
    path = written(tmp_path, "[outbox]\nmax_payload = 1000000000")
    assert load(path, database="a.db", environ={}).outbox.max_payload == 1_000_000_000
    refusal(tmp_path, "[outbox]\nmax_payload = 1000000001")


def test_a_long_wrong_value_is_cut(tmp_path: Path) -> None:
    assert len(refusal(tmp_path, f'[log]\nformat = "{"x" * 10_000}"')) < 200


def test_toml_that_is_none_is_told_by_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[log]\nlevel = = 1") == (
        "config.toml: not valid TOML: Invalid value (at line 2, column 9)"
    )
    assert "nested too deeply" in refusal(tmp_path, "a = " + "[" * 20_000)


@pytest.mark.parametrize(
    "text",
    [
        "database = erp.db",
        "database = /var/lib/erp.db # here",
        '# "it"\r\n[log]\r\nlevel = info\r\n',
        "[delivery]\ntimeout = 10s",
        "a.b=https://x/?a=b",
    ],
)
def test_text_without_quotes_is_told_to_take_them(tmp_path: Path, text: str) -> None:
    said = refusal(tmp_path, text)
    assert said.startswith("config.toml: not valid TOML: ")
    assert said.endswith('; text must stand in quotes: "..."')
    assert "erp" not in said


@pytest.mark.parametrize(
    "text",
    [
        "a = True",
        "a = true;",
        "a = 5;",
        "a =",
        "a = = 5",
        'a = "x" y',
        "a = 'x'y",
        'a = "x',
        "a = [1, 2",
        "a = 5 b = 6",
        "a = 2026-13-01",
        "[a\nb = 1",
        '"a=b" = = c',
    ],
)
def test_quotes_are_advised_only_where_they_are_missing(tmp_path: Path, text: str) -> None:
    said = refusal(tmp_path, text)
    assert "not valid TOML" in said
    assert "quotes" not in said


def test_a_file_that_is_not_utf8_is_told_by_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b'database = "a.db"\n[outbox]\ndefault_tenant = "\xfc"\n')
    with pytest.raises(ConfigError, match=r"config\.toml: line 3: not UTF-8"):
        load(path, database=None, environ={})


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    for path, fault in ((tmp_path / "absent.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=fault) as caught:
            load(path, database="a.db", environ={})
        assert str(caught.value).startswith(f"{path}: cannot be read: ")


@pytest.mark.parametrize("text", ["", '[egress]\nallow = ["10.0.0.1"]\n'])
def test_the_egress_policy_knows_the_file_that_it_is_from(tmp_path: Path, text: str) -> None:
    path = tmp_path / "some.toml"
    path.write_text(text)
    assert load(path, database="erp.db", environ={}).egress.source == str(path)


def test_without_a_file_the_egress_policy_is_from_none() -> None:
    assert load(None, database="erp.db", environ={}).egress.source == ""
