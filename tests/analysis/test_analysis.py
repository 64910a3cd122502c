import dataclasses
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from made_records import bad, cell, item, record, study, write_run

from probes import analysis, stats
from probes.analysis import merge_runs
from probes.core.errors import ProbesError
from probes.records import schema
from probes.records.schema import InfillRow


def only(found, **wanted):
    """The one row of a result that has these values."""
    mask = np.logical_and.reduce([found[name] == value for name, value in wanted.items()])
    assert mask.sum() == 1, found
    return found[mask].iloc[0]


# Loading


def test_load_reads_a_run(tmp_path):
    records = study(items=6)
    frame = analysis.load(write_run(tmp_path / "run", records))
    assert len(frame) == len(records)
    assert list(frame["n_options"].unique()) == [5]
    assert frame["choice"].dtype == "Int64" and frame["correct"].dtype == "boolean"
    assert list(frame["option_logprobs"].iloc[0]) == list(records[0].option_logprobs)


def test_memory_and_disk_give_the_same_contrasts(tmp_path):
    records = study(items=20)
    disk = analysis.contrasts(analysis.load(write_run(tmp_path, records)))
    pd.testing.assert_frame_equal(disk, analysis.contrasts(analysis.from_records(records)))


def test_shards_merge_to_the_whole(tmp_path):
    records = study(items=20)
    write_run(tmp_path / "0", records[::2], {"shard": 0, "shards": 2})
    # The second shard repeats a few rows of the first.
    write_run(tmp_path / "1", records[1::2] + records[:10:2], {"shard": 1, "shards": 2})
    merged = analysis.load(tmp_path)
    assert len(merged) == len(records)
    assert set(merged["setting"]) == {""}
    columns = ["name", "role", "arm", "frames", "policy"]
    whole = analysis.contrasts(analysis.from_records(records)).sort_values(columns)
    got = analysis.contrasts(merged).sort_values(columns)
    for name in ("estimate", "low", "high", "n", "clusters"):
        assert got[name].to_numpy() == pytest.approx(whole[name].to_numpy())


def test_several_paths_are_one_frame(tmp_path):
    write_run(tmp_path / "a", cell([1, 0]))
    write_run(tmp_path / "b", cell([1, 1], arm="vcot"))
    frame = analysis.load([tmp_path / "a", tmp_path / "b" / "records.parquet"])
    assert sorted(frame["arm"].unique()) == ["baseline", "vcot"]


def test_conflicting_rows_are_named(tmp_path):
    write_run(tmp_path / "a", cell([1, 1, 1]))
    write_run(tmp_path / "b", cell([1, 0, 1]))
    with pytest.raises(ProbesError, match=r"differ in choice.*item q1") as error:
        analysis.load(tmp_path)
    assert "q0" not in str(error.value)
    assert str(tmp_path / "a") in error.value.where


def test_a_failed_row_is_replaced_by_its_repetition(tmp_path):
    write_run(tmp_path / "a", [record(0), bad(1, "error")])
    write_run(tmp_path / "b", [record(1)])
    frame = analysis.load(tmp_path)
    assert list(frame["status"]) == ["ok", "ok"]


def test_other_answers_under_another_key_conflict_even_where_one_failed(tmp_path):
    write_run(tmp_path / "a", [dataclasses.replace(bad(1, "error"), key="other")])
    write_run(tmp_path / "b", [record(1)])
    with pytest.raises(ProbesError, match="q1"):
        analysis.load(tmp_path)


def test_runs_that_differ_in_a_setting_are_kept_separate(tmp_path):
    for folder, how in (("a", "video"), ("b", "image")):
        members = [{"role": role, "frame_as": how} for role in ("image", "video")]
        right = [1, 0, 1, 0] if how == "video" else [0, 1, 1, 0]
        write_run(tmp_path / folder, cell(right), {"pair": {"name": "tiny", "members": members}})
    frame = analysis.load(tmp_path)
    assert sorted(frame["setting"].unique()) == ["frame_as=image", "frame_as=video"]
    assert len(analysis.accuracies(frame)) == 2


