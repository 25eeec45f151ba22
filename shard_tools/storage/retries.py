"""Asking again while what failed may pass, and a StorageError where it does not."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from shard_tools.storage.errors import (
    MissingError,
    StorageError,
    Verdict,
    WrongAnswerError,
    brief,
    judge_system,
)
from shard_tools.storage.policy import current_policy

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def guarded(
    url: str,
    operation: Callable[[], Result],
    judge: Callable[[BaseException], Verdict] = judge_system,
    *,
    retry: bool = True,
    wait: Callable[[float], object] | None = None,
) -> Result:
    """Run `operation`, with retries unless told otherwise; whatever fails in the end is a StorageError.

    wait: how to wait so many seconds before a retry, for whoever may be told to wait no longer.
    """
    try:
        return with_retries(operation, url, judge, wait) if retry else operation()
    except StorageError:
        raise
    except Exception as error:
        verdict = judge(error)
        if verdict.missing is not None:
            raise MissingError(f"{url}: {verdict.advice}", bucket=verdict.missing == "bucket") from error
        raise StorageError(f"{url}: {_advice(error, verdict)}", passing=verdict.passing) from error


def with_retries(
    operation: Callable[[], Result],
    url: str,
    judge: Callable[[BaseException], Verdict] = judge_system,
    wait: Callable[[float], object] | None = None,
) -> Result:
    """Run `operation`, again after a wait while it fails with an error that may pass, as the policy says.

    Waits double and are jittered to between half and the whole, so that many
    workers which failed together do not come back together.
    """
    attempt = 0
    while True:
        try:
            return operation()
        except Exception as error:
            attempt += 1
            verdict = judge(error)
            allowed = _tries(verdict)
            if attempt >= allowed or not verdict.passing:
                raise
            seconds = current_policy().first_wait_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
            log = logger.warning if attempt > 2 else logger.info
            log("%s: %s; try %d of %d in %.1f s", url, brief(error), attempt + 1, allowed, seconds)
            (wait or time.sleep)(seconds)


def _tries(verdict: Verdict) -> int:
    allowed = current_policy().attempts
    return allowed if verdict.tries is None else min(allowed, verdict.tries)


def _advice(error: Exception, verdict: Verdict) -> str:
    if isinstance(error, WrongAnswerError):
        return f"{error}, {_tries(verdict)} times; {error.remedy}"
    if verdict.passing and verdict.tries is None:
        tries = current_policy().attempts
        return f"gave up after {tries} tries ({verdict.advice}); the store is out of reach or overloaded"
    return verdict.advice
