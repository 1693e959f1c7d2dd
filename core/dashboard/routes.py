"""Routes of the dashboard: the sign-in, the pages, and the files that they need."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from core.dashboard import pages
from core.dashboard.filters import Listing
from core.dashboard.session import (
    Cookies,
    SignIn,
    is_token,
    new_token,
    transport_of,
)
from core.errors import StoreError, StoreLayoutError
from core.store import AsyncReader
from core.store.browsing import entity_page, stored_board, stored_entity
from core.store.store import split_key

HOME = "/dashboard"
LOGIN = f"{HOME}/login"
# One on average, five at once: nobody types faster, and a key cannot be guessed anyway.
SIGN_INS_PER_SECOND = 0.5
_FORM = "application/x-www-form-urlencoded"
_MAX_TARGET = 1_500

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    # Addresses have ids of customers in them.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Dashboard:
    """What the pages work with, in the application's state as ``dashboard``.

    Attributes
    ----------
    reader : AsyncReader
    cookies : Cookies
    sign_in_wait, page_wait : callable
        Count a request of an address of the network, or of a key's prefix; return 0,
        or how many seconds it has to wait.
    note_store : callable
        Notes for the log whose data a request has read.
    note_outage : callable
        Counts and logs that the database is away.
    """

    reader: AsyncReader
    cookies: Cookies
    sign_in_wait: Callable[[str], float]
    page_wait: Callable[[str], float]
    note_store: Callable[[Request, str], None]
    note_outage: Callable[[Request, StoreError], None]

    @classmethod
    def of(cls, request: Request) -> Dashboard:
        """Return that of the application that a request came to."""
        found: Dashboard = request.app.state.dashboard
        return found


class SignedOutError(Exception):
    """Somebody asks for a page without a valid session."""


class PageRoute(APIRoute):
    """A route whose errors are pages, too, and whose answers nobody may frame."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                response = await handler(request)
            except SignedOutError:
                response = _lead_to_sign_in(request)
            except (HTTPException, RequestValidationError, StoreError) as error:
                response = _problem(request, error)
            for name, value in HEADERS.items():
                response.headers[name] = value
            return response

        return answer


router = APIRouter(prefix=HOME, route_class=PageRoute, include_in_schema=False)


def _problem(request: Request, error: Exception) -> Response:
    """Return a page that says what went wrong and what to do."""
    if isinstance(error, StoreError):
        Dashboard.of(request).note_outage(request, error)
        is_broken = isinstance(error, StoreLayoutError)
        said = pages.LAYOUT_FAULT if is_broken else pages.OUTAGE
        return HTMLResponse(pages.problem(said), 500 if is_broken else 503)
    if isinstance(error, HTTPException):
        text = pages.problem(str(error.detail))
        return HTMLResponse(text, error.status_code, error.headers)
    return HTMLResponse(pages.problem(pages.NO_PAGE), 404)


def _too_many(seconds: float) -> HTTPException:
    shown = str(math.ceil(seconds))
    return HTTPException(
        429,
        f"Too many requests. Try again in {shown} s.",
        headers={"Retry-After": shown},
    )


def _lead_to_sign_in(request: Request) -> Response:
    """Answer whoever is not signed in, and remember the page that was asked for."""
    if "hx-request" in request.headers:
        return Response(status_code=204, headers={"HX-Redirect": LOGIN})
    query = request.scope["query_string"]
    target = (request.scope["raw_path"] + (b"?" + query if query else b"")).decode()
    if request.headers.get("sec-fetch-site") == "cross-site":
        # A link on another site: the browser held the cookie back (SameSite=Strict).
        # It sends it when the page of ours asks once more.
        return HTMLResponse(pages.once_more(target))
    cookies = Dashboard.of(request).cookies
    before = cookies.sign_in(request)
    response = RedirectResponse(LOGIN, 303)
    if len(target) <= _MAX_TARGET:
        token = before.token if before else new_token()
        cookies.show_form(request, response, SignIn(token, target))
    return response


@router.get("/login")
async def get_login(request: Request) -> Response:
    """Show the form to sign in."""
    dashboard = Dashboard.of(request)
    session = dashboard.cookies.session(request)
    if session and await dashboard.reader.store_of_key(session.prefix):
        return RedirectResponse(HOME, 303)
    return _login_page(request)


def _login_page(request: Request, said: str = "", status: int = 200) -> Response:
    cookies = Dashboard.of(request).cookies
    # The same form in several tabs.
    form = cookies.sign_in(request) or SignIn(new_token(), HOME)
    response = HTMLResponse(
        pages.login(form.token, said, transport_of(request)), status
    )
    cookies.show_form(request, response, form)
    return response


