"""Passwords and signatures taken out of addresses, and of texts that hold addresses.

Whatever leaves the program goes through here: options when they are saved or printed
(`core.config.Address`), messages of errors (`core.errors.SegmentsError`), lines of logs
(`core.logging`) and of commands (`core.cli`). In doubt too much is taken out: a host is
lost sooner than half a password is shown.
"""

from __future__ import annotations

import re

HIDDEN = "***"

# Up to the closing backtick where a message quotes it, else up to the next space.
_ADDRESS = re.compile(
    r"(?<=`)[a-z][a-z0-9+.-]*://[^`]*|(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://\S+"
    r"|(?<=`)[^`:/\\?#@\s]{2,}:[^`\s]*@[^`]*",
    re.IGNORECASE,
)
# A raw `/`, `?`, `#` or `@` may be part of a password, so the last `@` ends it.
_ACCOUNT = re.compile(r"((?<![\w+.-])\w[\w+.-]*://[^:/?#@]*:).*@", re.DOTALL)
_BARE = re.compile(r"^([^:/\\?#@\s]{2,}:).*@", re.DOTALL)
# What stands before `@` without a colon is a user, but often a token on the web.
_TOKEN = re.compile(r"(https?://)[^:/?#@]+@", re.I)
_NAMES = (
    r"(?<![\w-])(x-(?:amz|goog)-[\w-]+|awsaccesskeyid|googleaccessid|sig|api[_-]?key|"
    r"[\w-]*(?:password|passwd|pwd|token|secret|signature|credential)[\w-]*)="
)
_PASSWORD = re.compile(r"\b((?:ssl)?password)\s*=.*", re.I | re.DOTALL)
_PARAMETER = re.compile(rf"{_NAMES}[^&]*", re.I | re.DOTALL)
_SETTING = re.compile(rf"{_NAMES}(?:'[^']*'|[^\s&'\"`<>)]*)", re.I)


def redacted_address(address: str) -> str:
    """Return an address without its password, token and signature; a path as it is.

    >>> redacted_address("postgresql://ann:p/a?s#s@db:5432/shop?sslpassword=x")
    'postgresql://ann:***@db:5432/shop?sslpassword=***'
    >>> redacted_address("https://host/rows.csv?X-Amz-Signature=c0ffee&page=2")
    'https://host/rows.csv?X-Amz-Signature=***&page=2'
    >>> redacted_address("s3://bucket/rows@v2.csv")
    's3://bucket/rows@v2.csv'
    """
    if "://" not in address:
        # A path may have a folder `token=1`; a list of settings has a password.
        address = _BARE.sub(rf"\1{HIDDEN}@", address)
        return _PASSWORD.sub(rf"\1={HIDDEN}", address)
    address = _ACCOUNT.sub(rf"\1{HIDDEN}@", address)
    address = _TOKEN.sub(rf"\1{HIDDEN}@", address)
    return _PARAMETER.sub(rf"\1={HIDDEN}", address)


def redacted(text: str) -> str:
    """Return a text with every address in it redacted, and every `password=...`.

    >>> redacted("`https://ann:secret@host/x` answered 403 to /x?sig=abc")
    '`https://ann:***@host/x` answered 403 to /x?sig=***'
    """
    if "@" not in text and "=" not in text:
        return text
    text = _ADDRESS.sub(lambda found: redacted_address(found[0]), text)
    return _SETTING.sub(rf"\1={HIDDEN}", text)
