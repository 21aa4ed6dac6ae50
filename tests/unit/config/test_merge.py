"""The three-way merge of what the file said, what it says, and what the database holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.config.merge import Conflict, merge
from routing.config.parts import as_json, from_json, named_in, parts_of, whole
from routing.config.schema import Configuration
from tests.unit.config.configurations import configurations, unhurried


def parsed(plain):
    return Configuration.model_validate(plain)


def said(plain):
    return named_in(parsed(plain), parsed(plain))


def one(general=None, group=None, **endpoint):
    """One group "g" with one endpoint "e"."""
    model = {"name": "e", "model": "m", **endpoint}
    whole = {"model_groups": [{"model_group": "g", "models": [model], **(group or {})}]}
    return whole if general is None else whole | {"general_settings": general}


def groups(**named):
    return {
        "model_groups": [
            {"model_group": group, "models": [{"name": name, "model": "m"} for name in names]}
            for group, names in named.items()
        ]
    }


def merged(base, database, file, *, prune=False, winner=None):
    """The result as a configuration, and the conflicts."""
    result = merge(
        None if base is None else said(base),
        parts_of(parsed(database).plain()),
        said(file),
        prune=prune,
        winner=winner,
    )
    return parsed(whole(result.parts)), list(result.conflicts)


def names(configuration):
    return {group.model_group: [model.name for model in group.models] for group in configuration.model_groups}


def weight(configuration):
    return configuration.model_groups[0].models[0].weight


NOTHING = {}
W2, W3, W4 = ({"weight": number} for number in (2, 3, 4))


@pytest.mark.parametrize(
    ("base", "database", "file", "result"),
    [
        (NOTHING, NOTHING, NOTHING, 1),
        (W2, W2, W2, 2),
        (W2, W2, W3, 3),  # only the file changed
        (W2, W3, W2, 3),  # only the admin changed
        (W2, W3, W3, 3),  # both, to the same
        (NOTHING, NOTHING, W3, 3),  # a new line in the file
        (NOTHING, W3, NOTHING, 3),  # the admin's, the file never said it
        (W2, W2, NOTHING, 1),  # the line was taken out: the default again
        ({"weight": 1}, W3, NOTHING, 3),  # the line was taken out, but said the default: nothing changed
        (W2, NOTHING, NOTHING, 1),
    ],
)
def test_a_value_that_one_side_changed_is_taken(base, database, file, result):
    outcome, conflicts = merged(one(**base), one(**database), one(**file))

    assert (weight(outcome), conflicts) == (result, [])


@pytest.mark.parametrize(
    ("base", "database", "file", "told"),
    [
        (W2, W3, W4, (2, 3, 4)),
        (NOTHING, W3, W4, (1, 3, 4)),
        (W2, W3, NOTHING, (2, 3, 1)),
        (NOTHING, W3, {"weight": 1}, (1, 3, 1)),  # the file says the default now, where it was silent
    ],
)
def test_a_value_that_both_sides_changed_is_a_conflict(base, database, file, told):
    sides = one(**base), one(**database), one(**file)

    assert merged(*sides)[1] == [Conflict("endpoint e", "weight", *told)]
    assert weight(merged(*sides, winner="database")[0]) == told[1]
    assert weight(merged(*sides, winner="file")[0]) == told[2]


def undecided(base, database, file, *, prune=False, winner=None):
    result = merge(said(base), parts_of(parsed(database).plain()), said(file), prune=prune, winner=winner)
    return list(result.undecided)


def settled(base, database, file, choose, *, prune=False):
    """Merges again with `choose` asked about each open conflict, as often as a choice opens others."""
    choices = {}
    for _ in range(9):
        left = undecided(base, database, file, prune=prune, winner=choices)
        if not left:
            return merged(base, database, file, prune=prune, winner=choices)
        choices |= {conflict.id: choose(conflict) for conflict in left}
    raise AssertionError("choices have opened conflicts for ever")


def test_each_conflict_can_have_a_winner_of_its_own():
    sides = [one(weight=number, rpm=number, tpm=number) for number in (2, 3, 4)]
    by_key = {conflict.key: conflict for conflict in merged(*sides)[1]}
    choices = {by_key["weight"].id: "file", by_key["rpm"].id: "database"}
    endpoint = merged(*sides, winner=choices)[0].model_groups[0].models[0]

    assert (endpoint.weight, endpoint.rpm) == (4, 3)
    assert undecided(*sides, winner=choices) == [by_key["tpm"]]


def test_one_winner_for_all_leaves_nothing_undecided():
    sides = one(**W2), one(**W3), one(**W4)

    assert [undecided(*sides, winner=winner) for winner in ("database", "file")] == [[], []]
    assert undecided(*sides) == undecided(*sides, winner={}) == [Conflict("endpoint e", "weight", 2, 3, 4)]


@pytest.mark.parametrize("sides", [(W3, W4, W2), (W2, W4, W3), (W2, {"weight": 5}, W4), (W2, W3, {"weight": 5})])
def test_a_choice_between_other_values_counts_no_more(sides):
    [chosen] = merged(one(**W2), one(**W3), one(**W4))[1]

    assert len(undecided(*(one(**side) for side in sides), winner={chosen.id: "file"})) == 1


def test_taking_an_endpoint_of_a_group_that_stays_removed_asks_about_the_group():
    base = groups(g=["a"], h=["b"])
    file = groups(g=["a"], h=["b"])
    file["model_groups"][1]["models"][0]["weight"] = 7
    sides = base, groups(g=["a"]), file
    [endpoint] = merged(*sides)[1]
    [group] = undecided(*sides, winner={endpoint.id: "file"})

    assert group == Conflict("model group h", "", "there", "removed", "holds endpoint b")
    both = {endpoint.id: "file", group.id: "file"}
    assert names(merged(*sides, winner=both)[0]) == {"g": ["a"], "h": ["b"]}
    assert names(merged(*sides, winner=both | {group.id: "database"})[0]) == {"g": ["a"]}


def test_values_are_merged_one_by_one():
    outcome, conflicts = merged(one(**W2), one(weight=2, rpm=7), one(**W3))
    endpoint = outcome.model_groups[0].models[0]

    assert (endpoint.weight, endpoint.rpm, conflicts) == (3, 7, [])


def test_headers_are_merged_one_by_one():
    def headers(**pairs):
        return one(params={"default_headers": pairs})

    outcome, conflicts = merged(headers(a="1", b="1"), headers(a="1", b="1", c="1"), headers(b="2"))

    assert (outcome.model_groups[0].models[0].params.default_headers, conflicts) == ({"b": "2", "c": "1"}, [])


def test_a_header_that_both_sides_changed_is_a_conflict():
    sides = [one(params={"default_headers": {"x.a": value}}) for value in "123"]

    assert merged(*sides)[1] == [Conflict("endpoint e", "params.default_headers.x.a", "1", "2", "3")]


def test_settings_are_merged_value_by_value():
    outcome, conflicts = merged(
        one({"num_retries": 2, "cache_params": {"ttl": 5}}),
        one({"num_retries": 4, "cache_params": {"ttl": 5}}),
        one({"num_retries": 2, "cache_params": {"ttl": 6}}),
    )

    assert (outcome.general_settings.num_retries, outcome.general_settings.cache_params.ttl, conflicts) == (4, 6, [])


def test_a_file_without_settings_says_nothing_about_them():
    outcome, _ = merged(one({"num_retries": 9}), one({"num_retries": 9, "cache": False}), one())

    assert (outcome.general_settings.num_retries, outcome.general_settings.cache) == (9, False)


def test_pruning_settings_leaves_those_of_the_admin():
    outcome, _ = merged(one({"num_retries": 9}), one({"num_retries": 9, "cache": False}), one(), prune=True)

    assert (outcome.general_settings.num_retries, outcome.general_settings.cache) == (3, False)


def test_what_the_file_dropped_is_kept_and_told():
    base = said(groups(g=["a", "b"], h=["c"]))
    result = merge(base, parts_of(parsed(groups(g=["a", "b"], h=["c"])).plain()), said(groups(g=["a"])),
                   prune=False, winner=None)  # fmt: skip

    assert result.kept == (("endpoint", "b"), ("model group", "h"), ("endpoint", "c"))
    assert names(parsed(whole(result.parts))) == {"g": ["a", "b"], "h": ["c"]}


def test_prune_removes_what_the_file_dropped():
    both = groups(g=["a", "b"], h=["c"])

    assert names(merged(both, both, groups(g=["a"]), prune=True)[0]) == {"g": ["a"]}


@pytest.mark.parametrize("prune", [False, True])
def test_what_only_the_admin_made_stays(prune):
    outcome, conflicts = merged(groups(g=["a"]), groups(g=["a", "mine"], own=["x"]), groups(g=["a"]), prune=prune)

    assert (names(outcome), conflicts) == ({"g": ["a", "mine"], "own": ["x"]}, [])


def test_what_the_admin_removed_stays_removed():
    outcome, conflicts = merged(groups(g=["a", "b"], h=["c"]), groups(g=["a"]), groups(g=["a", "b"], h=["c"]))

    assert (names(outcome), conflicts) == ({"g": ["a"]}, [])


def test_a_change_of_what_the_admin_removed_is_a_conflict():
    base = groups(g=["a", "b"])
    file = groups(g=["a", "b"])
    file["model_groups"][0]["models"][1]["weight"] = 7
    sides = base, groups(g=["a"]), file

    assert merged(*sides)[1] == [Conflict("endpoint b", "", "there", "removed", "changed")]
    assert names(merged(*sides, winner="database")[0]) == {"g": ["a"]}
    assert names(merged(*sides, winner="file")[0]) == {"g": ["a", "b"]}


def test_pruning_what_the_admin_changed_is_a_conflict():
    database = groups(g=["a", "b"])
    database["model_groups"][0]["models"][1]["weight"] = 7
    sides = groups(g=["a", "b"]), database, groups(g=["a"])

    assert merged(*sides)[1] == []
    assert merged(*sides, prune=True)[1] == [Conflict("endpoint b", "", "there", "changed", "removed")]
    assert names(merged(*sides, prune=True, winner="database")[0]) == {"g": ["a", "b"]}
    assert names(merged(*sides, prune=True, winner="file")[0]) == {"g": ["a"]}


def test_pruning_a_group_that_holds_an_endpoint_of_the_admin_is_a_conflict():
    sides = groups(g=["a"], h=["b"]), groups(g=["a"], h=["b", "mine"]), groups(g=["a"])

    assert merged(*sides, prune=True)[1] == [
        Conflict("model group h", "", "there", "holds endpoint mine", "removed"),
    ]
    assert names(merged(*sides, prune=True, winner="database")[0]) == {"g": ["a"], "h": ["mine"]}
    assert names(merged(*sides, prune=True, winner="file")[0]) == {"g": ["a"]}


def test_a_new_endpoint_in_a_group_that_the_admin_removed_is_a_conflict():
    sides = groups(g=["a"], h=["b"]), groups(g=["a"]), groups(g=["a"], h=["b", "new"])

    assert merged(*sides)[1] == [Conflict("model group h", "", "there", "removed", "holds endpoint new")]
    assert names(merged(*sides, winner="database")[0]) == {"g": ["a"]}
    assert names(merged(*sides, winner="file")[0]) == {"g": ["a"], "h": ["new"]}


def test_moves_between_groups_are_values_like_others():
    base = groups(g=["a", "b"], h=["c"], i=["d"])

    assert names(merged(base, base, groups(g=["a"], h=["c", "b"], i=["d"]))[0])["h"] == ["c", "b"]
    assert names(merged(base, groups(g=["a"], h=["c", "b"], i=["d"]), base)[0])["h"] == ["c", "b"]
    assert merged(base, groups(g=["a"], h=["c", "b"], i=["d"]), groups(g=["a"], h=["c"], i=["d", "b"]))[1] == [
        Conflict("endpoint b", "group", "g", "h", "i")
    ]


def test_a_new_order_is_taken_from_the_side_that_made_it():
    abc, cab = groups(g=["a", "b", "c"]), groups(g=["c", "a", "b"])

    assert names(merged(abc, abc, cab)[0]) == names(merged(abc, cab, abc)[0]) == {"g": ["c", "a", "b"]}


def test_two_new_orders_are_a_conflict():
    sides = groups(g=["a", "b", "c"]), groups(g=["c", "a", "b"]), groups(g=["b", "a", "c"])

    assert merged(*sides)[1] == [Conflict("endpoints of g", "order", ["a", "b", "c"], ["c", "a", "b"], ["b", "a", "c"])]
    assert names(merged(*sides, winner="file")[0]) == {"g": ["b", "a", "c"]}


def test_newcomers_follow_whom_they_follow():
    outcome, _ = merged(groups(g=["a", "b"]), groups(g=["a", "mine", "b"]), groups(g=["b", "new", "a"]))

    assert names(outcome) == {"g": ["b", "new", "a", "mine"]}


def test_the_order_of_groups_is_merged():
    assert list(names(merged(groups(g=["a"], h=["b"]), groups(g=["a"], h=["b"]), groups(h=["b"], g=["a"]))[0])) == [
        "h",
        "g",
    ]


def test_without_a_base_the_file_wins_for_what_it_names():
    outcome, conflicts = merged(None, one(weight=5, rpm=7), one(**W3))
    endpoint = outcome.model_groups[0].models[0]

    assert (endpoint.weight, endpoint.rpm, conflicts) == (3, 7, [])


def test_without_a_base_prune_makes_it_what_the_file_says():
    file = one({"cache": False}, **W3)
    database = groups(g=["e", "x"], h=["y"]) | {"general_settings": {"num_retries": 9}}

    assert merged(None, database, file, prune=True)[0] == parsed(file)


def test_the_same_endpoint_made_on_both_sides_is_compared_value_by_value():
    outcome, conflicts = merged(groups(g=["a"]), groups(g=["a", "b"]), groups(g=["a", "b"]))
    assert (names(outcome), conflicts) == ({"g": ["a", "b"]}, [])

    file = groups(g=["a", "b"])
    file["model_groups"][0]["models"][1]["model"] = "other"
    assert merged(groups(g=["a"]), groups(g=["a", "b"]), file)[1] == [
        Conflict("endpoint b", "model", None, "m", "other")
    ]


@unhurried
@given(configurations())
def test_taking_apart_and_putting_together_changes_nothing(configuration):
    assert parsed(whole(parts_of(configuration.plain()))) == configuration
    said_of_it = named_in(configuration, configuration)
    assert parsed(whole(said_of_it)) == configuration
    assert from_json(as_json(said_of_it)) == said_of_it
    assert list(from_json(as_json(said_of_it))) == list(said_of_it)


@unhurried
@given(st.none() | configurations(), configurations(), st.booleans())
def test_a_file_that_says_what_the_database_holds_changes_nothing(base, database, prune):
    plain = database.plain(without_defaults=True)
    base = None if base is None else base.plain(without_defaults=True)

    assert merged(base, plain, plain, prune=prune) == (database, [])


@unhurried
@given(configurations(), configurations(), st.booleans())
def test_the_same_file_again_changes_nothing_whatever_the_database_holds(file, database, prune):
    plain = file.plain(without_defaults=True)

    assert merged(plain, database.plain(without_defaults=True), plain, prune=prune) == (database, [])


@unhurried
@given(configurations(), configurations())
def test_a_file_is_taken_whole_where_nobody_touched_the_database(before, file):
    plain, after = before.plain(without_defaults=True), file.plain(without_defaults=True)
    after.setdefault("general_settings", {"cache": file.general_settings.cache})

    assert merged(plain, plain, after, prune=True) == (file, [])


@unhurried
@given(configurations(), configurations(), configurations(), st.booleans())
def test_every_merge_with_a_winner_is_a_configuration(base, database, file, prune):
    sides = [side.plain(without_defaults=True) for side in (base, database, file)]
    for winner in ("database", "file"):
        outcome, _ = merged(*sides, prune=prune, winner=winner)
        assert {name for models in names(outcome).values() for name in models} <= {
            name for side in (database, file) for models in names(side).values() for name in models
        }


@unhurried
@given(configurations(), configurations(), configurations(), st.booleans(), st.sampled_from(["database", "file"]))
def test_the_same_choice_for_each_is_one_winner_for_all(base, database, file, prune, winner):
    sides = [side.plain(without_defaults=True) for side in (base, database, file)]

    assert settled(*sides, lambda conflict: winner, prune=prune)[0] == merged(*sides, prune=prune, winner=winner)[0]


@unhurried
@given(configurations(), configurations(), configurations(), st.booleans(), st.integers(0, 15))
def test_whatever_is_chosen_the_result_is_a_configuration(base, database, file, prune, digit):
    sides = [side.plain(without_defaults=True) for side in (base, database, file)]
    outcome, _ = settled(*sides, lambda one: "file" if int(one.id[0], 16) > digit else "database", prune=prune)

    assert {name for models in names(outcome).values() for name in models} <= {
        name for side in (database, file) for models in names(side).values() for name in models
    }
