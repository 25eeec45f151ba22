"""An evaluation as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import yaml

from eval.metrics import ErrorRates, error_rates
from eval.report import breakdown, plots
from eval.report.cards import cards_of, how_cut
from eval.report.evaluation import Evaluation
from eval.report.figures import figures_table
from eval.report.plots import OperatingPoint
from eval.report.projection import MOST_POINTS, project
from eval.report.render import Column, Name, Table, picture, render
from eval.report.worst import WORST, worst_trials
from shard_tools.text import redacted

_MOST_SPEAKERS = 20
_SHA256 = ("trial_list_sha256", "checkpoint_sha256", "calibration_sha256")


def operating_points(rates: ErrorRates, metrics: Mapping[str, Any]) -> list[OperatingPoint]:
    """The EER's point and, for each p_target in `metrics`, minDCF's."""
    points = [
        OperatingPoint(
            f"EER {metrics['eer']:.2f} %",
            metrics["eer_threshold"],
            metrics["eer"] / 100,
            metrics["eer"] / 100,
        )
    ]
    for p_target, cost in metrics["min_dcf"].items():
        threshold = metrics["min_dcf_threshold"][p_target]
        threshold = float("inf") if threshold is None else threshold
        points.append(
            OperatingPoint(f"minDCF(p_target={p_target}) {cost:.4f}", threshold, *rates.at(threshold))
        )
    return points


def checkpoint_of(metrics: Mapping[str, Any]) -> str:
    """The checkpoint and its step, or the file of embeddings where no checkpoint was at hand."""
    step = "" if metrics.get("step") is None else f", step {metrics['step']:,}"
    return f"{metrics.get('checkpoint') or metrics.get('data', '')}{step}"


def build_report(evaluation: Evaluation) -> str:
    """The page: numbers, figures, where the errors are, the worst ones, what was evaluated, the run's config.

    Of a list without labels: the scores, and what was evaluated.
    """
    trials, metrics, scores = evaluation.trials, evaluation.metrics, evaluation.scores
    labelled = trials.labelled
    rates = error_rates(scores, trials.label) if labelled else None
    points = operating_points(rates, metrics) if rates is not None else []
    threshold = float(metrics["eer_threshold"]) if labelled else None
    calibrated = labelled and bool(metrics.get("calibration"))
    shown, absent = _map(evaluation)
    groups, lacking = _groups(evaluation)
    histogram = plots.score_histogram(scores, trials.label, threshold, "svg")
    return render(
        "report.html",
        title=f"Speaker verification: {trials.name}",
        subtitle=redacted(
            f"{checkpoint_of(metrics)} · {trials.name} · {metrics['scoring']} scores of {how_cut(metrics)}"
        ),
        cards=cards_of(metrics, points, plots.score_digits(scores)),
        figures=figures_table(metrics) if labelled else None,
        intervals_absent=_intervals_absent(metrics) if labelled else None,
        det=picture(plots.det_curve(rates, points, "", "svg", digits=4)) if rates is not None else None,
        histogram=picture(histogram),
        histogram_note="the less the two overlap, the better" if labelled else "the list has no labels",
        calibration=picture(plots.calibration_plot(scores, trials.label, "svg")) if calibrated else None,
        calibration_note=_CALIBRATION_NOTE,
        embedding_map=shown and picture(plots.embedding_map(shown, "svg")),
        map_note=shown and _map_note(evaluation, shown.explained),
        worst=_worst(evaluation) if labelled else [],
        groups=groups,
        absent=[*lacking, *absent],
        provenance=_provenance(evaluation),
        evaluation=_yaml(metrics),
        config=_yaml(evaluation.config),
    )


_CALIBRATION_NOTE = (
    "the scores as log-likelihood ratios: of the trials that a score says are target ones with some "
    "probability, how many are; on the diagonal they are calibrated"
)


def _intervals_absent(metrics: Mapping[str, Any]) -> str | None:
    if metrics.get("intervals"):
        return None
    reason = metrics.get("intervals_absent") or (metrics.get("bootstrap") or {}).get("reason")
    return str(reason).rstrip(".") if reason else "this evaluation made none"


def _worst(evaluation: Evaluation) -> list[Table]:
    at = float(evaluation.metrics["eer_threshold"])
    digits = plots.score_digits(evaluation.scores)
    trials = evaluation.trials
    tables = []
    for label, title, meaning in (
        (0, "Worst false accepts", "two speakers taken for one"),
        (1, "Worst false rejects", "one speaker taken for two"),
    ):
        rows: list[list[str | Name]] = [
            [
                plots.decimal(float(evaluation.scores[trial]), digits),
                *(
                    Name(name, evaluation.audio.get(name))
                    for name in (trials.names[trials.left[trial]], trials.names[trials.right[trial]])
                ),
            ]
            for trial in worst_trials(evaluation.scores, trials, at, label).tolist()
        ]
        tables.append(
            Table(
                title,
                f"{meaning}; at the EER threshold, {WORST} at most",
                [Column("score", True), Column("utterance"), Column("utterance")],
                rows,
                "none at the EER threshold",
            )
        )
    return tables


def _groups(evaluation: Evaluation) -> tuple[list[Table], list[str]]:
    """(tables of groups of trials and of speakers, what could not be told and why)."""
    trials, speakers, meta = evaluation.trials, evaluation.known_speakers, evaluation.meta
    if not trials.labelled:
        return [], ["Error rates, and where errors come from: the list has no labels."]
    tables, absent = [], []
    unknown = evaluation.contradiction or "the utterances' speakers are not known"
    if meta is None:
        absent.append("Breakdown by gender and nationality: no meta file was given (--meta vox1_meta.csv).")
    elif speakers is None:
        absent.append(f"Breakdown by gender and nationality: {unknown}.")
    else:
        known = sum(speaker in meta for speaker in set(speakers))
        note = f"of {known} of {len(set(speakers))} speakers the meta file knows"
        tables.append(_grouped(evaluation, "Gender", note, breakdown.by_gender(trials, speakers, meta)))
        tables.append(
            _grouped(evaluation, "Nationality", note, breakdown.by_nationality(trials, speakers, meta))
        )
    seconds = _seconds(evaluation)
    if seconds is None:
        absent.append("Breakdown by duration: the utterances' lengths are not known.")
    else:
        note = "seconds of the shorter of both utterances"
        tables.append(_grouped(evaluation, "Duration", note, breakdown.by_length(trials, seconds)))
    if speakers is None:
        absent.append(f"Breakdown by speaker: {unknown}.")
    else:
        tables.append(_by_speaker(evaluation, speakers))
    return tables, absent


def _seconds(evaluation: Evaluation) -> Any:
    if evaluation.embeddings is None:
        return None
    seconds = evaluation.embeddings.seconds[evaluation.embeddings.rows(evaluation.trials.names)]
    return None if np.isnan(seconds).any() else seconds


def _grouped(evaluation: Evaluation, title: str, note: str, masks: Iterable[tuple[str, Any]]) -> Table:
    at = float(evaluation.metrics["eer_threshold"])
    label = evaluation.trials.label
    found = [breakdown.group_of(name, evaluation.scores, label, mask, at) for name, mask in masks]
    columns = [
        Column("trials"),
        *(Column(name, True) for name in ("target", "non-target", "EER", "FR", "FA")),
    ]
    rows = [
        [
            group.name,
            f"{group.targets:,}",
            f"{group.nontargets:,}",
            *map(_percent, (group.eer, group.false_reject, group.false_accept)),
        ]
        for group in found
    ]
    return Table(
        title, f"{note}; EER of the group itself, FR and FA at the whole list's threshold", columns, rows
    )


def _by_speaker(evaluation: Evaluation, speakers: tuple[str, ...]) -> Table:
    at = float(evaluation.metrics["eer_threshold"])
    found = breakdown.worst_speakers(evaluation.scores, evaluation.trials, speakers, at, _MOST_SPEAKERS)
    names = ("false rejects", "of target", "false accepts", "of non-target")
    columns = [Column("speaker"), *(Column(name, True) for name in names)]
    rows: list[list[str | Name]] = [
        [
            Name(each.name),
            f"{each.false_rejects:,} ({100 * each.false_rejects / max(1, each.targets):.1f} %)",
            f"{each.targets:,}",
            f"{each.false_accepts:,} ({100 * each.false_accepts / max(1, each.nontargets):.1f} %)",
            f"{each.nontargets:,}",
        ]
        for each in found
    ]
    note = f"by the sum of both rates at the EER threshold, {_MOST_SPEAKERS} at most"
    return Table("Worst speakers", note, columns, rows, "no errors at the EER threshold")


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.2f} %"


def _map(evaluation: Evaluation) -> tuple[Any, list[str]]:
    if evaluation.embeddings is None:
        return None, ["Map of embeddings: they were not kept."]
    found = project(evaluation.embeddings, evaluation.trials.names, evaluation.known_speakers)
    return found, [] if found is not None else ["Map of embeddings: there are too few to draw one."]


def _map_note(evaluation: Evaluation, explained: tuple[float, float]) -> str:
    count = len(evaluation.trials.names)
    of = f"{MOST_POINTS:,} of {count:,}" if count > MOST_POINTS else f"{count:,}"
    part = 100 * sum(explained)
    return f"{of} utterances along their two principal components, which hold {part:.0f} % of the variance"


def _provenance(evaluation: Evaluation) -> Table:
    return Table("", "", [Column("what"), Column("which")], list(_sources(evaluation)))


def _sources(evaluation: Evaluation) -> Iterator[list[str]]:
    metrics = evaluation.metrics
    said: Callable[[str], str] = lambda name: redacted(str(metrics.get(name) or "–"))  # noqa: E731
    yield ["checkpoint", redacted(checkpoint_of(metrics))]
    made_by = evaluation.embeddings.made_by if evaluation.embeddings is not None else ""
    digests = {name: metrics.get(name) for name in _SHA256}
    digests["checkpoint_sha256"] = digests["checkpoint_sha256"] or made_by
    yield ["trial list", said("trial_list")]
    yield ["data", said("data")]
    for name, digest in digests.items():
        if digest:
            yield [name.replace("_sha256", " SHA-256").replace("_", " "), str(digest)]
    yield ["device", said("device")]
    versions = metrics.get("versions") or {}
    if versions:
        yield ["versions", ", ".join(f"{name} {number}" for name, number in versions.items())]


def _yaml(values: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, default_flow_style=False)
    return redacted(text)
