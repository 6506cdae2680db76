"""`thebes accounts`: make accounts, look at them, enable and disable, grant, sign out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from thebes.events import timestamp

if TYPE_CHECKING:
    from thebes.accounts.administration import Administration
    from thebes.membership import Membership
    from thebes.stores.accounts import Account

Result = TypeVar("Result")

accounts = typer.Typer(
    name="accounts", help="Make accounts, grant roles, and end sessions.", no_args_is_help=True
)

_Who = Annotated[str, typer.Argument(metavar="EMAIL", help="The account's address, or its id.")]
_Directory = Annotated[Path, typer.Option(help="The project's directory.")]
_App = Annotated[str | None, typer.Option("--app", metavar="MODULE:APP", help="Take this app's settings.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
_Roles = Annotated[list[str], typer.Option("--role", help="A role; may be repeated.")]
_Scopes = Annotated[list[str], typer.Option("--scope", help="A scope; may be repeated.")]


@accounts.command()
def create(
    email: Annotated[str, typer.Argument(help="The address; it counts as confirmed.")],
    *,
    admin: Annotated[bool, typer.Option("--admin", help="Grant the role admin.")] = False,
    role: _Roles = [],  # noqa: B006 - Typer reads the default
    scope: _Scopes = [],  # noqa: B006
    link: Annotated[
        bool, typer.Option("--link", help="Print a link by which the owner chooses a password, once.")
    ] = False,
    directory: _Directory = Path(),
    app: _App = None,
    as_json: _Json = False,
) -> None:
    """Make an account with a password of your own (asked for), or with a one-time link for its owner."""
    password = None if link else typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    roles = [*role, *(["admin"] if admin and "admin" not in role else [])]

    async def make(membership: Membership) -> dict[str, Any]:
        invited = await membership.administration.create(email, password=password, roles=roles, scopes=scope)
        document = _document(invited.account)
        if invited.token is not None:
            document["link"] = f"{membership.public_url}/reset?token={invited.token}"
        return document

    made = _run(directory, app, make)
    _print(made, as_json)


@accounts.command("list")
def list_accounts(*, directory: _Directory = Path(), app: _App = None, as_json: _Json = False) -> None:
    """List all accounts in the order in which they were made."""

    async def gather(membership: Membership) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        page = await membership.administration.page()
        while page:
            found += [_document(account) for account in page]
            page = await membership.administration.page(after=page[-1].id)
        return found

    found = _run(directory, app, gather)
    if as_json:
        print(json.dumps(found))
        return
    for account in found:
        state = "" if account["is_enabled"] else "  disabled"
        names = f"  {','.join(account['roles'])}" if account["roles"] else ""
        print(f"{account['id']}  {account['email']}{names}{state}")
    print(f"{len(found)} account{'' if len(found) == 1 else 's'}")


@accounts.command()
def show(who: _Who, *, directory: _Directory = Path(), app: _App = None, as_json: _Json = False) -> None:
    """Show one account and its live sessions."""

    async def look(administration: Administration, account: Account) -> dict[str, Any]:
        sessions = await administration.sessions(account)
        return _document(account) | {
            "sessions": [
                {
                    "id": session.id,
                    "device": session.device,
                    "address": session.address,
                    "used_at": timestamp(session.used_at),
                }
                for session in sessions
            ]
        }

    _print(_with_account(directory, app, who, look), as_json)


@accounts.command()
def disable(who: _Who, *, directory: _Directory = Path(), app: _App = None, as_json: _Json = False) -> None:
    """Disable an account; its sessions end at once."""

    async def change(administration: Administration, account: Account) -> dict[str, Any]:
        return _document(await administration.set_enabled(account, False))

    _print(_with_account(directory, app, who, change), as_json)


@accounts.command()
def enable(who: _Who, *, directory: _Directory = Path(), app: _App = None, as_json: _Json = False) -> None:
    """Enable an account again."""

    async def change(administration: Administration, account: Account) -> dict[str, Any]:
        return _document(await administration.set_enabled(account, True))

    _print(_with_account(directory, app, who, change), as_json)


@accounts.command()
def reset(who: _Who, *, directory: _Directory = Path(), app: _App = None, as_json: _Json = False) -> None:
    """Mail the owner a link by which to choose another password; the present one counts until then."""

    async def start(administration: Administration, account: Account) -> dict[str, Any]:
        await administration.start_reset(account)
        return {"mailed": account.email}

    _print(_with_account(directory, app, who, start), as_json)


@accounts.command()
def grant(
    who: _Who,
    *,
    role: _Roles = [],  # noqa: B006
    scope: _Scopes = [],  # noqa: B006
    directory: _Directory = Path(),
    app: _App = None,
    as_json: _Json = False,
) -> None:
    """Grant roles and scopes; they count from the next request on."""

    async def change(administration: Administration, account: Account) -> dict[str, Any]:
        return _document(await administration.grant(account, roles=role, scopes=scope))

    _print(_with_account(directory, app, who, change), as_json)


@accounts.command()
def revoke(
    who: _Who,
    *,
    role: _Roles = [],  # noqa: B006
    scope: _Scopes = [],  # noqa: B006
    directory: _Directory = Path(),
    app: _App = None,
    as_json: _Json = False,
) -> None:
    """Take roles and scopes away, from the next request on."""

    async def change(administration: Administration, account: Account) -> dict[str, Any]:
        return _document(await administration.revoke(account, roles=role, scopes=scope))

    _print(_with_account(directory, app, who, change), as_json)


@accounts.command("sign-out")
def sign_out(
    who: Annotated[
        str | None, typer.Argument(metavar="EMAIL", help="The account's address, or its id.")
    ] = None,
    *,
    everybody: Annotated[bool, typer.Option("--everybody", help="End the sessions of all accounts.")] = False,
    directory: _Directory = Path(),
    app: _App = None,
    as_json: _Json = False,
) -> None:
    """End all sessions of an account, or of everybody."""
    if (who is None) is not everybody:
        raise typer.BadParameter("name an account, or say --everybody")

    async def end(membership: Membership) -> int:
        administration = membership.administration
        if who is None:
            return await administration.sign_out_everybody()
        return await administration.sign_out(await administration.find(who))

    ended = _run(directory, app, end)
    print(json.dumps({"ended": ended}) if as_json else f"{ended} session{'' if ended == 1 else 's'} ended")


def _with_account(
    directory: Path,
    app: str | None,
    who: str,
    use: Callable[[Administration, Account], Awaitable[Result]],
) -> Result:
    async def find_and_use(membership: Membership) -> Result:
        account = await membership.administration.find(who)
        return await use(membership.administration, account)

    return _run(directory, app, find_and_use)


def _run(directory: Path, app: str | None, use: Callable[[Membership], Awaitable[Result]]) -> Result:
    from thebes.cli.opening import opened  # noqa: PLC0415 - loads the rooms

    async def with_accounts() -> Result:
        async with opened(directory, app) as membership:
            return await use(membership)

    return asyncio.run(with_accounts())


def _document(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "email": account.email,
        "is_enabled": account.is_enabled,
        "is_verified": account.verified_at is not None,
        "roles": list(account.roles),
        "scopes": list(account.scopes),
        "created_at": timestamp(account.created_at),
    }


def _print(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(document))
        return
    width = max(len(name) for name in document)
    for name, value in document.items():
        if name == "sessions":
            print(f"{name:<{width}}  {len(value)}")
            for session in value:
                print(f"  {session['used_at']}  {session['device']}, {session['address']}")
        else:
            text = ", ".join(value) or "none" if isinstance(value, list) else value
            print(f"{name:<{width}}  {text}")
