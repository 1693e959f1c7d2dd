"""The gate lets a challenger pass that is no worse, and no other."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest

from core.artifacts.folder import Artifacts
from core.errors import FeatureMismatchError, ModelError
from core.evaluation.gate import (
    GateDecision,
    ModelScore,
    judge_challenger,
    score_model,
    with_backtests,
)
from core.evaluation.out_of_time import Cut, OutOfTime
from core.evaluation.stability import Refit
from core.retailers.features import SHOP
from core.retailers.files import RETAILERS
from core.retailers.model import Model
from core.retailers.refresh.challenger import GateData, evaluate_gate, score_models
from core.segments.contract import Breach, Contract
from core.segments.published import Verdict, first_version, publishable

# 40 summer, 30 Christmas, 20 steady sellers, and 10 like nobody.
GROUPS = np.repeat([0, 1, 2, -1], [40, 30, 20, 10])
EVERYONE = np.ones(len(GROUPS), dtype=bool)


def found_again(labels, n=3):
    """Return refits that find these groups, but for a shop each."""
    refits = []
    for number in range(n):
        own = labels.copy()
        own[number] = -1
        refits.append(Refit(own, EVERYONE))
    return refits


def sizes_of(labels):
    """Return how many rows each label has."""
    return dict(zip(*np.unique(labels, return_counts=True), strict=True))


def judged(
    labels, refits=None, verdict="natural", explained=None, trained=None
) -> ModelScore:
    kind = "density" if verdict == "natural" else "partition"
    found = score_model(
        labels,
        found_again(GROUPS) if refits is None else refits,
        kind=kind,
        verdict=verdict,
        trained=sizes_of(labels) if trained is None else trained,
        part=0.3,
    )
    if explained is not None:
        mean, error = explained
        found = replace(found, explained=OutOfTime(mean, error, {}))
    return found


def failed(champion, challenger, breaches=()):
    decision = judge_challenger(champion, challenger, SHOP, breaches)
    names = [row.check for row in decision.rows if not row.is_passed]
    assert decision.is_passed == (not names)
    assert all(name in decision.reason for name in names)
    return names


def one_of_two(labels, old, new):
    """Return labels in which every other member of a group is in another one."""
    changed = labels.copy()
    changed[np.flatnonzero(labels == old)[::2]] = new
    return changed


def test_an_equal_challenger_passes():
    assert failed(judged(GROUPS), judged(GROUPS)) == []


def test_the_numbers_of_segments_play_no_part():
    renamed = np.select([GROUPS == 0, GROUPS == 1, GROUPS == 2], [17, 4, 9], -1)
    old, new = judged(GROUPS), judged(renamed)
    assert old.jaccard == {0: new.jaccard[17], 1: new.jaccard[4], 2: new.jaccard[9]}
    assert old.mean_jaccard == new.mean_jaccard
    assert new.stability["segment"].to_list() == [4, 9, 17]
    assert failed(old, new) == []


def test_a_challenger_that_refits_do_not_find_again_fails():
    torn = one_of_two(one_of_two(GROUPS, 0, 1), 2, 0)
    assert "agreement with refits (ARI)" in failed(judged(GROUPS), judged(torn))


def test_clusters_that_dissolve_fail():
    quarters = np.where(GROUPS >= 0, 4 * GROUPS + np.arange(len(GROUPS)) % 4, -1)
    assert "clusterwise Jaccard" in failed(judged(GROUPS), judged(quarters))


def test_a_challenger_that_assigns_far_fewer_shops_fails():
    shy = GROUPS.copy()
    shy[::3] = -1
    assert failed(judged(GROUPS), judged(shy)) == ["structure found again (nats)"]


def test_a_challenger_follows_a_merge_that_refits_see():
    # Christmas and steady sellers have grown into one; the champion still parts them.
    merged = np.where(GROUPS == 2, 1, GROUPS)
    refits = found_again(merged)
    champion, challenger = judged(GROUPS, refits), judged(merged, refits)
    assert champion.structure_score > challenger.structure_score + 0.15
    assert failed(champion, challenger) == []


def test_a_challenger_follows_a_split_that_refits_see():
    halves = one_of_two(GROUPS, 0, 3)
    refits = found_again(halves)
    assert failed(judged(GROUPS, refits), judged(halves, refits)) == []


def test_a_weaker_verdict_fails_where_the_champion_stands():
    partition = np.where(GROUPS < 0, 0, GROUPS)
    challenger = judged(partition, found_again(partition), "reproducible")
    assert failed(judged(GROUPS), challenger) == ["verdict"]
    assert failed(challenger, judged(GROUPS)) == []


def test_a_weaker_verdict_passes_where_the_champions_clusters_have_dissolved():
    rng = np.random.default_rng(0)
    elsewhere = [Refit(rng.permutation(GROUPS), EVERYONE) for _ in range(3)]
    partition = np.where(GROUPS < 0, 0, GROUPS)
    challenger = judged(partition, found_again(partition), "reproducible")
    champion = judged(GROUPS, elsewhere)
    assert not champion.stands
    assert failed(champion, challenger) == []


def test_a_reproducible_partition_must_come_out_again():
    partition = np.where(GROUPS < 0, 0, GROUPS)
    rng = np.random.default_rng(0)
    shuffled = [Refit(rng.permutation(partition), EVERYONE) for _ in range(3)]
    champion = judged(partition, shuffled, "constructive")
    challenger = judged(partition, shuffled, "reproducible")
    assert failed(champion, challenger) == ["agreement with refits (ARI)"]
    assert failed(champion, champion) == []


@pytest.mark.parametrize(
    ("share", "is_failed"), [(0.10, False), (0.091, False), (0.089, True)]
)
def test_later_months_may_be_told_of_by_one_standard_error_less(share, is_failed):
    champion = judged(GROUPS, explained=(0.10, 0.01))
    challenger = judged(GROUPS, explained=(share, 0.01))
    assert bool(failed(champion, challenger)) == is_failed


def test_two_errors_of_a_difference_are_allowed_where_they_are_more():
    # Shops that only one of both tells of: the errors add up.
    one, other = np.array([0.008, 0.0, 0.006]), np.array([0.0, 0.01, 0.0])
    champion = judged(GROUPS, explained=(0.10, 0.01))
    challenger = judged(GROUPS, explained=(0.075, 0.01))
    assert failed(champion, challenger)
    paired = [
        replace(model, explained=replace(model.explained, influence=own))
        for model, own in ((champion, one), (challenger, other))
    ]
    assert failed(*paired) == []


def earlier(values):
    """Return an earlier month of the shops, and what became of them."""
    shops = pl.Series([f"shop {i:03}" for i in range(len(values))])
    outcomes = pl.DataFrame({"shop_id": shops, "growth": values.astype(float)})
    n = len(values)
    return Cut("2024-02", shops, np.zeros((n, 1)), np.ones(n), outcomes, outcomes)


def gate_of(champion, challenger, labels, growth):
    """Decide between models that label a month of four times as many shops."""
    cuts = [earlier(np.tile(growth, 4))]
    labels = tuple([np.tile(own, 4)] for own in labels)
    found = with_backtests(champion, challenger, cuts, labels, seed=0)
    decision = judge_challenger(*found, SHOP)
    row = next(row for row in decision.rows if "later months" in row.check)
    return row, found


# What became of the shops after an earlier month: the first group grew, the second
# shrank, and everybody a little of either.
GROWTH = np.select([GROUPS == 0, GROUPS == 1], [1.0, -1.0], 0.0) + np.resize(
    [0.1, -0.1, 0.3], len(GROUPS)
)


def test_what_a_dead_segment_explained_is_no_reason_to_keep_it():
    # All Christmas sellers but three have closed, and these look like steady ones.
    left = np.flatnonzero((GROUPS != 1) | (np.arange(len(GROUPS)) < 43))
    now = GROUPS[left]
    without = np.where(now == 1, 2, now)
    seen = np.ones(len(now), dtype=bool)
    refits = [Refit(without, seen)] * 3
    champion = judged(now, refits, trained=sizes_of(GROUPS))
    challenger = judged(without, refits)
    assert champion.fallen == (1,)
    then = np.where(GROUPS == 1, 2, GROUPS)
    row, (old, new) = gate_of(champion, challenger, (GROUPS, then), GROWTH)
    assert row.is_passed
    assert row.champion.endswith(" without segments that are gone: 1")
    assert new.explained.mean == pytest.approx(old.explained.mean, abs=0.01)
    assert judge_challenger(old, new, SHOP).is_passed
    standing = replace(champion, fallen=())
    row, _ = gate_of(standing, challenger, (GROUPS, then), GROWTH)
    assert not row.is_passed


def test_what_parted_two_segments_that_have_merged_is_of_the_past():
    merged = np.where(GROUPS == 1, 0, GROUPS)
    refits = found_again(merged)
    champion, challenger = judged(GROUPS, refits), judged(merged, refits)
    assert champion.fallen == (1,)
    row, (old, new) = gate_of(champion, challenger, (GROUPS, merged), GROWTH)
    assert row.is_passed
    assert judge_challenger(old, new, SHOP).is_passed


def test_a_challenger_that_has_lost_what_still_stands_fails_beside_a_dead_segment():
    now = np.where(GROUPS == 2, 0, GROUPS)
    refits = found_again(now)
    champion = judged(GROUPS, refits)
    assert champion.fallen == (2,)
    rng = np.random.default_rng(0)
    mixed = np.where(now >= 0, rng.permutation(now), now)
    row, _ = gate_of(champion, judged(now, refits), (GROUPS, mixed), GROWTH)
    assert not row.is_passed


def test_a_champion_of_which_nothing_stands_is_not_asked_about_the_past():
    rng = np.random.default_rng(0)
    elsewhere = [Refit(rng.permutation(GROUPS), EVERYONE) for _ in range(3)]
    champion = judged(GROUPS, elsewhere)
    assert champion.fallen == (0, 1, 2)
    row, (old, new) = gate_of(champion, champion, (GROUPS, GROUPS), GROWTH)
    assert (row.champion, row.is_passed) == ("-", True)
    assert old.explained is new.explained is None


def test_a_segment_falls_by_what_is_left_of_it_or_by_what_refits_find():
    assert judged(GROUPS).fallen == ()
    assert judged(GROUPS, trained={0: 40, 1: 30, 2: 66, 5: 9, -1: 10}).fallen == (5,)
    assert judged(GROUPS, trained={0: 40, 1: 30, 2: 200, -1: 10}).fallen == (2,)
    quarters = np.where(GROUPS >= 0, 4 * GROUPS + np.arange(len(GROUPS)) % 4, -1)
    assert judged(quarters).fallen == tuple(range(12))
    partition = np.where(quarters < 0, 0, quarters)
    # Nobody has said that these would be found again.
    assert judged(partition, verdict="constructive").fallen == ()


def test_later_months_that_tell_nothing_fail_nobody():
    nothing = judged(GROUPS, explained=(0.0, float("inf")))
    assert failed(nothing, nothing) == []
    assert failed(judged(GROUPS, explained=(0.1, 0.01)), judged(GROUPS)) == []
    assert nothing.as_dict()["explained"] is None


def test_a_broken_contract_fails_the_best_challenger():
    breach = Breach("size", 3, "Ana", "segment 3 has 41 members.")
    assert failed(judged(GROUPS), judged(GROUPS), [breach]) == ["contract"]


def test_a_champion_that_assigns_nobody_has_nothing_to_defend():
    champion = judged(np.full(len(GROUPS), -1))
    assert champion.mean_jaccard == 0.0
    assert not champion.stands
    assert failed(champion, judged(GROUPS)) == []


def test_every_order_of_three_models_is_judged_without_a_circle():
    shy, torn = GROUPS.copy(), one_of_two(one_of_two(GROUPS, 0, 1), 2, 0)
    shy[::2] = -1
    models = [judged(labels) for labels in (GROUPS, shy, torn)]
    better = {
        (i, j)
        for (i, one), (j, other) in itertools.permutations(enumerate(models), 2)
        if failed(one, other)
    }
    assert {(0, 1), (0, 2)} <= better
    assert {(1, 0), (2, 0)}.isdisjoint(better)


def test_a_decision_survives_json():
    decision = judge_challenger(judged(GROUPS), judged(GROUPS), SHOP)
    text = json.dumps(decision.model_dump(mode="json"))
    assert GateDecision.model_validate_json(text) == decision


def test_too_few_refits_and_other_rows_are_refused():
    with pytest.raises(ModelError, match="at least 2"):
        judged(GROUPS, found_again(GROUPS, 1))
    with pytest.raises(ModelError, match="expected the same"):
        judge_challenger(judged(GROUPS), judged(GROUPS, found_again(GROUPS, 2)), SHOP)


def test_shops_that_have_left_since_do_not_count(standing):
    model, data = standing
    partition = published_as(model, "reproducible")
    stay = replace(data, table=data.table.head(150))
    _, found = score_models(partition, partition, stay, 2)
    n_known = {
        share.n_entities
        for cut in found.explained.by_cut.values()
        for share in cut.by_outcome.values()
    }
    assert max(n_known) <= 150


@pytest.fixture(scope="module")
def standing(trained):
    """Return a model and the rows that it was learnt from."""
    model = Model.load(trained)
    assert len(model.latent.max_lambda) >= 2, "the gate needs segments of both kinds"
    return model, GateData.of(Artifacts(trained, RETAILERS).published())


def published_as(model: Model, kind: str) -> Model:
    verdict = Verdict(kind=kind, is_certified=True, basis={})
    published = first_version(
        publishable(model.segments.tables, verdict), verdict, "0" * 12
    )
    return replace(model, segments=replace(model.segments, published=published))


@pytest.fixture(scope="module")
def of_both_kinds(standing):
    """Return what is judged of a natural champion and of a reproducible challenger."""
    model, data = standing
    steps = []
    found = score_models(
        published_as(model, "natural"),
        published_as(model, "reproducible"),
        data,
        2,
        on_step=lambda done, n: steps.append((done, n)),
    )
    assert steps == [(0, 2), (1, 2), (2, 2)] * 2
    return found


def test_models_are_judged_on_all_rows_and_by_later_months(standing, of_both_kinds):
    model, data = standing
    natural, partition = of_both_kinds
    assert (natural.kind, partition.kind) == ("density", "partition")
    for found in of_both_kinds:
        assert found.n_entities == data.table.height
        assert found.ari.shape == (2,)
        assert np.isfinite(found.explained.standard_error)
    assert partition.stability["size"].sum() == data.table.height
    labels = published_as(model, "natural").assign(data.table)["segment"]
    sizes = labels.filter(labels >= 0).value_counts().sort("segment")
    assert natural.stability["size"].to_list() == sizes["count"].to_list()


def test_the_order_of_the_rows_changes_nothing(standing):
    model, data = standing
    partition = published_as(model, "reproducible")
    shuffled = replace(data, table=data.table.sample(fraction=1, shuffle=True))
    one, _ = score_models(partition, partition, data, 2)
    other, _ = score_models(partition, partition, shuffled, 2)
    assert one.as_dict() == other.as_dict()


def test_one_call_judges_checks_the_contract_and_decides(standing):
    model, data = standing
    partition = published_as(model, "reproducible")
    today = date(2026, 3, 31)
    contract = Contract(owner="Ana", expires=today, segments=[{"id": 99}])
    free = evaluate_gate(partition, partition, data, 2, None, today)
    held = evaluate_gate(partition, partition, data, 2, contract, today)
    assert free.breaches == ()
    assert [breach.rule for breach in held.breaches] == ["survival"]
    assert not held.decision.is_passed
    json.dumps(held.as_dict())
    assert free.challenger.stability_facts["n_refits"] == 2


def test_models_of_other_features_are_refused(standing):
    model, data = standing
    other = replace(model, features=model.features[::-1])
    with pytest.raises(FeatureMismatchError, match="another order"):
        score_models(model, other, data, 2)
    fewer = replace(model, features=model.features[1:])
    with pytest.raises(FeatureMismatchError, match=model.features[0]):
        score_models(model, fewer, data, 2)


def test_a_history_that_is_too_short_fails_nobody(standing):
    model, data = standing
    partition = published_as(model, "reproducible")
    young = replace(data, history=data.history.clear())
    result = evaluate_gate(partition, partition, young, 2, None, None)
    row = next(r for r in result.decision.rows if "later months" in r.check)
    assert (row.champion, row.needed, row.is_passed) == ("-", "-", True)
