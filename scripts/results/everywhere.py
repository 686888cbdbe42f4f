"""What holds on several tasks: sentences, each from the numbers of all of their ablations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from results.ablations import Ablation
from results.findings import costs_of_rates, listed, rivals, twins


def what_holds_everywhere(ablations: Sequence[Ablation]) -> Iterator[str]:
    """Say what holds on every task, of estimators that several have."""
    if len(ablations) < 2:
        return
    yield _of_all_rates(ablations)
    yield from _of_both_kinds(ablations)
    yield from _of_common_estimators(ablations)
    words = _words_by_estimator(ablations)
    several = {name: said for name, said in words.items() if len(said) > 1}
    for word in ("better", "worse"):
        if always := [name for name, said in several.items() if set(said) == {word}]:
            yield (
                f"{word.capitalize()} than the baseline on every task that has them, of those on "
                f"two or more: {listed(always)}."
            )
    yield from _of_constant_twins(ablations)


def _of_all_rates(ablations: Sequence[Ablation]) -> str:
    """Say on how many tasks the rate costs more than the estimator."""
    costs, n = [*map(costs_of_rates, ablations)], len(ablations)
    more = sum(c.worst_rate > c.typical_estimator for c in costs)
    less = sum(c.worst_rate < c.worst_estimator for c in costs)
    same = sum(c.common_rate <= c.typical_estimator for c in costs)
    return (
        f"On {more} of {n} tasks a bad learning rate costs more than another estimator does, and "
        f"on {less} of {n} less than the worst estimator; one rate for all, the best such, costs "
        f"no more than another estimator on {same} of {n} (medians over estimators)."
    )


def _of_both_kinds(ablations: Sequence[Ablation]) -> Iterator[str]:
    """Say on which tasks the best estimator is unbiased, and on which it is not, for sure."""
    found: dict[str, list[str]] = {}
    for ablation in ablations:
        best = rivals(ablation)
        if best and best.sure:
            title = ablation.task.title[0].lower() + ablation.task.title[1:]
            found.setdefault(best.kinds[0], []).append(f"{title} ({best.ahead['estimator']})")
    if len(found) > 1:
        said = [f"{kind} on {listed(found[kind])}" for kind in ("unbiased", "biased")]
        yield f"The best estimator is {said[0]}, and {said[1]}."


def _of_common_estimators(ablations: Sequence[Ablation]) -> Iterator[str]:
    """Say who does well on every task, of those that all tasks have."""
    orders = [ablation.first["estimator"].tolist() for ablation in ablations]
    words = _words_by_estimator(ablations)
    common = [name for name in orders[0] if len(words[name]) == len(ablations)]
    if not common:
        return
    never_worse = [name for name in common if not any("worse" in word for word in words[name])]
    ahead = [name for name in never_worse if "better" in words[name]]
    shown = (
        f"Shown to be worse than the baseline on none of them: {listed(never_worse)}; and better "
        f"on one or more: {listed(ahead)}."
        if never_worse
        else "Each is worse than the baseline on one or more, in parentheses or without."
    )
    yield f"{len(common)} estimators were tried on all {len(ablations)} tasks. {shown}"
    orders = [[name for name in order if name in common] for order in orders]
    places = {n: sum(1 + order.index(n) for order in orders) / len(orders) for n in common}
    by_place = sorted(common, key=lambda name: places[name])
    yield "Their mean places among each other, by means alone: " + (
        ", ".join(f"{name} {places[name]:.1f}" for name in by_place) + "."
    )


def _of_constant_twins(ablations: Sequence[Ablation]) -> Iterator[str]:
    """Name pairs that are the same wherever both are, on two tasks or more."""
    of_tasks = [(set(each.first["estimator"]), twins(each)) for each in ablations]
    pairs = {frozenset(p) for _, sets in of_tasks for s in sets for p in combinations(s, 2)}
    same = []
    for pair in sorted(pairs, key=sorted):
        told = [any(pair <= s for s in sets) for names, sets in of_tasks if pair <= names]
        if len(told) > 1 and all(told):
            same.append(" and ".join(sorted(pair)))
    if same:
        yield f"The same to the last digit on every task that has both: {'; '.join(same)}."


def _words_by_estimator(ablations: Sequence[Ablation]) -> dict[str, list[str]]:
    """Return what each task that has an estimator says of it beside its baseline."""
    words: dict[str, list[str]] = {}
    for ablation in ablations:
        for _, row in ablation.first.iterrows():
            words.setdefault(row["estimator"], []).append(ablation.words.get(row["group"], ""))
    return words
