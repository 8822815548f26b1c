"""Passwords in addresses are masked wherever they stand, and refused where they would be saved."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_task import configure

from pipelines.config.schema import check
from pipelines.core.errors import UserError
from pipelines.core.secrets import check_no_password, hide_secret, mask_passwords, read_secret

SECRET = "pa55"


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        (f"http://me:{SECRET}@host:5000/x", "http://me:***@host:5000/x"),
        (
            f"postgresql+psycopg://me:{SECRET}/{SECRET}@host/db",
            "postgresql+psycopg://me:***@host/db",
        ),
        (f"mysql://me:{SECRET}@{SECRET}@host/db", "mysql://me:***@host/db"),
        (f"mysql://:{SECRET}@host/db", "mysql://:***@host/db"),
        (f"x://host/db?user=me&password={SECRET}&a=1", "x://host/db?user=me&password=***&a=1"),
        (f"x://host/db?sslpassword={SECRET}", "x://host/db?sslpassword=***"),
        (f"x://host/?API_KEY={SECRET}", "x://host/?API_KEY=***"),
        (f"not an address: x://a:{SECRET}@h, really", "not an address: x://a:***@h, really"),
        (f"http://me@corp.com:{SECRET}@host", "http://me@corp.com:***@host"),
        (f"http://me:{SECRET}'{SECRET}@host", "http://me:***@host"),
        (f"x://host/?api-key={SECRET}", "x://host/?api-key=***"),
        (f"http://host:80@{SECRET}@x", "http://host:***@x"),
        (f"http://me:{SECRET}@[::1]:80/a", "http://me:***@[::1]:80/a"),
    ],
)
def test_passwords_are_masked(address: str, masked: str) -> None:
    assert mask_passwords(address) == masked
    with pytest.raises(UserError, match=r"x must hold no password.*: use y$") as error:
        check_no_password("x", address, "use y")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://host:5000",
        "http://me@host",
        "sqlite:///a@b.db",
        "postgresql://me@host/db?a=1",
        "x://h/?monkey=1&sslkey=/p",
        "http://host:5000/team@site/x",
        "http://host:5000?mail=a@b",
        "http://[::1]:5000/a@b",
        "sqlite:////C:/me@home/study.db",
        "STORAGE_URL",
        "",
    ],
)
def test_what_holds_no_password_stays_as_it_is(address: str) -> None:
    assert mask_passwords(address) == address
    check_no_password("x", address, "")


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        (f"x://me:{SECRET} {SECRET}@h", "x://me:***@h"),
        (f'x://me:{SECRET}"@h', "x://me:***@h"),
        (f"me:{SECRET}@host/db", "me:***@host/db"),
        (f"x:/me:{SECRET}@host/db", "x:/me:***@host/db"),
        (f"x//me:{SECRET}/{SECRET}@host/db", "x//me:***@host/db"),
        (f"host=h user=me password = {SECRET} dbname=d", "host=h user=me password = *** dbname=d"),
    ],
)
def test_a_setting_with_a_password_is_refused_though_it_is_no_address(
    address: str, masked: str
) -> None:
    with pytest.raises(UserError) as error:
        check_no_password("x", address, "use y")
    assert str(error.value).endswith(f"received {masked}: use y")


def test_a_secret_is_in_the_environment_or_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text(f"{SECRET} of the file\n")
    monkeypatch.setenv("PLACE", f" {SECRET} of the environment")
    assert read_secret("PLACE") == f"{SECRET} of the environment"
    assert read_secret(str(tmp_path / "file")) == f"{SECRET} of the file"
    for name in ("NO_PLACE", str(tmp_path), str(tmp_path / "none"), "a\0b", "x" * 5000):
        assert read_secret(name) is None


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("x://me:one@two/three@host/db", 'no host named "two/three@host"'),
        ("x://me:one%40two@host/db", "no one@two, but one%40two"),
        ("x://host/db?password=one", "refused password one"),
        ("me:one two@host", "can't be parsed: me:one two@host"),
    ],
)
def test_a_driver_tells_no_part_of_a_password(address: str, message: str) -> None:
    hidden = hide_secret(message, address)
    assert not any(part in hidden for part in ("one", "two", "three"))
    assert hide_secret(message, "x://host/db") == message


def test_a_password_for_mlflow_is_refused_before_it_is_saved() -> None:
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as error:
        check(configure(f"train.mlflow='http://me:{SECRET}@host'"))
    assert SECRET not in str(error.value)
