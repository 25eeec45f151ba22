"""A real SLURM of two nodes, n1 and n2, on this one machine, for as long as a `with` lasts.

Usable by scripts too: `with Cluster(folder) as cluster: cluster.run("sbatch", "job.sh")`. Needs root
(slurmd starts each job's processes as the job's user) and Debian's packages slurm-wlm and munge; nothing
outside `folder` and a short-lived folder for munge's socket is written, and a munged or slurmctld that the
machine runs already is not disturbed.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType

INSTALL = "apt-get install -y slurm-wlm munge"
NODES = ("n1", "n2")
ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
_START_S = 60.0  # far more than the seconds it takes, since a busy machine may take longer

_CONFIG = """\
ClusterName={name}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={socket},cred_expire={requeue_wait_s}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
PropagateResourceLimits=NONE
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
SlurmdTimeout={node_timeout_s}
KillWait={kill_wait_s}
InactiveLimit=0
MinJobAge=3600
FirstJobId={first_job}
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={port_n1} CPUs=4
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={port_n2} CPUs=4
PartitionName=normal Nodes=n[1-2] Default=YES PriorityTier=1 GraceTime={grace_s} MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=n[1-2] PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why a cluster cannot be started here and what to do about it, or None."""
    lacking = [program for program in _PROGRAMS if shutil.which(program, path=_path()) is None]
    if lacking:
        return f"{', '.join(lacking)} not found: {INSTALL}"
    if os.geteuid() != 0:
        return f"starting a SLURM needs root, and its packages: {INSTALL}"
    return None


class Cluster:
    """Two nodes of four CPUs each; a job of partition "urgent" preempts jobs of "normal".

    SLURM requeues a preempted job only if its batch script is there still at the end of `grace_s`: one that
    ends before, by its SIGTERM too, counts as COMPLETED or FAILED. It looks for ended graces, time limits and
    silent nodes every half minute, so each of them may take that much longer.

    folder: holds slurm.conf, logs and state; it must be empty or not exist.
    grace_s: seconds between a preempted job's SIGTERM and its end.
    kill_wait_s: seconds between SIGTERM and SIGKILL at the time limit.
    node_timeout_s: seconds of silence after which a node counts as lost.
    requeue_wait_s: seconds that a requeued job waits before it may start again; also the time within which
        a job's start must reach its nodes. SLURM's own default is 120.
    first_job: the number of its first job. Clusters of one machine must have others: the ports on which the
        nodes of a job of ours meet follow from its number.
    """

    partitions = ("normal", "urgent")
    nodes = NODES

    def __init__(
        self,
        folder: str | Path,
        grace_s: int = 20,
        kill_wait_s: int = 10,
        node_timeout_s: int = 15,
        requeue_wait_s: int = 120,
        first_job: int = 1,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.name = f"test{os.getpid()}x{random.randrange(10**6)}"
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": _path()}
        self._settings = {
            "grace_s": grace_s,
            "kill_wait_s": kill_wait_s,
            "node_timeout_s": node_timeout_s,
            "requeue_wait_s": requeue_wait_s,
            "first_job": first_job,
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._munge = Path()
        self._catches_sigterm = False

    def __enter__(self) -> Cluster:
        reason = missing()
        if reason:
            raise RuntimeError(reason)
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            # A SIGTERM, as of timeout(1) or a cancelled CI run, would leave all of it running.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            self._catches_sigterm = True
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def run(self, *command: str, timeout: float = 60) -> str:
        """The command's standard output; RuntimeError with its standard error if it fails."""
        done = subprocess.run(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} exited with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def job(self, job_id: int | str) -> dict[str, str]:
        """What `scontrol show job` says, key by key; of an array without an index, its first line."""
        return _fields(self.run("scontrol", "show", "job", "-o", str(job_id)).splitlines()[0])

    def state(self, job_id: int | str) -> str:
        return self.job(job_id)["JobState"]

    def wait_for(self, job_id: int | str, states: str | Collection[str], timeout: float = 60) -> str:
        """The state reached, one of `states`; TimeoutError, with the job as it is then, if none is."""
        wanted = {states} if isinstance(states, str) else set(states)
        if not _until(lambda: self.state(job_id) in wanted, timeout):
            raise TimeoutError(
                f"job {job_id} is not {' or '.join(sorted(wanted))} after {timeout:g} s: {self.job(job_id)}"
            )
        return self.state(job_id)

    def release(self, job_id: int | str) -> None:
        """Let a requeued job start at once, rather than after SLURM's wait."""
        self.run("scontrol", "update", f"JobId={job_id}", "StartTime=now")

    def hosts(self, job_id: int | str) -> list[str]:
        """Names of the job's nodes, those of its last run if it has ended; none while it waits."""
        names = self.job(job_id).get("NodeList", "")
        return [] if names in ("", "(null)") else self.run("scontrol", "show", "hostnames", names).split()

    def cancel_all(self) -> None:
        """Cancel every job and end its processes; RuntimeError if SLURM keeps a job all the same."""
        jobs = self.run("squeue", "-h", "-o", "%A").split()
        if jobs:
            self.run("scancel", *jobs)
        if not self._none_queued(timeout=3):
            # SLURM would wait for KillWait, and a minute more for orphans, whom proctrack/linuxproc loses.
            self._kill_all(self._job_processes)
        if not self._none_queued(timeout=60):
            raise RuntimeError(f"jobs stay after scancel:\n{self.run('squeue')}")
        self._kill_all(self._job_processes)

    def processes(self, job_id: int | str, node: str | None = None) -> list[int]:
        """Pids of the job's own processes and what they started, on both nodes or on `node`."""
        wanted = {"SLURM_CLUSTER_NAME": self.name, "SLURM_JOB_ID": self.job(job_id)["JobId"]}
        if node is not None:
            wanted["SLURMD_NODENAME"] = node
        return sorted(_having(wanted))

    def stop_node(self, name: str) -> None:
        """End a node as a power cut does: SIGKILL for its slurmd, step daemons and jobs' processes."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()
        # Step daemons first, who would report the end of the processes they look after.
        self._kill_all(lambda: self._step_daemons(name))
        self._kill_all(lambda: self._processes_of_node(name))

    def start_node(self, name: str) -> None:
        """Start the node's slurmd if it does not run, and wait until SLURM counts the node as up.

        The node is not idle then if a job holds it still.
        """
        if name in self._daemons:
            return
        began = int(time.time())
        self._daemon(name, "slurmd", "-D", "-N", name)

        def registered() -> bool:
            """The loss may have gone unnoticed, so the state alone does not say that it is back."""
            node = _fields(self.run("scontrol", "show", "node", "-o", name))
            start = node["SlurmdStartTime"]
            back = start != "None" and datetime.fromisoformat(start).timestamp() >= began
            return back and node["State"] in ("IDLE", "ALLOCATED", "MIXED")

        self._until_up(f"node {name}", registered)

    def node_state(self, name: str) -> str:
        """IDLE, ALLOCATED, MIXED, DOWN..., with flags after a + as in IDLE+NOT_RESPONDING."""
        return _fields(self.run("scontrol", "show", "node", "-o", name))["State"].rstrip("*")

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            raise FileExistsError(f"{self.folder} is not empty: give each cluster a folder of its own")
        (self.folder / "state").mkdir()
        # A socket's path has at most 107 characters, and munge wants every user to reach it.
        self._munge = Path(tempfile.mkdtemp(prefix="munge"))
        self._munge.chmod(0o755)
        key = self._munge / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(64))
        ports = dict(zip(("port", "port_n1", "port_n2"), _free_ports(3), strict=True))
        (self.folder / "slurm.conf").write_text(
            _CONFIG.format(
                name=self.name, folder=self.folder, socket=self._munge / "socket", **ports, **self._settings
            )
        )
        options = [
            f"--{name}={self._munge / name}" for name in ("socket", "pid-file", "log-file", "seed-file")
        ]
        # --force: a temporary folder that others may write to, as /tmp, is a warning only.
        self._daemon("munged", "munged", "--foreground", "--force", f"--key-file={key}", *options)
        self._until_up("munged", lambda: (self._munge / "socket").exists())
        self._daemon("slurmctld", "slurmctld", "-D")
        for name in NODES:
            self._daemon(name, "slurmd", "-D", "-N", name)
        self._until_up("slurmctld", self._nodes_idle)

    def _nodes_idle(self) -> bool:
        try:
            return all(self.node_state(name) == "IDLE" for name in NODES)
        except RuntimeError:  # slurmctld does not answer yet
            return False

    def _environment(self) -> dict[str, str]:
        """Without what another SLURM, in which the tests may run, has set for its own jobs."""
        outer = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH"))}
        return {**outer, **self.environment}

    def _daemon(self, name: str, *command: str) -> None:
        """A session of its own keeps a terminal's Ctrl-C from it: `_stop` ends all of them in order."""
        with (self.folder / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                command,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _until_up(self, what: str, up: Callable[[], bool]) -> None:
        def ended() -> list[str]:
            return [f"{name} ({d.returncode})" for name, d in self._daemons.items() if d.poll() is not None]

        if not _until(lambda: bool(ended()) or up(), _START_S):
            raise TimeoutError(f"{what} is not up after {_START_S:g} s\n{self._log_tails()}")
        if ended():
            raise RuntimeError(f"ended before {what} was up: {', '.join(ended())}\n{self._log_tails()}")

    def _none_queued(self, timeout: float) -> bool:
        return _until(lambda: not self.run("squeue", "-h", "-o", "%A").strip(), timeout)

    def _job_processes(self) -> set[int]:
        return _having({"SLURM_CLUSTER_NAME": self.name})

    def _stop(self) -> None:
        """Nodes first, the hard way: nothing of theirs is wanted any more, and jobs may ignore SIGTERM."""
        daemons = [
            self._daemons.pop(name) for name in (*NODES, "slurmctld", "munged") if name in self._daemons
        ]
        for daemon in daemons:
            daemon.kill()
            daemon.wait()
        self._kill_all(lambda: {pid for name in NODES for pid in self._processes_of_node(name)})
        self._kill_all(self._job_processes)
        if self._munge != Path():
            shutil.rmtree(self._munge, ignore_errors=True)
        if self._catches_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _processes_of_node(self, name: str) -> set[int]:
        return self._step_daemons(name) | _having({"SLURM_CLUSTER_NAME": self.name, "SLURMD_NODENAME": name})

    def _step_daemons(self, name: str) -> set[int]:
        """A step daemon rewrites its title over its environment, but it has its node's log open."""
        log = str(self.folder / f"slurmd.{name}.log")
        return {pid for pid in _pids() if _title(pid).startswith("slurm") and log in _open_files(pid)}

    def _kill_all(self, find: Callable[[], Iterable[int]]) -> None:
        """Until none is found, since a process may start another one before it is reached."""

        def none_left() -> bool:
            found = list(find())
            for pid in found:
                _kill(pid)
            return not found

        if not _until(none_left, 30):
            raise RuntimeError(f"processes stay after SIGKILL: {sorted(find())}")

    def _log_tails(self) -> str:
        logs = [
            *sorted(self.folder.glob("*.log")),
            *sorted(self.folder.glob("*.out")),
            self._munge / "log-file",
        ]
        return "\n".join(
            f"--- {log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            for log in logs
            if log.is_file()
        )


def _path() -> str:
    """Debian keeps daemons in sbin, which a user's PATH may lack."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _fields(line: str) -> dict[str, str]:
    """Of "Key=value with spaces Key2=value"; a word counts as a key if it begins in upper case."""
    parts = re.split(r"(?:^|\s+)([A-Z][\w:/]*)=", line.strip())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _until(done: Callable[[], bool], timeout: float) -> bool:
    end = time.monotonic() + timeout
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _free_ports(count: int) -> list[int]:
    """Below the range that outgoing connections take, so that a stopped node finds its port free again."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) != os.getpid()]


def _having(wanted: dict[str, str]) -> set[int]:
    """Processes that have all these variables in their environment."""
    entries = {f"{name}={value}".encode() for name, value in wanted.items()}
    return {pid for pid in _pids() if entries <= set(_environment(pid))}


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return []


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:  # it has ended
        return ""


def _open_files(pid: int) -> set[str]:
    folder = f"/proc/{pid}/fd"
    found = set()
    try:
        for entry in os.listdir(folder):
            found.add(os.readlink(f"{folder}/{entry}"))
    except OSError:  # it has ended, or it closes files
        pass
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
