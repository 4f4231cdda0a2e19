import os
from pathlib import Path

import pytest

from webhookd.config.references import LARGEST, SecretMissing, is_reference, resolve
from webhookd.errors import ConfigError

SECRET = "whsec_dGhlIHZhbHVlIG9mIHRoZSBzZWNyZXQ"


def stored(path: Path, data: bytes = SECRET.encode(), mode: int = 0o600) -> str:
    path.write_bytes(data)
    path.chmod(mode)
    return f"file:{path}"


def refusal(reference: str, environ: dict[str, str]) -> ConfigError:
    """The refusal: one line, and no trace of the secret in it or in what led to it."""
    with pytest.raises(ConfigError) as caught:
        resolve(reference, environ)
    error: BaseException | None = caught.value
    assert str(error).isprintable()
    while error is not None:
        assert SECRET not in f"{error!r} {error.args!r} {vars(error)!r}"
        error = error.__context__
    return caught.value


def test_what_a_reference_looks_like() -> None:
    assert is_reference("env:NAME")
    assert is_reference("file:/run/secret")
    assert not is_reference("whsec_abc")
    assert not is_reference("ENV:NAME")


def test_a_variable() -> None:
    assert resolve("env:PARTNER", {"PARTNER": SECRET}) == SECRET


def test_a_file(tmp_path: Path) -> None:
    assert resolve(stored(tmp_path / "s"), {}) == SECRET


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"a\n", "a"),
        (b"a\r\n", "a"),
        (b"a\n\n", "a\n"),
        (b" a ", " a "),
        (b"a\r", "a\r"),
        ("ü".encode(), "ü"),
    ],
)
def test_one_final_newline_is_not_part_of_it(tmp_path: Path, data: bytes, value: str) -> None:
    assert resolve(stored(tmp_path / "s", data), {}) == value
    assert resolve("env:S", {"S": data.decode()}) == value


def test_a_relative_file_starts_from_the_credentials_directory(tmp_path: Path) -> None:
    stored(tmp_path / "partner")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert resolve("file:partner", environ) == SECRET
    missing = refusal("file:partner", {})
    assert isinstance(missing, SecretMissing)
    assert "CREDENTIALS_DIRECTORY" in str(missing)


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    for reference in ("env:ABSENT", f"file:{tmp_path}/absent", f"file:{tmp_path}/absent/below"):
        error = refusal(reference, {})
        assert isinstance(error, SecretMissing)
        assert reference in str(error)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o640, 0o620, 0o644, 0o666])
def test_E14_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    error = refusal(stored(tmp_path / "s", mode=mode), {})
    assert not isinstance(error, SecretMissing)
    for part in (str(tmp_path / "s"), f"{mode:04o}", "chmod 600"):
        assert part in str(error)


def test_E14_systemds_directory_may_show_the_group_and_nobody_else(tmp_path: Path) -> None:
    directory = tmp_path / "credentials"
    directory.mkdir()
    environ = {"CREDENTIALS_DIRECTORY": str(directory)}
    assert resolve(stored(directory / "s", mode=0o440), environ) == SECRET
    assert resolve("file:s", environ) == SECRET
    refusal(stored(directory / "t", mode=0o444), environ)
    stored(tmp_path / "outside", mode=0o440)
    refusal("file:../outside", environ)
    (directory / "link").symlink_to(tmp_path / "outside")
    refusal("file:link", environ)


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n"])
def test_E14_an_empty_one_is_refused(tmp_path: Path, data: bytes) -> None:
    assert "empty" in str(refusal(stored(tmp_path / "s", data), {}))
    assert "empty" in str(refusal("env:S", {"S": data.decode()}))


def test_bytes_that_are_no_text_are_refused_without_showing_them(tmp_path: Path) -> None:
    data = SECRET.encode() + b"\xff"
    assert "UTF-8" in str(refusal(stored(tmp_path / "s", data), {}))
    for surrogate in ("\udcff", "\ud800"):
        assert "UTF-8" in str(refusal("env:S", {"S": SECRET + surrogate}))


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    assert len(resolve(stored(tmp_path / "s", b"x" * LARGEST), {})) == LARGEST
    assert "bytes" in str(refusal(stored(tmp_path / "s", SECRET.encode() * 3_000), {}))


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert "regular" in str(refusal(f"file:{tmp_path}/pipe", {}))
    assert "regular" in str(refusal(f"file:{tmp_path}", {}))
    assert "no path" in str(refusal("file:/a\0b", {}))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read" in str(refusal(f"file:{tmp_path}/loop", {}))


@pytest.mark.parametrize("reference", ["env:", "file:", "vault:x", SECRET[:5]])
def test_what_is_no_reference_is_refused(reference: str) -> None:
    assert "env:NAME" in str(refusal(reference, {}))
