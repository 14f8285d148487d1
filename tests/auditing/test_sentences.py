"""Verdicts are records that hold no words, and every record has its words in one module."""

import ast
import dataclasses
import inspect
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

import pudle.auditing
from pudle.auditing import equation, expected, sentences, verdicts
from pudle.auditing.equation import Equation
from pudle.auditing.evidence import PartEvidence, observe
from pudle.auditing.layer import Layer
from pudle.auditing.mistakes import Mistake, MistakeKind
from pudle.auditing.rules import PART_RULES, judge_part

ROOM = Path(pudle.auditing.__file__).parent
#: Each union of records, and the function that puts its members in words.
WORDS = {
    "reasons": (verdicts.Reason, sentences.reason_in_words),
    "refusals": (equation.Refusal, sentences.refusal_in_words),
    "obstacles": (expected.Obstacle, sentences.obstacle_in_words),
    "sources": (expected.Source, sentences.source_in_words),
}


@pytest.mark.parametrize("kind", MistakeKind)
def test_every_mistake_has_a_name(kind: MistakeKind) -> None:
    name = sentences.mistake_in_words(Mistake(kind, (2.0, 3.0), "input 0"))
    assert name and "{" not in name


def test_no_two_mistakes_have_one_name() -> None:
    assert len(set(sentences.MISTAKES.values())) == len(MistakeKind)


@pytest.mark.parametrize("union", WORDS)
def test_every_record_has_words_of_its_own(union: str) -> None:
    records, in_words = WORDS[union]
    patterns = [
        node.cls.attr
        for node in ast.walk(ast.parse(inspect.getsource(in_words)))
        if isinstance(node, ast.MatchClass)
    ]
    for record in typing.get_args(records):
        assert patterns.count(record.__name__) == 1, record
    assert len(patterns) == len(typing.get_args(records))


@pytest.mark.parametrize("union", WORDS)
def test_no_record_is_false(union: str) -> None:
    records, _ = WORDS[union]
    for record in typing.get_args(records):
        assert record(*[0] * len(dataclasses.fields(record))), record


def test_numbers_lie_below_words() -> None:
    for module in ROOM.glob("*.py"):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if module.stem not in ("audit", "command"):
            assert "sentences" not in imported, module.name
        if module.stem not in ("sentences", "command"):
            # Numbers are written for readers by pudle.text alone.
            assert "text" not in imported, module.name


def part_evidence(function, entries) -> PartEvidence:
    layer = Layer(function, (entries,), (0,), None, 0)
    evidence = observe(layer, None, None)
    return PartEvidence(evidence, layer.parts[0], layer.gradient(layer.theta))


def test_a_rule_gives_a_verdict_or_leaves_it_to_the_next() -> None:
    evidence = part_evidence(torch.sin, torch.linspace(0.1, 1, 4).double())
    decided = [(rule, rule(evidence)) for rule in PART_RULES[:3]]
    assert [verdict is None for _, verdict in decided] == [True, True, False]
    assert judge_part(evidence) == decided[-1][1]
    assert isinstance(judge_part(evidence).reasons[0], verdicts.Agrees)


def test_differences_are_numbers() -> None:
    by_differences = part_evidence(torch.abs, torch.zeros(2).double()).expected
    assert by_differences.unseen == expected.Unseen(([0], [1]), False, expected.KinkNearby())
    assert by_differences.source.n_left_out == 2 and not by_differences.values.size
    assert all(not isinstance(value, str) for value in vars(by_differences).values())


def test_an_equation_solves_nothing_when_it_is_made() -> None:
    calls = []
    layer = Layer(torch.sin, (torch.ones(2).double(),), (0,), None, 0)
    solved = Equation(layer, "step", lambda *inputs: calls.append(inputs), torch.ones(2).double())
    assert np.allclose(solved.state, 1) and not calls
