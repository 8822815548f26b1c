"""Passwords in addresses are masked wherever they stand, and refused where they would be saved."""

from __future__ import annotations

import pytest
from tiny_task import configure

from pipelines.config.schema import check
from pipelines.core.errors import UserError
from pipelines.core.secrets import check_no_password, mask_passwords

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
        "",
    ],
)
def test_what_holds_no_password_stays_as_it_is(address: str) -> None:
    assert mask_passwords(address) == address
    check_no_password("x", address, "")


def test_a_password_for_mlflow_is_refused_before_it_is_saved() -> None:
    with pytest.raises(UserError, match="MLFLOW_TRACKING_PASSWORD") as error:
        check(configure(f"train.mlflow='http://me:{SECRET}@host'"))
    assert SECRET not in str(error.value)
