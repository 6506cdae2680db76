"""Orders for a single-page app that a partner hosts on another site, and the payment provider's webhook."""

import hashlib
import hmac
import json
import secrets

from fastapi import Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel

WEBHOOK_SECRET = b"whsec_only_for_tests"
FRONT_ENDS = ["https://app.partner.example", "http://localhost:5173"]  # the second one: npm run dev


class Order(BaseModel):
    item: str
    quantity: int = 1
    paid: bool = False


def create_app() -> FastAPI:
    app = FastAPI(title="Partner orders")
    app.add_middleware(
        CORSMiddleware,
        allow_origins=FRONT_ENDS,
        allow_credentials=True,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Content-Type", "X-Request-Id"],
        expose_headers=["X-Total-Count"],
        max_age=1234,
    )
    orders: dict[int, Order] = {1: Order(item="tea")}
    sessions: dict[str, str] = {}

    def signed_in(partner_session: str | None = Cookie(default=None)) -> str:
        if partner_session not in sessions:
            raise HTTPException(401, "sign in first")
        return sessions[partner_session]

    @app.post("/api/login", status_code=204)
    def login(credentials: dict[str, str], response: Response) -> None:
        if credentials.get("password") != "correct horse":
            raise HTTPException(403, "wrong password")
        session = secrets.token_urlsafe()
        sessions[session] = credentials["user"]
        response.set_cookie(
            "partner_session", session, secure=True, httponly=True, samesite="none", max_age=600
        )

    @app.get("/api/orders")
    def list_orders(response: Response) -> list[Order]:
        response.headers["X-Total-Count"] = str(len(orders))
        return list(orders.values())

    @app.post("/api/orders", status_code=201)
    def create_order(order: Order, user: str = Depends(signed_in)) -> dict[str, int | str]:
        number = max(orders) + 1
        orders[number] = order
        return {"number": number, "by": user}

    @app.get("/api/orders/{number}")
    def get_order(number: int) -> Order:
        if number not in orders:
            raise HTTPException(404, "no such order")
        return orders[number]

    @app.delete("/api/orders/{number}", status_code=204)
    def delete_order(number: int, user: str = Depends(signed_in)) -> None:
        orders.pop(number, None)

    @app.post("/hooks/payments")
    async def payment_webhook(request: Request) -> dict[str, str]:
        body = await request.body()
        expected = "sha256=" + hmac.new(WEBHOOK_SECRET, body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(request.headers.get("X-Signature", ""), expected):
            raise HTTPException(401, "bad signature")
        event = json.loads(body)
        orders[event["order"]].paid = event["type"] == "payment.succeeded"
        return {"received": event["id"]}

    return app
