"""The endpoint's clock, as far as it tells."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime

from kbsync.errors import KbsyncError
from kbsync.settings import SourceSettings, user_agent
from kbsync.source.transport import opener_for


def ahead_s(settings: SourceSettings, timeout_s: float, now: Callable[[], datetime]) -> float | None:
    """By how many seconds the endpoint's clock is ahead of ours (`now`), by the Date of an answer without a body
    (whatever its status); None where it does not tell, or tells the date of something that a cache has kept."""
    request = urllib.request.Request(  # noqa: S310  the settings allow http and https alone
        settings.endpoint, method="HEAD", headers={"User-Agent": user_agent(settings)}
    )
    before = now()
    try:
        with opener_for(settings.endpoint).open(request, timeout=timeout_s) as response:
            headers = response.headers
    except urllib.error.HTTPError as error:
        with error:
            headers = error.headers
    except (KbsyncError, OSError, http.client.HTTPException, ValueError):
        return None
    middle = before + (now() - before) / 2
    if headers.get("Age") not in (None, "0"):
        return None
    try:
        told = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, OverflowError):  # no date, or one whose year no integer holds
        return None
    return (told - middle).total_seconds() if told.tzinfo is not None else None