def test_runs_whose_arm_of_one_name_is_another_are_kept_separate(tmp_path):
    """Same frames, same choices: only the manifests tell that these are not repeats."""
    records = [*cell([1, 0]), *cell([1, 1], arm="noisy")]

    def suite(**noisy):
        return {
            "suite": [
                {"name": "baseline", "frames": "own"},
                {"name": "noisy", "frames": "own", **noisy},
            ]
        }

    def noise(strength):
        made = {"name": "frame_noise", "params": [["strength", strength]], "version": ""}
        return suite(intervention=made)

    write_run(tmp_path / "two" / "a", records, noise(0.5))
    write_run(tmp_path / "two" / "b", records, noise(1.0))
    found = analysis.load(tmp_path / "two")
    assert len(found) == 2 * len(records)
    assert set(found["setting"]) == {
        "noisy.intervention=frame_noise(strength=0.5)",
        "noisy.intervention=frame_noise(strength=1.0)",
    }
    with pytest.raises(ProbesError, match="differ in their settings"):
        merge_runs.merge([tmp_path / "two"], tmp_path / "merged")
    write_run(tmp_path / "old" / "a", records, suite())
    write_run(tmp_path / "old" / "b", records, suite(intervention=None, infills="none"))
    write_run(tmp_path / "old" / "c", cell([1, 0]), {"suite": suite()["suite"][:1]})
    again = analysis.load(tmp_path / "old")
    assert (len(again), set(again["setting"])) == (len(records), {""})
    write_run(
        tmp_path / "old" / "b", records, suite(decoding={"name": "no_repeat"}, frames="single")
    )
    assert set(analysis.load(tmp_path / "old")["setting"]) == {
        "",
        "noisy.frames=own, noisy.decoding=none",
        "noisy.frames=single, noisy.decoding=no_repeat()",
    }


def test_settings_that_cannot_change_an_answer_are_ignored(tmp_path):
    for i, folder in enumerate("ab"):
        config = {"out": folder, "backend": {"batch_size": i}, "frames": [5 + i], "limit": i}
        write_run(tmp_path / folder, cell([1, 0], frames=5 + i), config)
    assert set(analysis.load(tmp_path)["setting"]) == {""}


def test_a_run_from_before_tasks_had_settings_of_their_own_has_the_same_settings(tmp_path):
    once = {
        "name": "egoworld",
        "reader": "egoschema",
        "root": None,
        "include_path": None,
        "unanswered": False,
        "layout": None,
        "frames": 5,
        "across_rows": False,
        "per_config": 100,
        "videos": 300,
        "seed": 1,
        "height": 128,
        "fps": 4.0,
        "seconds": 18.0,
    }
    gone = ("include_path", "across_rows", "per_config")
    now = {name: value for name, value in once.items() if name not in gone}
    now["reader"] = "egoworld"
    for folder, task in (("before", once), ("now", now)):
        write_run(tmp_path / folder, cell([1, 0, 1, 0]), {"task": task})
    assert set(analysis.load(tmp_path)["setting"]) == {""}
    write_run(tmp_path / "more", cell([0, 0, 1, 0]), {"task": now | {"videos": 30}})
    labels = set(analysis.load(tmp_path)["setting"])
    assert labels == {"videos=300", "videos=30"}


def test_other_settings_that_a_manifest_lacks_are_shown(tmp_path):
    for folder, task in (("a", {"layout": None}), ("b", {"layout": None, "depth": 3})):
        right = [1, 0, 1, 0] if folder == "a" else [0, 1, 1, 0]
        write_run(tmp_path / folder, cell(right), {"task": task})
    assert set(analysis.load(tmp_path)["setting"]) == {"depth=None", "depth=3"}


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (item(1, media="other"), "media"),
        (item(1, hashes="xy"), "5 frames"),
        (item(1, question="why?"), "question"),
        (dataclasses.replace(item(1), options=("a", "b", "c", "d", "e")), "options"),
    ],
)
def test_runs_over_other_items_by_the_same_name_are_refused(tmp_path, other, what):
    write_run(tmp_path / "a", cell([1, 0]), items=[item(0), item(1)])
    write_run(tmp_path / "b", cell([1, 0], arm="vcot"), items=[item(0), other])
    with pytest.raises(ProbesError, match=f"item q1 .*{what} differs"):
        analysis.load(tmp_path)


