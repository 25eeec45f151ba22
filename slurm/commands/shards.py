"""`python -m slurm shards`: packing as an array of jobs, and the merging when all parts are there."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from slurm.errors import SlurmError
from slurm.programs import program
from slurm.records.run_folder import Job, RunFolder
from slurm.records.runs import shown_path
from slurm.submit import resources as options
from slurm.submit.executor import After, array_of, check_chain, log_pattern, python_of, sbatch_file, submit
from slurm.submit.job import CommandJob
from slurm.submit.launch import in_full, print_files, refuse_second, refuse_secrets
from slurm.submit.resources import Resources

_MAKE_SHARDS = "shard_tools.cli"  # not the command's own name, which --python may not have in PATH
_WHOLE = ("--append", "--min-seconds", "--max-seconds", "--duplicates", "--statistics")  # not for parts
_MOST_PARTS = 100_000  # as make-shards pack --part takes them
_EXAMPLES = """\
examples:
  python -m slurm shards voxceleb2/wav s3://bucket/vox2 --parts 16 --cpus-per-task 8 --partition cpu \\
      -- --list lists/train_list.txt
  python -m slurm shards voxceleb2/wav shards/vox2 --parts 200 --parallel 20   # at most 20 at a time
  python -m slurm shards voxceleb2/wav shards/vox2 --parts 16 --dry-run        # the sbatch files, not sent

What stands after -- is for the packing: every option of `make-shards pack` but --part. Preempted, or out
of time, a part is queued again and goes on where it was. The same command again packs what is missing.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "shards",
        help="pack shards as an array of jobs",
        description="Submit make-shards pack in N parts, as one array of jobs, and make-shards merge, which "
        "starts when all of them have ended well.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", metavar="ROOT", help="folder below which the audio lies, on every node")
    parser.add_argument(
        "url", metavar="URL", help="where the shards go: a path or URL that every node reaches"
    )
    parser.add_argument("--parts", type=int, required=True, metavar="N", help="elements of the array")
    parser.add_argument("--parallel", type=int, metavar="M", help="at most M run at a time (default: all)")
    parser.add_argument(
        "--folder", metavar="FOLDER", help="for logs and records (default: runs/shards-NAME, NAME from URL)"
    )
    options.add_options(parser, without=[*options.ONE_TASK, "--gpus-per-node"])
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    resources = options.from_options(arguments)
    _check(arguments, resources, rest)
    root, url = in_full(arguments.root), in_full(arguments.url)
    name = resources.name or f"shards-{_last_part(url)}"
    folder = RunFolder(arguments.folder or Path("runs") / f"shards-{_last_part(url)}")
    asked = options.of_one_task(resources)
    python, count = python_of(resources), arguments.parts
    parts = [
        CommandJob(program(python, _MAKE_SHARDS, "pack", root, url, "--part", f"{number}/{count}", *rest))
        for number in range(1, count + 1)
    ]
    merge = CommandJob(program(python, _MAKE_SHARDS, "merge", url))
    merge_asked = options.of_one_task(resources, cpus=1)
    jobs, parallel = folder.jobs_path, arguments.parallel
    if arguments.dry_run:
        packing = sbatch_file(parts, jobs, asked, name=name, parallel=parallel)
        merging = sbatch_file([merge], jobs, merge_asked, name=f"{name}-merge", after=After("JOB"))
        print_files([("packing", packing), ("merging, when all of JOB, the packing, is done", merging)])
        return 0
    refuse_second(folder, ["shards", "merge"], "wait for it")
    folder.make()
    ids = submit(parts, jobs, asked, name=name, parallel=parallel)
    array = array_of(ids)
    for job in ids:
        _note(folder, job, "shards", rest, asked)
    at_once = f", {parallel} at a time" if parallel and parallel < len(parts) else ""
    print(f"job {array}: packing {root} to {url} in {len(parts)} parts{at_once}")
    [job] = submit([merge], jobs, merge_asked, name=f"{name}-merge", after=After(array))
    _note(folder, job, "merge", (), merge_asked, after=array)
    print(f"job {job}: merging, when all parts are done; it does not start if one fails")
    print(f"logs: {folder.jobs_path}/{array}_*_log.out, {log_pattern(folder.jobs_path, job)}")
    shown = shlex.quote(shown_path(folder.path))
    print(f"next: python -m slurm status {shown}   |   make-shards merge {shlex.quote(url)}", end="")
    print(" (names the parts that are missing)   |   the same command again packs them")
    return 0


def _check(arguments: argparse.Namespace, resources: Resources, rest: Sequence[str]) -> None:
    """Raise SlurmError for what no packing can use."""
    refuse_secrets([arguments.root, arguments.url, *rest])
    for name in ("parts", "parallel"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise SlurmError(f"--{name} is {value}: give at least 1")
        if value is not None and value > _MOST_PARTS:
            raise SlurmError(f"--{name} is {value}: give {_MOST_PARTS} at most")
    if any(word.partition("=")[0] == "--part" for word in rest):
        raise SlurmError(
            "--part after -- is for this command to give: leave it out, and say how many: --parts"
        )
    for word in rest:
        if word.partition("=")[0] in _WHOLE:
            raise SlurmError(
                f"{word} after -- needs all files, of which a part sees its own: pack without parts; or, but"
                " for --append, make the list by make-shards select and give -- --list LIST"
            )
    root = Path(arguments.root)
    in_archive = any(path.is_file() for path in (root, *root.parents))  # a ZIP archive, or a folder in one
    if "://" not in arguments.root and not root.is_dir() and not in_archive:
        raise SlurmError(f"ROOT {arguments.root}: there is no such folder or archive")
    check_chain(resources)


def _note(
    folder: RunFolder, job: str, kind: str, rest: Sequence[str], asked: Resources, after: str | None = None
) -> None:
    logs = log_pattern(folder.jobs_path, job)
    fields = asked.as_fields()
    folder.add_job(
        Job(job, kind, 1, 1, logs, asked.cluster, overrides=tuple(rest), resources=fields, after=after)
    )


def _last_part(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]