@router.post("/login")
async def post_login(request: Request) -> Response:
    """Exchange a key for a cookie."""
    dashboard = Dashboard.of(request)
    client = request.client.host if request.client else ""
    if wait := dashboard.sign_in_wait(client):
        raise _too_many(wait)
    form, shown = await _form(request), dashboard.cookies.sign_in(request)
    if shown is None or not is_token(form.get("token", ""), shown.token):
        return _login_page(request, pages.STALE_FORM, 400)
    key = form.get("key", "").strip()
    parts = split_key(key)
    store_id = await dashboard.reader.authenticate(key)
    if parts is None or store_id is None:
        return _login_page(request, pages.WRONG_KEY, 401)
    dashboard.note_store(request, store_id)
    response = RedirectResponse(shown.target, 303)
    dashboard.cookies.begin(request, response, parts[0])
    return response


@router.post("/logout")
async def post_logout(request: Request) -> Response:
    """Sign out."""
    cookies = Dashboard.of(request).cookies
    session = cookies.session(request)
    response = RedirectResponse(LOGIN, 303)
    if session is not None:
        form = await _form(request)
        if not is_token(form.get("token", ""), session.token):
            raise HTTPException(400, pages.STALE_FORM)
        cookies.end(request, response)
    return response


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form that was sent; empty if it is none."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        return {}
    text = (await request.body()).decode("utf-8", "replace")
    return {name: values[0] for name, values in parse_qs(text).items()}


@router.get("/static/{name}")
async def get_static(name: str) -> Response:
    """Return a file that the pages need; its name changes with what is in it."""
    found = pages.assets().files.get(name)
    if found is None:
        raise HTTPException(404, pages.NO_PAGE)
    kind, content = found
    keep = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(content, media_type=kind, headers=keep)


async def _viewer(request: Request) -> pages.Viewer:
    """Return who is asking and the board of their store.

    Raises
    ------
    SignedOutError
        If nobody is signed in, or the key has been revoked.
    """
    dashboard = Dashboard.of(request)
    session = dashboard.cookies.session(request)
    if session is None:
        raise SignedOutError
    if wait := dashboard.page_wait(session.prefix):
        raise _too_many(wait)
    store_id = await dashboard.reader.store_of_key(session.prefix)
    if store_id is None:
        raise SignedOutError
    dashboard.note_store(request, store_id)
    stored = await stored_board(dashboard.reader, store_id)
    if stored is None:
        return pages.Viewer(store_id, session.token, None)
    distribution = stored.stats["segment_distribution"]
    return pages.Viewer(store_id, session.token, stored.board, distribution)


@router.get("/")
@router.get("")
async def get_overview(request: Request, period: str = "") -> Response:
    """Show the verdict, the figures, the segments and how they move."""
    viewer = await _viewer(request)
    return HTMLResponse(pages.overview(viewer, period))


@router.get("/axis/{name:path}")
async def get_axis(request: Request, name: str, period: str = "") -> Response:
    """Show the segments of one axis in full."""
    viewer = await _viewer(request)
    axes = viewer.board.axes if viewer.board else []
    for axis in axes:
        if axis.name == name:
            return HTMLResponse(pages.axis(viewer, axis, period))
    raise HTTPException(404, "There is no such way to divide them.")


@router.get("/entities")
async def get_entities(request: Request) -> Response:
    """List entities; search, filters, order and page stand in the address."""
    viewer = await _viewer(request)
    listing = Listing.of(request.query_params)
    reader = Dashboard.of(request).reader
    found = await entity_page(reader, viewer.store_id, listing.query)
    response = HTMLResponse(pages.entities(viewer, listing, found))
    if "hx-request" in request.headers:
        # A form sends what is empty, too.
        response.headers["HX-Push-Url"] = listing.address
    return response


@router.get("/entity/{entity_id:path}")
async def get_entity(request: Request, entity_id: str) -> Response:
    """Show everything that is stored of one entity."""
    viewer = await _viewer(request)
    reader = Dashboard.of(request).reader
    found = await stored_entity(reader, viewer.store_id, entity_id)
    if found is None:
        raise HTTPException(404, f"There is no {viewer.entity} of that name.")
    return HTMLResponse(pages.entity(viewer, found))


@router.get("/{rest:path}")
async def get_nothing(rest: str) -> Response:
    """Answer what leads nowhere."""
    raise HTTPException(404, pages.NO_PAGE)
