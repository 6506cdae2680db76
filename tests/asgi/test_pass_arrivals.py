"""Checks that know by the arrival alone that a request passes: asked once for those that come alike."""

from calling import call, http_scope
from thebes.asgi import Plan, SecurityMiddleware
from thebes.facts import Denial, Surroundings

STRANGER = Denial(421, "stranger", "Not here", "")


class Doorkeeper:
    """Let in those who name the right host, and to the open path anybody."""

    name = "door"

    def __init__(self, host=b"known", open_path="/open"):
        self.asked = []
        self._host = host
        self._open_path = open_path

    def passes(self, arrival):
        return arrival.host == self._host

    def __call__(self, facts):
        self.asked.append(facts.path)
        return None if facts.arrival.host == self._host or facts.path == self._open_path else STRANGER


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def status_of(protected, path, host):
    scope = http_scope(path) | {"headers": [(b"host", host)]}
    return (await call(protected, scope))[0]["status"]


async def test_who_passes_by_arrival_is_asked_nothing_more():
    keeper = Doorkeeper()
    protected = SecurityMiddleware(app, [keeper])
    for path in ("/a", "/b", "/open"):
        assert await status_of(protected, path, b"known") == 200
    assert keeper.asked == []


async def test_who_passes_for_another_reason_is_judged_anew_each_time():
    protected = SecurityMiddleware(app, [Doorkeeper()])
    for _ in range(2):
        assert await status_of(protected, "/open", b"other") == 200
        assert await status_of(protected, "/a", b"other") == 421


async def test_all_who_judge_arrivals_have_to_agree():
    first, second = Doorkeeper(), Doorkeeper(host=b"never")
    protected = SecurityMiddleware(app, [first, second])
    assert await status_of(protected, "/a", b"known") == 421
    assert await status_of(protected, "/open", b"known") == 200
    assert second.asked == ["/a", "/open"]


async def test_what_one_pass_has_let_in_counts_for_no_other():
    shared = Surroundings()
    lenient, strict = (
        SecurityMiddleware(app, plan=lambda keeper=keeper: Plan([keeper], surroundings=shared))
        for keeper in (Doorkeeper(), Doorkeeper(host=b"never"))
    )
    assert await status_of(lenient, "/a", b"known") == 200
    assert await status_of(strict, "/a", b"known") == 421


async def test_checks_that_need_more_than_the_arrival_are_asked_as_ever():
    class Kettle:
        name = "kettle"

        def __call__(self, facts):
            return STRANGER if facts.path == "/tea" else None

    protected = SecurityMiddleware(app, [Doorkeeper(), Kettle()])
    for path, status in (("/a", 200), ("/tea", 421), ("/a", 200), ("/tea", 421)):
        assert await status_of(protected, path, b"known") == status
