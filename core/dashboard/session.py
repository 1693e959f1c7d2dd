"""Signed cookies: who is signed in, and which form a browser was shown.

A cookie holds the prefix of a key, never the key. The prefix is looked up for every
request, so a revoked key is refused at once and a session never outlives it. The
cookies are ``HttpOnly`` and ``SameSite=Strict``, and ``Secure`` except over plain HTTP
on this machine.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Any, Literal

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

SESSION_SECONDS = 12 * 3600
FORM_SECONDS = 3600
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "via")

Transport = Literal["encrypted", "local", "plain"]


def transport_of(request: Request) -> Transport:
    """Return how a browser talks to us: over TLS, on this machine, or in the clear.

    A proxy on this machine looks like a local browser but for the headers that it adds.
    Whoever forges these gets a cookie that is kept more strictly.
    """
    told = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    if "https" in {request.url.scheme, told.lower()}:
        return "encrypted"
    is_forwarded = any(name in request.headers for name in _FORWARDED)
    if request.url.hostname in LOOPBACK and not is_forwarded:
        return "local"
    return "plain"


@dataclass(frozen=True)
class Session:
    """A browser that is signed in.

    Attributes
    ----------
    prefix : str
        Of its key.
    token : str
        Has to come back with every form (against forged requests).
    """

    prefix: str
    token: str


@dataclass(frozen=True)
class SignIn:
    """A browser that was shown the form to sign in.

    Attributes
    ----------
    token : str
        As of `Session`.
    target : str
        Page of ours that was asked for, where the way leads after that.
    """

    token: str
    target: str


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(16)


def is_token(given: str, expected: str) -> bool:
    """Return whether a form brought back its token."""
    return hmac.compare_digest(given.encode(), expected.encode())


class Cookies:
    """Writes and reads the two cookies.

    Parameters
    ----------
    secret : str
        Known to the processes of one server; another one accepts none of its cookies.
    """

    def __init__(self, secret: str) -> None:
        self._session = URLSafeTimedSerializer(secret, salt="dashboard-session")
        self._sign_in = URLSafeTimedSerializer(secret, salt="dashboard-sign-in")

    def session(self, request: Request) -> Session | None:
        """Return who is signed in; None without a valid cookie."""
        told = _read(self._session, request, "session", SESSION_SECONDS)
        return None if told is None else Session(*told)

    def sign_in(self, request: Request) -> SignIn | None:
        """Return the form that was shown; None without a valid cookie."""
        told = _read(self._sign_in, request, "sign-in", FORM_SECONDS)
        return None if told is None else SignIn(*told)

    def begin(self, request: Request, response: Response, prefix: str) -> None:
        """Sign a browser in, and forget the form."""
        told = self._session.dumps([prefix, new_token()])
        _write(request, response, "session", str(told), SESSION_SECONDS)
        self._forget(request, response, "sign-in")

    def show_form(self, request: Request, response: Response, form: SignIn) -> None:
        """Keep which form is shown."""
        told = self._sign_in.dumps([form.token, form.target])
        _write(request, response, "sign-in", str(told), FORM_SECONDS)

    def end(self, request: Request, response: Response) -> None:
        """Sign a browser out."""
        self._forget(request, response, "session")

    def _forget(self, request: Request, response: Response, what: str) -> None:
        _write(request, response, what, "", 0)


def _name(request: Request, what: str) -> str:
    """Return a cookie's name; with ``__Host-`` no other host can set it."""
    is_local = transport_of(request) == "local"
    return f"segments-{what}" if is_local else f"__Host-segments-{what}"


def _write(
    request: Request, response: Response, what: str, value: str, seconds: int
) -> None:
    response.set_cookie(
        _name(request, what),
        value,
        max_age=seconds,
        path="/",
        secure=transport_of(request) != "local",
        httponly=True,
        samesite="strict",
    )


def _read(
    serializer: URLSafeTimedSerializer, request: Request, what: str, seconds: int
) -> list[Any] | None:
    try:
        told: list[Any] = serializer.loads(
            request.cookies.get(_name(request, what), ""), max_age=seconds
        )
    except BadSignature:
        return None
    return told
