"""Why an attempt failed: from what ranks left in the run folder, and from what torchrun printed."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from shard_tools.run_records import FailureKind

# What Python, torch and NCCL print where no rank could speak for itself, and what it means to a user.
# kind mistake: starting again cannot help.
_PATTERNS: tuple[tuple[str, FailureKind, str], ...] = (
    (
        r"^(?:.*\| )?(?:\[\w+\]:)?(?:train(?:\[rank \d+\])?: )?(error: .+)$",
        "mistake",
        "{0}",
    ),
    (
        r"ModuleNotFoundError: No module named '?([\w.]+)|/python\S*: No module named ([\w.]+)",
        "mistake",
        "the Python of node {node} ({python}) has no module {0}: install it there too, load what it needs "
        "with --setup, or name another Python with --python",
    ),
    (
        r"Rendezvous\w*Error|RendezvousConnection|DistNetworkError|client socket has timed out",
        "crash",
        "node {node} did not meet the others at {endpoint}: check that the first node can be reached "
        "from it at that address and port, and name the right network with --interface",
    ),
    (
        r"Watchdog caught collective operation timeout",
        "crash",
        "a collective of NCCL timed out on node {node}: a rank stands still, or the network does; "
        "look at the ranks' logs just before, and name the right network with --interface",
    ),
    (
        r"watchdog thread terminated with exception: (.+)",
        "crash",
        "NCCL ended a rank on node {node}: {0}; look at the ranks' logs just before",
    ),
    (
        r"No space left on device",
        "mistake",
        "a disk of node {node} is full: free it, or give another run.folder, checkpoint.url or TMPDIR",
    ),
)
_RANK_KILLED = re.compile(r"rank\s*:\s*(\d+) \(local_rank: \d+\)\s+exitcode\s*:\s*-(\d+) \(pid: (\d+)\)")
_CHILD_KILLED = re.compile(r"failed \(exitcode: -(\d+)\) local_rank: (\d+) \(pid: (\d+)\)")
_GIVEN_UP = signal.SIGABRT  # how torch and NCCL end a rank, after they have said why


@dataclass(frozen=True)
class Cause:
    kind: FailureKind  # mistake or crash
    rank: int | None
    text: str


def killed_rank(text: str, *, node: str) -> Cause | None:
    """The rank of `node` that a signal ended first, as torchrun says in its last lines."""
    killed = list(_RANK_KILLED.finditer(re.sub(r"^.*?\| ", "", text, flags=re.M)))
    if killed:
        rank, number = int(killed[-1][1]), int(killed[-1][2])
        return (
            None
            if number == _GIVEN_UP
            else Cause("crash", rank, f"rank {rank} on node {node} {_was_ended(number)}")
        )
    children = list(_CHILD_KILLED.finditer(text))
    if not children or int(children[-1][1]) == _GIVEN_UP:
        return None
    number, local_rank = int(children[-1][1]), int(children[-1][2])
    return Cause("crash", None, f"local rank {local_rank} on node {node} {_was_ended(number)}")


def from_output(text: str, status: int, *, node: str, endpoint: str, python: str) -> Cause:
    """What torchrun's last lines on `node` and its exit status say where no rank could speak for itself.

    endpoint: HOST:PORT of the rendezvous; python: the interpreter, for messages.
    """
    for pattern, kind, words in _PATTERNS:
        found = re.search(pattern, text, flags=re.M)
        if found:
            groups = [group for group in found.groups() if group]
            return Cause(kind, None, words.format(*groups, node=node, endpoint=endpoint, python=python))
    if status < 0:
        return Cause("crash", None, f"torchrun on node {node} {_was_ended(-status)}")
    last = [line for line in text.splitlines() if line.strip()][-1:]
    said = f"; its last line: {last[0].strip()}" if last else ", and said nothing"
    return Cause("crash", None, f"torchrun on node {node} ended with status {status}{said}")


def _was_ended(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number != signal.SIGKILL:
        return f"was ended by {name}"
    return (
        f"was ended by {name}: from outside, or by the kernel for want of memory (then lower data.workers, "
        "or ask for more with --mem)"
    )
