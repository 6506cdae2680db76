"""Guestbook: server-rendered pages with inline scripts, a form and a visit counter in the session."""

from typing import Annotated

import jinja2
from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.middleware.sessions import SessionMiddleware

PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>Guestbook</title>
  <style>.count { color: rgb(0, 128, 128); }</style>
  <script src="https://cdn.widgets.example/confetti.js"></script>
  <script>function greet() { document.getElementById("greeting").textContent = "Hello!"; }</script>
</head>
<body onload="document.body.dataset.ready = 'yes'">
  <h1 style="letter-spacing: 3px">Guestbook</h1>
  <p class="count">Visits: {{ visits }}</p>
  {% if name %}<p id="who">Signed in as {{ name }}</p>{% endif %}
  <button onclick="greet()">Greet</button> <span id="greeting"></span>
  <form method="post" action="/sign">
    <input name="name" required> <textarea name="message"></textarea> <button>Sign</button>
  </form>
  <ul>{% for entry in entries %}<li><b>{{ entry.name }}</b>: {{ entry.message }}</li>{% endfor %}</ul>
  <a href="javascript:void(greet())">again</a>
</body>
</html>
"""

templates = jinja2.Environment(autoescape=True)
page = templates.from_string(PAGE)


def create_app() -> FastAPI:
    app = FastAPI(title="Guestbook")
    app.add_middleware(SessionMiddleware, secret_key="guestbook-session-key", max_age=3600)
    entries: list[dict[str, str]] = []

    @app.get("/", response_class=HTMLResponse)
    async def index(request: Request):
        request.session["visits"] = request.session.get("visits", 0) + 1
        return page.render(
            visits=request.session["visits"], name=request.session.get("name"), entries=entries
        )

    @app.post("/sign")
    async def sign(request: Request, name: Annotated[str, Form()], message: Annotated[str, Form()] = ""):
        entries.append({"name": name, "message": message})
        request.session["name"] = name
        return RedirectResponse("/", status_code=303)

    @app.post("/leave")
    async def leave(request: Request):
        request.session.clear()
        return RedirectResponse("/", status_code=303)

    return app
