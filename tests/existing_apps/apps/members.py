"""A member area with home-made JWTs (HS256), the way a tutorial of 2021 taught it."""

import base64
import hashlib
import hmac
import json
import time
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Response
from fastapi.security import (
    HTTPBasic,
    HTTPBasicCredentials,
    OAuth2PasswordBearer,
    OAuth2PasswordRequestForm,
)

SECRET = b"members-signing-key-only-for-tests"
USERS = {"ada": "lovelace", "grace": "hopper"}

router = APIRouter(prefix="/auth", tags=["auth"])
oauth2 = OAuth2PasswordBearer(tokenUrl="/auth/login", auto_error=False)
basic = HTTPBasic(realm="metrics")


def encode(part: dict | bytes) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(text: str) -> str:
    return encode(hmac.new(SECRET, text.encode(), hashlib.sha256).digest())


def make_token(user: str, seconds: int) -> str:
    claims = {"sub": user, "exp": int(time.time()) + seconds}
    text = f"{encode({'alg': 'HS256', 'typ': 'JWT'})}.{encode(claims)}"
    return f"{text}.{sign(text)}"


def unauthorized(detail: str, error: str = "") -> HTTPException:
    challenge = 'Bearer realm="members"' + (f', error="{error}"' if error else "")
    return HTTPException(401, detail, headers={"WWW-Authenticate": challenge})


def current_user(token: str | None = Depends(oauth2)) -> str:
    if token is None:
        raise unauthorized("please sign in")
    text, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature, sign(text)):
        raise unauthorized("not our token", "invalid_token")
    claims = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    if claims["exp"] < time.time():
        raise unauthorized("token expired", "invalid_token")
    return claims["sub"]


@router.post("/login")
def login(response: Response, form: Annotated[OAuth2PasswordRequestForm, Depends()]):
    if USERS.get(form.username) != form.password:
        raise HTTPException(400, "wrong user name or password")
    response.headers["Cache-Control"] = "no-store"
    seconds = -60 if "expired" in form.scopes else 900
    return {"access_token": make_token(form.username, seconds), "token_type": "bearer"}


@router.get("/me")
def me(user: str = Depends(current_user)):
    return {"user": user}


@router.options("/me", status_code=204)
def me_options(response: Response):
    response.headers["Allow"] = "GET, OPTIONS"


@router.post("/me/motto")
def set_motto(motto: dict[str, str], user: str = Depends(current_user)):
    return {"user": user, **motto}


def create_app() -> FastAPI:
    app = FastAPI(title="Members")
    app.include_router(router)

    @app.get("/metrics")
    def metrics(credentials: Annotated[HTTPBasicCredentials, Depends(basic)]):
        if (credentials.username, credentials.password) != ("prometheus", "s:cret"):
            raise HTTPException(401, headers={"WWW-Authenticate": 'Basic realm="metrics"'})
        return {"members": len(USERS)}

    return app
