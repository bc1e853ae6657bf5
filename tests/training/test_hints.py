"""Every override that an error proposes mends the command when it is added: it composes, and a batch is evaluated."""

import re
from collections.abc import Iterator

import pytest
from typed import of_run, refusal, typed

from lossframe import configs
from lossframe.training import run

GROUPS_THAT_DO_NOT_FIT = [
    "data=diabetes", "loss=roc_auc", "metrics=[retrieval,regression]", "metrics=classification data=diabetes",
    "data=breast_cancer", "data=digit_halves", "model=mlp", "metrics=retrieval data=diabetes model=mlp",
    "loss=mse metrics=retrieval", "loss=huber metrics=classification", "loss=[triplet,mse]", "metrics=binary",
    "data=diabetes model=mlp loss=mse",
    "loss=cross_entropy data=breast_cancer",
]  # fmt: skip
LEFT_OVER = [
    "loss=huber experiment=autoencoder", "loss=[triplet,center] ~loss.triplet",
    "loss=l1 experiment=autoencoder", "loss=triplet experiment=center_vs_triplet", "+weights.center=1",
    "loss=[triplet,center] ~loss.center", "+weights.tripel=1", "+inputs.center.features=embeddings",
    "loss=center experiment=center_vs_triplet", "+loss@second=triplet +weights.secnd=2",
    "loss=[triplet,center,decov] ~loss.triplet ~loss.center",
]  # fmt: skip
LOSSES = ["loss=mse", "loss=gaussian_nll", "loss=log", "loss=contrastive"]
QUICK = ["loss=roc_auc", "metrics=[retrieval,regression]", "loss=[triplet,center] ~loss.triplet"]
SLOW = [command for command in [*GROUPS_THAT_DO_NOT_FIT, *LEFT_OVER, *LOSSES] if command not in QUICK]


def proposals(line: str) -> Iterator[list[str]]:
    """Yield what a line proposes to add: for each alternative, the overrides that are typed together."""
    if "=ENTRY" in line:
        entries = "embeddings" if "'embeddings'" in line else "inputs"
        yield re.findall(r"[\w.]+=\w+", line.partition(" by ")[2].replace("ENTRY", entries))
        return
    clause = re.split(r"; (?:add|choose) |Add ", line)[-1]
    for alternative in clause.split(" or "):
        yield alternative.split()


def evaluate_a_batch(*arguments: str) -> None:
    """Build what a command would train, and evaluate objective and metrics on one batch."""
    with typed(*arguments) as config:
        learner, data, _ = run._prepare(of_run(config))
        data.setup()
        frame = learner._evaluate(next(iter(data.train_dataloader())))
    assert learner.objective(frame).isfinite()


@pytest.mark.parametrize("command", [*QUICK, *(pytest.param(each, marks=pytest.mark.slow) for each in SLOW)])
def test_each_proposal_works_when_it_is_added(command: str) -> None:
    line = refusal(*command.split())
    if line is None:
        assert command in LOSSES
        return
    found = list(proposals(line))
    assert found
    assert all(found), line
    for overrides in found:
        if "=ENTRY" in line:
            assert refusal(*command.split(), *overrides) is None
        else:
            evaluate_a_batch(*command.split(), *overrides)


TYPED_INSTEAD = {
    "loss=[triplet,triplet]": r"choose it once, and again by (\S+)$",
    "loss=[triplet,center,triplet]": r"choose it once, and again by (\S+)$",
}


@pytest.mark.parametrize("command", TYPED_INSTEAD)
def test_loss_that_is_chosen_twice_becomes_two_terms(command: str) -> None:
    line = refusal(command) or ""
    (added,) = re.findall(TYPED_INSTEAD[command], line)
    chosen = ",".join(dict.fromkeys(command.removeprefix("loss=[").strip("]").split(",")))
    with typed(f"loss=[{chosen}]", added) as config:
        objective = run._prepare(of_run(config))[0].objective
    assert [*objective.losses] == ["second_triplet", *chosen.split(",")]


@pytest.mark.parametrize("group", ["optimizer", "data", "model", "trainer", "balance", "loss"])
def test_group_that_cannot_be_null_names_its_choices(group: str) -> None:
    line = refusal(f"{group}=null") or ""
    assert line.startswith(f"{group}=null: wanted one of ")
    assert re.findall(r"'(\w+)'", line) == configs.choices(group)


@pytest.mark.parametrize("group", ["metrics", "logger", "callbacks", "scheduler", "experiment"])
def test_group_that_can_be_null_is_left_out(group: str) -> None:
    assert refusal(f"{group}=null") is None
