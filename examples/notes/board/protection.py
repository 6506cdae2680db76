"""What protects the app: closed but for the pages named here, and a token in every form.

Accounts come with it: registration, mails, sign-in and sessions are served below `/auth`.
"""

from thebes import Security

security = Security(
    require_account=True,
    public=[
        "GET /",
        "GET /register",
        "GET /verify",
        "GET /login",
        "GET /forgot",
        "GET /reset",
        "GET /static/*",
        "GET /docs",
        "GET /openapi.json",
    ],
    login_url="/login",
    csrf_token="forms",  # noqa: S106 - a choice, no secret
)
