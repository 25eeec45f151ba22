"""Every benchmark runs in a tiny size and leaves well-formed results; nothing is said about speed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from processes import answer
from s3_settings import forget_clients

HERE = Path(__file__).parent
STORE_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "no_proxy",
    "NO_PROXY",
)


@pytest.fixture(scope="module")
def bench():
    """Imports modules of the benchmarks, which are a program of their own and not a package."""
    sys.path.insert(0, str(HERE))
    yield importlib.import_module
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def tiny(bench, tmp_path_factory):
    return bench("harness.settings").tiny(tmp_path_factory.mktemp("bench"), bench("harness.contest").Here)


@pytest.fixture(scope="module")
def measure(bench, tiny):
    """Run one table in the tiny size: its JSON document, and the page made of all so far."""

    def run(name):
        out = tiny.cache / "results"
        bench("run").run([name], tiny, out, quick=True)
        return json.loads((out / f"{name}.json").read_text()), (out / "README.md").read_text()

    return run


def check_rates(document, page):
    assert document["machine"]["libraries"]["torch"] != "not installed"
    for result in document["contestants"]:
        assert result["status"] == "ok", result
        for unit in ("crops_per_second", "crops_per_cpu_second"):
            assert len(result[unit]["values"]) == 2
            assert 0 < result[unit]["low"] <= result[unit]["median"] <= result[unit]["high"]
        assert f"| {result['name']} |" in page
    assert document["ratios"]
    for ratio in document["ratios"]:
        assert ratio["low"] <= ratio["median"] <= ratio["high"]
        assert (ratio["met"] is None) == (ratio["at_least"] is None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local_augmented", "local_plain"])
def test_every_loader_has_a_figure(measure, name):
    check_rates(*measure(name))


@pytest.fixture
def from_store(bench, measure, monkeypatch):
    """Run one table of those from S3 in this process: its document, and the page."""
    if bench("harness.stores").absent("nginx"):
        pytest.skip(bench("harness.stores").absent("nginx"))
    monkeypatch.setattr(subprocess, "run", answer)  # warm
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in STORE_VARIABLES:
        monkeypatch.setenv(name, "")
    forget_clients()
    yield measure
    forget_clients()


@pytest.mark.slow
def test_loaders_that_are_not_installed_are_reported(bench, measure, monkeypatch):
    contest = bench("harness.contest")
    monkeypatch.setattr(contest, "NEEDS", dict.fromkeys(contest.NEEDS, ("no-such-distribution",)))
    document, page = measure("side_by_side")
    status = {result["name"]: result["status"] for result in document["contestants"]}
    assert status == {
        "voxshard": "ok",
        "webdataset": "ok",
        "mosaicml-streaming": "not installed",
        "litdata": "not installed",
        "lhotse Shar": "not installed",
    }
    assert [ratio["to"] for ratio in document["ratios"]] == ["webdataset"]
    assert "| litdata | not installed: no-such-distribution |" in page


@pytest.mark.slow
@pytest.mark.s3
def test_an_epoch_from_either_store_is_counted(bench, from_store, monkeypatch):
    contest, table = bench("harness.contest"), bench("tables.s3_side_by_side")
    absent = dict.fromkeys(contest.NEEDS, ("no-such-distribution",))
    monkeypatch.setattr(contest, "NEEDS", absent)
    monkeypatch.setattr(table, "NEEDS", absent)
    document, page = from_store("s3_side_by_side")
    assert [found["name"] for found in document["stores"]] == ["nginx", "SeaweedFS"]
    for found in document["stores"]:
        results = {result["name"]: result for result in found["contestants"]}
        statuses = [result["status"] for result in results.values()]
        assert statuses == ["ok"] * 4 + ["not installed"] * 3, results
        for name, result in results.items():
            if result["status"] == "ok":
                least = 1 if name == "voxshard" else 2.5 * 16000 / 32240  # whole utterances
                assert least <= result["of_crops"]["median"] < 2 * least
                assert result["requests"]["median"] >= 2
        assert set(results["voxshard"]) >= {"first", "few_bytes"}
    assert "| litdata | not installed: no-such-distribution |" in page


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.exhaustive
def test_bytes_fetched_are_counted_by_epoch(bench, from_store, monkeypatch):
    table = bench("tables.fetched")
    monkeypatch.setattr(table, "ENTRIES", tuple(e for e in table.ENTRIES if "WAV" in e.name))
    document, page = from_store("fetched")
    ranged, verified, cached, again = document["contestants"]
    assert [result["status"] for result in document["contestants"]] == ["ok"] * 4
    assert 1 <= ranged["of_crops"] < verified["of_crops"]
    assert ranged["requests"] > cached["requests"]
    assert cached["of_shards"] >= 1
    assert (again["name"], again["requests"], again["bytes"]) == ("WAV, cached, second epoch", 0, 0)
    assert f"| {again['name']} | 0 | 0 | 0 |" in page


@pytest.mark.slow
@pytest.mark.s3
def test_crops_from_stores_have_their_figures(bench, from_store, monkeypatch):
    table = bench("tables.s3_crops")
    monkeypatch.setattr(table, "INSTALL", {"nginx": "", "none": ""})
    monkeypatch.setattr(table, "absent", {"nginx": None, "none": "not installed: none"}.get)
    monkeypatch.setattr(table, "ENTRIES", tuple(e for e in table.ENTRIES if "client" not in e.options))
    document, page = from_store("s3_crops")
    nginx, none = document["stores"]
    for result in nginx["contestants"]:
        assert result["met"] == (result["crops_per_second"]["median"] >= result["at_least"])
        assert result["store_cpu"]["low"] >= 0
    assert len(nginx["contestants"]) == 4
    assert none["reason"] in page


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.exhaustive
def test_requests_to_s3_have_their_figures(bench, from_store, monkeypatch):
    table = bench("tables.s3_requests")
    monkeypatch.setattr(table, "CLIENTS", {table.OURS: "voxshard", table.S3FS: "s3fs"})
    document, _ = from_store("s3_requests")
    assert [result["status"] for result in document["contestants"]] == ["ok", "ok"], document["contestants"]
    [ratio] = document["ratios"]
    assert ratio["met"] == (ratio["cpu"]["median"] >= 8)


@pytest.mark.slow
@pytest.mark.s3
def test_the_first_batch_of_a_large_set(bench, from_store, monkeypatch):
    table = bench("tables.s3_start")
    monkeypatch.setattr(table, "WORKERS", (0,))
    document, page = from_store("s3_start")
    for result in document["contestants"]:
        assert 0 < result["catalogue"]["low"] < result["opening"]["low"] < result["shell"]["low"]
    assert f"| {table.LARGE}: 40 utterances | 0 |" in page


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.exhaustive
def test_faults_change_no_batch(bench, from_store, monkeypatch):
    table = bench("tables.s3_faults")
    two = (table.NGINX, table.PROXIED)
    hasty = {name: {**table.CASES[name], "first_wait": 0.01} for name in two}
    monkeypatch.setattr(table, "CASES", hasty)
    monkeypatch.setattr(table, "BATCHES", 3)
    document, _ = from_store("s3_faults")
    assert [result["status"] for result in document["contestants"]] == ["ok"] * 2, document["contestants"]
    assert all(result["same"] for result in document["contestants"])


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.exhaustive
def test_a_store_that_is_far_away(bench, from_store, monkeypatch):
    monkeypatch.setattr(bench("tables.s3_latency"), "CONNECTIONS", (4,))
    document, page = from_store("s3_latency")
    near, given, few = document["contestants"]
    assert near["status"] == given["status"] == few["status"] == "ok"
    assert few["crops_per_second"]["high"] < 4 / 0.03  # the most that four requests at a time can bring
    assert f"| {few['name']} |" in page


@pytest.mark.slow
def test_a_failing_loader_is_reported_and_the_others_go_on(bench, tiny):
    entry, corpora = bench("harness.task").Entry, bench("harness.corpus")
    entries = [entry("bad", "webdataset_soundfile", {"read": "nothing"}), entry("good", "voxceleb_like")]
    bad, good = bench("harness.contest").contest(corpora.make_corpus(tiny.cache, tiny.local), entries, tiny)
    assert (bad["status"], bad["reason"]) == ("failed", "KeyError: 'nothing'")
    assert good["status"] == "ok"


@pytest.mark.slow
def test_planning_has_its_figures(measure):
    document, page = measure("planning")
    assert [result["name"] for result in document["contestants"]] == [
        "P = 200, K = 1", "P = 100, K = 2", "P = 64, K = 1",
    ]  # fmt: skip
    for result in document["contestants"]:
        assert result["epoch_seconds"]["median"] > 0
        assert set(result["met"]) == {"epoch_seconds", "peak_mib"}
    assert "## Planning" in page


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_large_set_is_opened_by_its_table_and_without(measure):
    document, page = measure("scale")
    assert [result["name"] for result in document["contestants"]] == [
        "windows, mapped", "windows, parsed", "epochs",
    ]  # fmt: skip
    for result in document["contestants"]:
        assert result["utterances"] == 50_000
        assert result["private_mib"]["median"] > 0
    assert set(document["contestants"][0]["met"]) == {"cpu_seconds", "private_mib"}
    assert [start["name"] for start in document["starts"]] == ["windows, mapped"] * 2 + ["epochs"] * 2
    assert [start["method"] for start in document["starts"]] == ["fork", "forkserver"] * 2
    assert all(start["private_mib"]["median"] > 0 for start in document["starts"])
    assert [result["name"] for result in document["augmented"]] == ["noise", "noise of a category", "rooms"]
    assert all(result["seconds"]["median"] > 0 for result in document["augmented"])
    assert document["augmented"][2]["utterances"] == 5_000 > document["augmented"][1]["utterances"] > 0
    assert "two processes by" in page
    assert "augmented with" in page
    assert "## Opening very large sets" in page


@pytest.mark.slow
def test_converting_is_compared_with_a_process_per_file(bench, measure):
    table = bench("tables.converting")
    document, page = measure("converting")
    ours = {result["name"]: result for result in document["contestants"]}
    for name in (table.ONE, table.TWO):
        for unit in ("files_per_second", "by_cpu"):
            assert ours[name][unit]["low"] > 0
    [scaled] = [ratio for ratio in document["ratios"] if ratio["to"] == table.ONE]
    assert scaled["met"] == (scaled["cpu"]["median"] >= 1.8)
    assert f"| {table.TWO} ÷ {table.ONE} |" in page


@pytest.mark.slow
@pytest.mark.exhaustive
def test_packing_has_its_figures(measure):
    document, page = measure("packing")
    assert [result["name"] for result in document["contestants"]] == [
        "GNU tar", "unchanged, 1 worker", "unchanged, 2 workers", "to FLAC, 1 worker", "to FLAC, 2 workers",
        "encoding alone, 1 process", "encoding alone, 2 processes",
    ]  # fmt: skip
    for result in document["contestants"]:
        assert 0 < result["mb_per_second"]["low"] <= result["mb_per_second"]["high"]
    assert [ratio["at_least"] for ratio in document["ratios"]] == [0.7, None, 1.8, None]
    assert [run["utterances"] for run in document["tiny"]] == [10]
    assert "| to FLAC, 2 workers ÷ to FLAC, 1 worker |" in page


@pytest.mark.slow
def test_scoring_is_compared_with_the_trainers_loop(bench, measure):
    table = bench("tables.scoring")
    document, page = measure("scoring")
    assert "80 trials over 20 utterances" in document["about"]
    for result in document["contestants"]:
        assert 0 < result["trials_per_cpu_second"]["low"] <= result["trials_per_cpu_second"]["high"]
        assert result["error"]["high"] < 1e-5  # all measure the same thing
    assert [(ratio["of"], ratio["at_least"]) for ratio in document["ratios"]] == [
        (table.COSINE, 60.0), (table.EUCLIDEAN, 8.0), (table.ONE, None),
    ]  # fmt: skip
    for ratio in document["ratios"][:2]:
        assert ratio["met"] == (ratio["cpu"]["median"] >= ratio["at_least"])
    assert document["as_norm"]["cpu_seconds"] > 0
    assert "| 6 speakers, top 6 |" in page


@pytest.mark.slow
@pytest.mark.exhaustive
def test_drawing_speakers_has_its_figures(measure):
    document, page = measure("bootstrap")
    assert [result["name"] for result in document["contestants"]] == [
        "intervals of one system", "paired test of two",
    ]  # fmt: skip
    for result in document["contestants"]:
        assert result["seconds"]["low"] > 0
        assert result["met"] is None  # of fewer draws nothing is promised
    assert "| paired test of two |" in page


@pytest.mark.slow
def test_stages_add_up(measure):
    document, _ = measure("stages")
    [result] = document["contestants"]
    assert result["functions"]
    assert all(0 <= row["own_ms"] <= row["ms"] * 1.01 for row in result["functions"])
    assert any(row["function"].startswith("train/augment/") for row in result["functions"])
