"""The command line of torchrun on one node of a job, and the environment for it."""

from __future__ import annotations

from collections.abc import Sequence

from slurm.programs import under_torchrun

_PORTS = range(20_000, 32_000)  # below Linux's ports for outgoing connections


def port_of(job: str, restart: int) -> int:
    """The same on every node without a word between them, another for the next job and the next attempt.

    A port that an attempt left busy must not stop the one after it.
    """
    number = int("".join(filter(str.isdigit, job)) or 0)
    return _PORTS[(number * 31 + restart * 7) % len(_PORTS)]


def torchrun(
    python: str,
    *,
    nodes: int,
    node: int,
    ranks: int,
    job: str,
    address: str,
    port: int,
    own_address: str,
    join_timeout_s: int,
    numa_binding: str | None = None,
    module: Sequence[str],
) -> list[str]:
    """torchrun for `ranks` processes here, out of `nodes` x `ranks`.

    address: of the first node, where the rendezvous is; own_address: of this one; module: its name
    and arguments. It handles SIGHUP alone: the signals by which a cluster asks for its nodes are
    for the ranks, which leave in order, where torchrun would kill them after 30 s.
    """
    where = ["--rdzv-endpoint=localhost:0"]  # any free port
    if nodes > 1:
        conditions = {
            "is_host": int(node == 0),
            "join_timeout": join_timeout_s,
            "read_timeout": join_timeout_s,  # also how long the others wait for the first node to listen
        }
        where = [
            f"--rdzv-endpoint={address}:{port}",
            f"--rdzv-conf={','.join(f'{name}={value}' for name, value in conditions.items())}",
            f"--local-addr={own_address}",
        ]
    bound = [f"--numa-binding={numa_binding}"] if numa_binding else []
    return [
        python, "-m", "torch.distributed.run",
        f"--nnodes={nodes}", f"--nproc-per-node={ranks}", "--max-restarts=0", "--signals-to-handle=SIGHUP",
        "--rdzv-backend=c10d", *where, *bound, f"--rdzv-id={job}",
        *under_torchrun(python, module),
    ]  # fmt: skip


def network(interface: str | None) -> dict[str, str]:
    """The environment variables by which gloo, NCCL and torchrun's own traffic take one interface."""
    if interface is None:
        return {}
    # To NCCL a bare name is how names begin: eth1 would mean eth10 too.
    exact = f"={interface}"
    return {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": exact, "TP_SOCKET_IFNAME": interface}
