"""What is read of a configuration that is refused."""

from pathlib import Path

import pytest

from webhookd.config.salvage import salvage
from webhookd.config.settings import Settings


@pytest.mark.parametrize(
    "text",
    [
        'database = "erp.db"\n[outbox]\nmax_paylod = 1\n',
        'speed = 1\ndatabase = "erp.db"\n',
        'database = "erp.db"\nthis is no TOML',
        "# database = 'no'\n\n  database = 'erp.db'  # the ERP's\n[outbox\n",
        '"database" = "erp.db"\nlevel = \n',
    ],
)
def test_the_database_is_found_beside_a_fault(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert salvage(path, None) == Settings(tmp_path / "erp.db")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"database = 12",
        b'database = ""',
        b'database = "a\\u0000b"',
        b'database = "\xff"',
        b"database = erp.db",
        b'[other]\ndatabase = "erp.db"\nno TOML',
        b'no TOML\n[other]\ndatabase = "erp.db"\n',
        b"no TOML",
    ],
)
def test_a_database_that_cannot_be_read_is_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(data)
    assert salvage(path, None) is None
    assert salvage(path, "other.db") == Settings(Path("other.db"))


def test_a_file_that_is_missing_has_none(tmp_path: Path) -> None:
    assert salvage(tmp_path / "none.toml", None) is None
    assert salvage(tmp_path / "none.toml", "/erp.db") == Settings(Path("/erp.db"))
