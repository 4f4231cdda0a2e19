"""`[cloudevents]` and `[profiles.NAME]` in a configuration."""

from pathlib import Path

import pytest

from webhookd.config.load import load
from webhookd.config.settings import Settings
from webhookd.core.profiles import BUILT_IN, Known
from webhookd.errors import ConfigError


def loaded(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(f'database = "erp.db"\n{text}', "utf-8")
    return load(path, database=None, environ={})


def test_without_any_there_are_the_built_in_ones(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "")
    assert settings.profiles == BUILT_IN
    assert load(None, database="erp.db", environ={}).profiles == BUILT_IN


def test_ones_own_come_beside_them(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        '[profiles.acme]\nbase = "ntropy"\nsignature_header = "X-Acme"\ntimeout = "5s"\n'
        '[profiles.other]\nbase = "floriday"\n',
    )
    acme = settings.profiles.get("acme")
    assert (acme.scheme.header, acme.policy.timeout) == ("X-Acme", 5_000)
    assert [profile.name for profile in settings.profiles][-2:] == ["acme", "other"]
    with pytest.raises(ValueError, match=r"\[profiles.NAME\] in .*config.toml\)$"):
        settings.profiles.get("gone")


def test_the_source_of_cloudevents_is_also_that_of_profiles_based_on_it(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path, '[cloudevents]\nsource = "/erp"\n[profiles.mine]\nbase = "cloudevents"\n'
    )
    assert settings.profiles.get("cloudevents") != BUILT_IN.get("cloudevents")
    default = loaded(tmp_path, '[cloudevents]\nsource = "/webhookd"\n')
    assert default.profiles == BUILT_IN


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("profiles = 1", "config.toml: profiles: holds tables: write [profiles.NAME] above"),
        ("[profiles]\nacme = 1", "config.toml: profiles: holds tables"),
        ("[profiles.acme]", "config.toml: profiles.acme.base: is missing; name what it begins"),
        ("[profiles.ntropy]", "config.toml: profiles.ntropy: is the name of a built-in profile"),
        ('[profiles."a b"]', "config.toml: profiles.a b: a profile's name is"),
        (
            '[profiles.acme]\nbase = "ntropy"\nencoding = "Hex"',
            'config.toml: profiles.acme.encoding: is "hex" or "base64"',
        ),
        (
            '[profiles.acme]\nbase = "ntropy"\nenvelop = "payload"',
            "config.toml: profiles.acme.envelop: unknown key; did you mean envelope?",
        ),
        ('[profiles.acme]\nbase = "other"\n[profiles.other]\nbase = "ntropy"', "acme.base: is "),
        ("[cloudevents]\nsource = 1", "config.toml: cloudevents.source: is text"),
        ('[cloudevents]\nsource = "a b"', "config.toml: cloudevents.source: is a URI"),
        ('[cloudevents]\nsorce = "/a"', "cloudevents.sorce: unknown key; did you mean source?"),
    ],
)
def test_E15_a_fault_is_one_line_with_its_place(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, text)
    said = str(refused.value)
    assert line in said
    assert said.isprintable()


def test_two_files_that_say_the_same_make_no_difference(tmp_path: Path) -> None:
    def known(text: str) -> Known:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return load(path, database="erp.db", environ={}).profiles

    own = '[profiles.acme]\nbase = "ntropy"\nsigned = "{timestamp}.{body}"\n'
    source = '[cloudevents]\nsource = "/erp"\n'
    assert not known(own + source).differs(known(source + own))
    assert not known("").differs(known('[cloudevents]\nsource = "/webhookd"\n'))
    one, other = "envelope = { a = 'id', b = 'type' }", "envelope = { b = 'type', a = 'id' }"
    assert known(own + one).differs(known(own + other)), "the order of a body's members"
    for text in (own, source, own.replace("ntropy", "standard") + source):
        assert known(own + source).differs(known(text))
