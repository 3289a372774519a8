"""Routes of people's accounts."""

from litestar import Controller, delete, get, post, put
from litestar.params import FromPath, RawBody

from gateway.admin.account_bodies import AccountBody, PasswordBody
from gateway.admin.bodies import decode
from gateway.admin.context import AdminRequest, Context
from gateway.admin.documented import REFUSALS, WRITE_REFUSALS, TakesAccount, TakesPassword
from gateway.admin.views import View, iso
from registry.passwords import check_password
from registry.state import AccessRole, Account


class AccountView(View, frozen=True, kw_only=True):
    """*updated_at*: when its password was last set."""

    name: str
    role: AccessRole
    created_at: str
    updated_at: str


class AccountList(View, frozen=True, kw_only=True):
    items: tuple[AccountView, ...]


class AccountController(Controller):
    path = "/admin/v1/accounts"
    tags = ("accounts",)

    @get("/", operation_id="listAccounts", responses=REFUSALS)
    async def list_accounts(self, ctx: Context) -> AccountList:
        return AccountList(items=tuple(map(_view, await ctx.store.accounts())))

    @post("/", operation_id="createAccount", operation_class=TakesAccount, responses=WRITE_REFUSALS)
    async def create_account(
        self, ctx: Context, request: AdminRequest, body: RawBody
    ) -> AccountView:
        wish = decode(body, AccountBody)
        check_password(wish.password, wish.name)
        password_hash = await ctx.passwords.hash(wish.password)
        made = await ctx.store.create_account(wish.name, wish.role, password_hash, by=request.auth)
        return _view(made)

    @put(
        "/{name:str}/password",
        operation_id="setPassword",
        operation_class=TakesPassword,
        responses=WRITE_REFUSALS,
        description="Ends the account's sessions.",
    )
    async def set_password(
        self, ctx: Context, request: AdminRequest, name: FromPath[str], body: RawBody
    ) -> AccountView:
        password = decode(body, PasswordBody).password
        await ctx.store.account(name)
        check_password(password, name)
        password_hash = await ctx.passwords.hash(password)
        return _view(await ctx.store.set_password(name, password_hash, by=request.auth))

    @delete("/{name:str}", operation_id="deleteAccount", responses=REFUSALS, status_code=200)
    async def delete_account(
        self, ctx: Context, request: AdminRequest, name: FromPath[str]
    ) -> AccountView:
        """Ends its sessions."""
        return _view(await ctx.store.delete_account(name, by=request.auth))


def _view(account: Account) -> AccountView:
    return AccountView(
        name=account.name,
        role=account.role,
        created_at=iso(account.created_at),
        updated_at=iso(account.updated_at),
    )