def test_the_items_file_gives_the_number_of_options(tmp_path):
    write_run(tmp_path, [bad(0, "error"), record(1)], items=[item(0, options=4), item(1)])
    assert list(analysis.load(tmp_path)["n_options"]) == [4, 5]


def test_nothing_to_load_is_an_error(tmp_path):
    with pytest.raises(ProbesError, match=r"holds no records\.parquet"):
        analysis.load(tmp_path)
    with pytest.raises(ProbesError, match="is not there"):
        analysis.load(tmp_path / "nowhere")
    with pytest.raises(ProbesError, match="no run was named"):
        analysis.load([])


def test_a_broken_file_and_a_missing_column_are_reported(tmp_path):
    (tmp_path / "records.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ProbesError, match="cannot be read"):
        analysis.load(tmp_path)
    write_run(tmp_path, cell([1, 0]))
    table = pq.read_table(tmp_path / "records.parquet").drop_columns(["arm"])
    pq.write_table(table, tmp_path / "records.parquet")
    with pytest.raises(ProbesError, match="have no columns arm"):
        analysis.load(tmp_path)


# Contrasts


def test_gain_of_a_hand_made_two_by_two_table():
    # 3 right in both, 4 only with vcot, 1 only without, 2 in neither.
    vcot = [1, 1, 1, 1, 1, 1, 1, 0, 0, 0]
    base = [1, 1, 1, 0, 0, 0, 0, 1, 0, 0]
    frame = analysis.from_records(cell(base) + cell(vcot, arm="vcot"))
    row = only(analysis.contrasts(frame), name="gain", policy="strict")
    assert row["estimate"] == pytest.approx(0.3)
    assert (row["mean_a"], row["mean_b"]) == (0.7, 0.4)
    assert (row["n"], row["clusters"], row["discordant"]) == (10, 5, 5)
    changes = np.subtract(vcot, base)
    expected = stats.clustered_mean(changes, np.arange(10) // 2, bounds=(-1, 1), step=1)
    assert (row["low"], row["high"], row["p"]) == (expected.low, expected.high, expected.p)


def test_did_is_per_item_and_the_difference_of_the_gains():
    frame = analysis.from_records(study())
    found = analysis.contrasts(frame)
    where = {"policy": "strict", "frames": 10, "arm": "vcot"}
    did = only(found, name="did", **where)
    gains = [
        only(found, name="gain", role=role, **where)["estimate"] for role in ("image", "video")
    ]
    assert did["estimate"] == pytest.approx(gains[0] - gains[1])
    assert (did["mean_a"], did["mean_b"]) == pytest.approx(tuple(gains))
    base = analysis.accuracies(frame).set_index(["frames", "role", "arm"])["accuracy"]
    assert did["headroom_image"] == pytest.approx(1 - base[10, "image", "baseline"])
    transfer = only(found, name="transfer", **where)
    difference = base[10, "video", "vcot"] - base[10, "image", "vcot"]
    assert transfer["estimate"] == pytest.approx(difference)


def test_a_planted_effect_is_found_and_an_absent_one_is_not():
    found = analysis.contrasts(analysis.from_records(study(items=400)))
    where = {"policy": "strict", "frames": 5, "arm": "vcot"}
    assert only(found, name="gain", role="image", **where)["low"] > 0.2
    assert only(found, name="did", **where)["low"] > 0.15
    video = only(found, name="gain", role="video", **where)
    assert video["low"] < 0 < video["high"]


def test_perturbations_drop_from_vcot_and_the_run_may_say_otherwise(tmp_path):
    records = study(items=10, frames=(5,))
    found = analysis.contrasts(analysis.from_records(records))
    assert set(found[found["name"] == "drop"]["reference"]) == {"vcot"}
    suite = [
        {"name": "baseline", "reference": ""},
        {"name": "visual_perturbation", "reference": "baseline"},
    ]
    frame = analysis.load(write_run(tmp_path, records, {"suite": suite}))
    row = only(
        analysis.contrasts(frame),
        arm="visual_perturbation",
        policy="strict",
        role="image",
        name="gain",
    )
    assert row["reference"] == "baseline"


def test_items_missing_on_one_side_are_listed():
    frame = analysis.from_records(cell([1, 0, 1, 1]) + cell([1, 1, 1, 1, 0], arm="vcot")[1:])
    row = only(analysis.contrasts(frame), name="gain", policy="strict")
    assert row["missing"] == ("q0", "q4") and row["n_missing"] == 2
    assert row["n"] == 3


def test_strict_counts_bad_answers_as_wrong_and_complete_leaves_them_out():
    vcot = [
        record(0, "vcot"),
        bad(1, "unparsed", arm="vcot"),
        bad(2, "error", arm="vcot"),
        record(3, "vcot"),
    ]
    frame = analysis.from_records(cell([1, 1, 0, 0]) + vcot)
    strict = only(analysis.contrasts(frame), name="gain", policy="strict")
    complete = only(analysis.contrasts(frame), name="gain", policy="complete")
    # What a machine could not answer is no wrong answer; what cannot be read is one.
    assert (strict["n"], strict["left_out"], strict["left_out_ids"]) == (3, 1, ("q2",))
    assert strict["estimate"] == pytest.approx(0.0)
    assert (complete["n"], complete["estimate"], complete["left_out"]) == (2, 0.5, 2)
    assert (strict["left_out_ids"], complete["left_out_ids"]) == (("q2",), ("q1", "q2"))
    row = only(analysis.accuracies(frame), arm="vcot")
    assert (row["accuracy"], row["complete_accuracy"]) == (pytest.approx(2 / 3), 1.0)
    assert (row["n"], row["unparsed"], row["failed"]) == (3, 1, 1)


def test_several_donors_are_averaged_per_item():
    draws = [
        record(i, "text_perturbation", correct=bool(right), donor_id=f"q{donor}")
        for i, rights in enumerate([(1, 0), (1, 1), (0, 0)])
        for donor, right in zip((7, 8), rights, strict=True)
    ]
    frame = analysis.from_records(cell([1, 1, 1], arm="vcot") + draws)
    row = only(analysis.contrasts(frame, names=["drop"]), policy="strict")
    assert row["n"] == 3
    assert row["estimate"] == pytest.approx(0.5 - 1.0)


def test_frames_joined_without_merging_are_refused():
    frame = analysis.from_records(cell([1, 0]) + cell([1, 1], arm="vcot"))
    with pytest.raises(ProbesError, match=r"4 rows answer what another .* item q0 \(baseline"):
        analysis.contrasts(pd.concat([frame, frame], ignore_index=True))


def test_withheld_items_are_counted_and_left_out():
    frame = analysis.from_records([*cell([1, 0]), record(2, answer=None)])
    row = only(analysis.accuracies(frame), arm="baseline")
    assert (row["n"], row["withheld"], row["accuracy"]) == (2, 1, 0.5)


def test_a_reference_under_another_seed_is_refused():
    frame = analysis.from_records(cell([1, 0]) + cell([1, 1], arm="vcot", seed=1))
    with pytest.raises(ProbesError, match="seed 1 against 0"):
        analysis.contrasts(frame)


def test_cells_without_a_common_item_are_refused():
    frame = analysis.from_records(cell([1, 0]) + cell([1, 1, 1, 0], arm="vcot")[2:])
    with pytest.raises(ProbesError, match=r"gain of vcot .*no item in common"):
        analysis.contrasts(frame)


def test_other_weights_by_the_same_name_are_refused(tmp_path):
    runs = {"a": cell([1, 0]), "b": cell([1, 1], arm="vcot")}
    for folder, records in runs.items():
        write_run(tmp_path / folder, records, {"seed": 0})
        manifest = {"config": {}, "members": {"tiny-image": {"fingerprint": folder}}}
        (tmp_path / folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ProbesError, match="model tiny-image is not the same"):
        analysis.load(tmp_path)
    assert len(analysis.load(tmp_path / "a")) == 2


def test_other_infills_or_donors_are_refused(tmp_path):
    def runs(name, table, *variants):
        for folder, rows in zip("ab", variants, strict=True):
            arm = "vcot" if folder == "a" else "text_perturbation"
            write_run(tmp_path / name / folder, cell([1, 0], arm=arm))
            content = schema.to_table(rows, type(rows[0]))
            pq.write_table(content, tmp_path / name / folder / table)
        return tmp_path / name

    first = InfillRow("shared", 5, "q7", 2, "f", "g", "a", "", "", "", True, "", ())
    failed = dataclasses.replace(first, text="", ok=False)
    other = dataclasses.replace(first, text="b")
    with pytest.raises(ProbesError, match="infill of item q7 of task egoworld, 5 frames, gap 2"):
        analysis.load(runs("infills", "infills.parquet", [first], [other]))
    repeated = runs("repeated", "infills.parquet", [first], [failed])
    assert len(analysis.load(repeated)) == 4
    donor = item(7)
    with pytest.raises(ProbesError, match=r"item q7 of task egoworld .*media differs"):
        analysis.load(runs("donors", "donors.parquet", [donor], [item(7, media="n")]))


def test_an_arm_without_its_reference_makes_no_contrast():
    assert analysis.contrasts(analysis.from_records(cell([1, 0], arm="vcot"))).empty


def test_another_right_answer_for_the_same_item_is_refused():
    frame = analysis.from_records([record(0), record(0, "vcot", answer=3)])
    with pytest.raises(ProbesError, match="answer of an item differs between rows: q0"):
        analysis.contrasts(frame)


def test_members_that_were_not_shown_the_same_are_refused():
    other = [dataclasses.replace(one, stimulus_sha="other") for one in cell([1, 1], role="video")]
    frame = analysis.from_records(cell([1, 0]) + other)
    with pytest.raises(ProbesError, match=r"not shown the same.*baseline.*q0, q1"):
        analysis.contrasts(frame)


def test_infills_that_members_wrote_themselves_may_differ(tmp_path):
    records = cell([1, 0]) + cell([1, 0], role="video")
    records += cell([1, 1], arm="vcot")
    records += [
        dataclasses.replace(one, stimulus_sha="own")
        for one in cell([1, 1], arm="vcot", role="video")
    ]
    own = write_run(tmp_path / "own", records, {"infill": {"source": "self"}})
    assert "did" in set(analysis.contrasts(analysis.load(own))["name"])
    shared = write_run(tmp_path / "shared", records, {"infill": {"source": "shared"}})
    with pytest.raises(ProbesError, match="arm vcot"):
        analysis.contrasts(analysis.load(shared))


def test_p_values_are_adjusted_within_a_family_that_is_asked_for():
    frame = analysis.from_records(study(items=40))
    found = analysis.contrasts(frame, policies=["strict"], family=("name", "policy"))
    dids = found[found["name"] == "did"]
    assert dids["p_adjusted"].to_numpy() == pytest.approx(stats.holm(dids["p"]))
    assert set(found["family"]) == {"all rows of one name and policy"}
    one = analysis.contrasts(frame, policies=["strict"], family=(), adjust="bh")
    assert one["p_adjusted"].to_numpy() == pytest.approx(stats.benjamini_hochberg(one["p"]))


def test_strata_have_rows_of_their_own():
    frame = analysis.from_records(study(items=30, frames=(5,)))
    found = analysis.contrasts(frame, names=["gain"], policies=["strict"], by_stratum=True)
    image = found[(found["role"] == "image") & (found["arm"] == "vcot")]
    assert list(image["stratum"]) == ["", "s0", "s1", "s2"]
    assert list(image["n"]) == [30, 10, 10, 10]
    even = analysis.contrasts(frame, names=["gain"], stratify="strata", policies=["strict"])
    row = only(even, role="image", arm="vcot")
    assert row["estimate"] == pytest.approx(image["estimate"].iloc[1:].mean())
    assert "mean over 3 strata" in row["method"]


def test_a_stratum_lists_its_own_missing_items_only():
    frame = analysis.from_records(cell([1, 0, 1, 1, 0, 1]) + cell([1, 1, 1, 1], arm="vcot"))
    frame = frame.assign(stratum=[f"s{int(one[1:]) % 2}" for one in frame["item_id"]])
    found = analysis.contrasts(frame, by_stratum=True, policies=["strict"]).set_index("stratum")
    assert found.loc["", "missing"] == ("q4", "q5")
    assert (found.loc["s0", "missing"], found.loc["s1", "missing"]) == (("q4",), ("q5",))
    assert list(found["n_missing"]) == [2, 1, 1]


def test_other_intervals_and_tests_are_available():
    frame = analysis.from_records(study(items=30, frames=(5,)))
    found = analysis.contrasts(
        frame, names=["gain"], policies=["strict"], interval="bca", test="permutation", draws=199
    )
    assert found["method"].str.contains("cluster bootstrap").all()
    assert found["method"].str.contains("sign-flip").all()


def test_logit_and_margin_are_measures_of_a_did():
    frame = analysis.from_records(study(items=60, frames=(5,)))
    logit = only(analysis.contrasts(frame, measure="logit"), arm="vcot", policy="strict")
    assert logit["name"] == "did" and logit["estimate"] > 0
    margin = only(analysis.contrasts(frame, measure="margin", names=["did"]), arm="vcot")
    # The choice leads by 2 nats: a right answer's margin is 2, a wrong one's -2, over temperature.
    did = only(analysis.contrasts(frame, names=["did"]), arm="vcot", policy="strict")
    gains = analysis.contrasts(frame, names=["gain"], policies=["strict"])
    gains = gains[gains["arm"] == "vcot"].set_index("role")
    at = analysis.temperatures(frame).set_index("role")["temperature"]
    image, video = (4 * gains["estimate"][role] / at[role] for role in ("image", "video"))
    assert margin["estimate"] == pytest.approx(image - video)
    for name in ("headroom_image", "headroom_other"):
        assert margin[name] == logit[name] == did[name] > 0


def test_margin_is_per_token_for_cloze_only():
    one = dataclasses.replace(
        record(0), option_logprobs=(-4.0, -3.0, -9.0, -9.0, -9.0), option_tokens=(4, 1, 1, 1, 1)
    )
    letter = dataclasses.replace(one, scoring="letter", option_tokens=(1,) * 5)
    frame = analysis.from_records([one, bad(1, "error"), letter])
    got = analysis.margins(frame)
    assert got[[0, 2]] == pytest.approx([2.0, -1.0])
    assert np.isnan(got[1])


def test_arguments_without_meaning_are_refused():
    frame = analysis.from_records(cell([1, 0]))
    for wrong in (
        {"names": ["loss"]},
        {"policies": ["lenient"]},
        {"measure": "points"},
        {"family": ["colour"]},
        {"adjust": "none"},
    ):
        with pytest.raises(ProbesError):
            analysis.contrasts(frame, **wrong)
    with pytest.raises(ProbesError, match="no records"):
        analysis.contrasts(frame[:0])


def test_accuracies_come_with_those_of_guessing():
    frame = analysis.from_records(cell([1, 0, 1, 0, 1, 1]))
    row = only(analysis.accuracies(frame), arm="baseline")
    assert row["chance"] == pytest.approx(0.2)
    # Right answers are 0 1 2 3 4 0.
    assert row["majority"] == pytest.approx(2 / 6) and row["majority_option"] == 0


def test_differences_are_what_contrasts_average():
    records = study(items=30, frames=(5,))
    records[3] = bad(3, "unparsed")
    frame = analysis.from_records(records)
    for policy in ("strict", "complete"):
        values = analysis.differences(frame, policy=policy)
        found = analysis.contrasts(frame, policies=[policy])
        columns = ["name", "role", "arm"]
        mean = values.groupby(columns)["difference"].mean()
        assert len(mean) == len(found) == 17
        for row in found.to_dict("records"):
            assert mean[tuple(row[name] for name in columns)] == pytest.approx(row["estimate"])
    gains = analysis.differences(frame, names=["gain"])
    image = gains[(gains["role"] == "image") & (gains["arm"] == "vcot")]
    assert list(image["item_id"]) == [f"q{i}" for i in range(30)]
    assert image["cluster"].nunique() == 15 and set(image["stratum"]) == {"s0", "s1", "s2"}
    margin = analysis.differences(frame, names=["did"], measure="margin")
    assert set(margin["difference"]) <= {-8.0, -4.0, 0.0, 4.0, 8.0}
    assert analysis.differences(frame, names=[]).empty
