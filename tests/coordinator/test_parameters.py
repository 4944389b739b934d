"""What a group may declare as parameters of its hooks, and which values a deployment may give."""

from __future__ import annotations

from typing import Any

import pytest

from shiftwork_contract.errors import InvalidRequest
from shiftwork_coordinator.applying import read
from shiftwork_coordinator.model.parameters import Parameter, refuse_declared, values

WORKERS = Parameter("integer", default=4, min=1, max=64)
MODE = Parameter(choices=("fast", "safe"))
DEBUG = Parameter("boolean", default=False)


def test_values_are_texts_with_defaults_filled_in() -> None:
    declared = {"WORKERS": WORKERS, "MODE": MODE, "DEBUG": DEBUG}
    assert values("web/p", declared, {"MODE": "safe"}) == {"WORKERS": "4", "MODE": "safe", "DEBUG": "false"}
    given = {"MODE": "fast", "WORKERS": "8", "DEBUG": "true"}
    assert values("web/p", declared, given) == {"WORKERS": "8", "MODE": "fast", "DEBUG": "true"}
    assert values("web/p", declared, {**given, "WORKERS": 8, "DEBUG": True}) == values("web/p", declared, given)


@pytest.mark.parametrize("text", ["$(id)", "`id`", "; rm -rf /", "a b\n'c\" *", "ü" * 2048, ""])
def test_text_is_taken_as_it_is(text: str) -> None:
    assert values("web/p", {"NOTE": Parameter()}, {"NOTE": text}) == {"NOTE": text}


@pytest.mark.parametrize(
    ("parameter", "given", "expected"),
    [
        (WORKERS, "eight", "cannot set the parameter X of web/p to 'eight': it is not a whole number"),
        (WORKERS, "8.0", "not a whole number"),
        (WORKERS, True, "not a whole number"),
        (WORKERS, "0", "to '0': it is below the least, 1"),
        (WORKERS, 65, "above the most, 64"),
        (WORKERS, "9" * 400, "not a whole number"),
        (MODE, "slow", "is none of fast, safe"),
        (MODE, 1, "not a string"),
        (DEBUG, "yes", "to 'yes': it is not true or false"),
        (DEBUG, 1, "not true or false"),
        (Parameter(), "a\0b", "NUL"),
        (Parameter(), "ü" * 2049, "longer than 4096 bytes"),
        (Parameter(), None, "cannot deploy to web/p: the parameter X has no default; give it with --parameter X="),
    ],
)
def test_a_value_that_does_not_fit_is_refused(parameter: Parameter, given: Any, expected: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        values("web/p", {"X": parameter}, {} if given is None else {"X": given})
    assert expected in caught.value.message


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidRequest, match="'WORKER' of web/p: there is none of that name; known: WORKERS"):
        values("web/p", {"WORKERS": WORKERS}, {"WORKER": "8"})
    with pytest.raises(InvalidRequest, match="`parameters` of the group declares them"):
        values("web/p", {}, {"WORKER": "8"})


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LIFECYCLE_EVENT", "DEPLOYMENT_ID", "LD_PRELOAD", "SHIFTWORK_X", "BASH_ENV", "BASH_FUNC_ls"),
        *("IFS", "9LIVES", "A-B", "A=B", "", "A B", "A\n", "X" * 65, "ÄNDERN", "BUNDLE_KEY"),
    ],
)
def test_names_that_mean_something_or_are_none_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot use the parameter"):
        refuse_declared("web/p", {name: Parameter()}, {})


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (Parameter("integer", default="4"), "its default '4' is not a whole number"),
        (Parameter(default=4), "its default 4 is not a string (in YAML, quote it)"),
        (Parameter("integer", default=0, min=1), "its default 0 is below the least, 1"),
        (Parameter("integer", min=5, max=1), "no value could be both"),
        (Parameter(min=1), "min and max are for integers, not for a string"),
        (Parameter("boolean", choices=("a",)), "a boolean needs no choices"),
        (Parameter("integer", choices=("a",)), "its choice 'a' is not a whole number"),
        (Parameter(default="x", choices=("a", "b")), "is none of a, b"),
    ],
)
def test_a_declaration_that_cannot_be_met_is_refused(parameter: Parameter, expected: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        refuse_declared("web/p", {"X": parameter}, {})
    assert expected in caught.value.message


def test_a_name_cannot_be_a_parameter_and_a_variable_at_once() -> None:
    with pytest.raises(InvalidRequest, match="the group's `environment` has this name too"):
        refuse_declared("web/p", {"MODE": MODE}, {"MODE": "fast"})


def test_they_are_read_from_the_file() -> None:
    text = (
        "application: web\ngroups:\n  p:\n    instances: {names: [a]}\n    parameters:\n"
        "      timeout: {type: string, default: 30s}\n      WORKERS: {type: integer, default: 4, min: 1, max: 64}\n"
    )
    declared = read(text, "f").groups["p"].parameters
    assert declared == {"timeout": Parameter(default="30s"), "WORKERS": WORKERS}
    with pytest.raises(InvalidRequest, match="f:7:"):
        read(text.replace("max: 64", "max: many"), "f")
