"""Notes: a notebook for everybody who has an account. Two lines of it are about security.

Run it from the root of the repository:

    thebes dev main:app --app-dir examples/notes
"""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError

from board import account_pages, api, pages, rendering
from board.dependencies import lifespan
from board.protection import security

app = FastAPI(title="Notes", version="1.0.0", lifespan=lifespan)
app.add_exception_handler(RequestValidationError, api.explain)
app.mount("/static", rendering.static_files, name="static")
app.include_router(pages.router)
app.include_router(account_pages.router)
app.include_router(api.router)

security.protect(app)
