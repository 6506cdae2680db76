"""`thebes secrets rotate`, `keys` and `reseal` on the store of a service that runs."""

import secrets

import pytest

from account_api import accounts, document
from operating import KEYS, Operator

pytestmark = pytest.mark.slow

OTHER_KEY = f"k2:{secrets.token_urlsafe(32)}"


def test_all_keys_are_replaced_at_once_where_one_leaked(tmp_path):
    operator = Operator.beside(tmp_path / "accounts.db")
    with accounts("socket", tmp_path, secret_keys=KEYS) as service:
        ada = service.member(mode="bearer")
        token = document(ada.sign_in("ada@example.com", mode="bearer"))["access_token"]
        published = document(ada.get("/.well-known/jwks.json"))["keys"]
        listed = operator.told("secrets", "keys")
        assert [(key["kid"], key["in_use"]) for key in listed] == [(published[0]["kid"], True)]
        assert ada.get("/who", Authorization=f"Bearer {token}").status == 200

        replaced = operator.told("secrets", "rotate", "--at-once")
        service.run(service.membership.signing_keys.reload())

        assert ada.get("/who", Authorization=f"Bearer {token}").status == 401
        assert [key["kid"] for key in document(ada.get("/.well-known/jwks.json"))["keys"]] == [
            replaced["kid"]
        ]
        again = document(ada.sign_in("ada@example.com", mode="bearer"))["access_token"]
        assert ada.get("/who", Authorization=f"Bearer {again}").status == 200


def test_a_rotation_begins_beside_the_running_service(tmp_path):
    operator = Operator.beside(tmp_path / "accounts.db")
    operator.told("accounts", "list")
    assert [operator.told("secrets", "rotate")["step"] for _ in range(2)] == ["published", "waiting"]
    assert [key["status"] for key in operator.told("secrets", "keys")] == ["promoted", "published"]


def test_signing_keys_move_to_the_secret_key_in_use(tmp_path):
    operator = Operator.beside(tmp_path / "accounts.db")
    operator.told("accounts", "list")
    both = Operator(tmp_path, {**operator.environ, "THEBES_SECRET_KEYS": f"{OTHER_KEY},{KEYS}"})
    alone = Operator(tmp_path, {**operator.environ, "THEBES_SECRET_KEYS": OTHER_KEY})

    before = alone.run("secrets", "keys")
    assert both.told("secrets", "reseal") == {"resealed": 1}
    (key,) = alone.told("secrets", "keys")

    assert (key["in_use"], key["problem"]) == (True, None)
    assert before.returncode == 1
    assert "Traceback" not in before.stderr


@pytest.mark.parametrize("command", ["rotate", "keys", "reseal"])
def test_what_is_missing_is_named(tmp_path, command):
    said = Operator(tmp_path).refused("secrets", command)
    assert "THEBES_SECRET_KEYS is missing" in said
    assert "THEBES_DATABASE_URL is missing" in said
    assert [*tmp_path.iterdir()] == []
