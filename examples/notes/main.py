"""Notes, a public note board. Two lines of it are about security.

Run it from the root of the repository:

    thebes dev main:app --app-dir examples/notes
"""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError

from board import api, pages
from board.dependencies import lifespan
from thebes import Security

app = FastAPI(title="Notes", version="1.0.0", lifespan=lifespan)
app.add_exception_handler(RequestValidationError, api.explain)
app.mount("/static", pages.static_files, name="static")
app.include_router(pages.router)
app.include_router(api.router)

Security().protect(app)
