"""The configuration: order of precedence, refusals, and what is saved."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from core.config import Config
from core.errors import ConfigError, SourceError
from core.resolve import build_config, option_keys, resolve_config
from core.tables.files import find_files
from core.tables.sales import source_fingerprint
from core.yaml_text import YamlDumper, read_yaml


def test_flags_override_assignments_environment_and_file(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("seed: 1\nclustering: {min_samples: 11}\n", encoding="utf-8")
    environ = {"SEGMENTS_SEED": "2", "SEGMENTS_CLUSTERING__MIN_CLUSTER_SIZE": "22"}
    config = resolve_config(file, {"seed": 4}, ["seed=3"], environ)
    assert config.seed == 4
    assert config.clustering.min_samples == 11
    assert config.clustering.min_cluster_size == 22
    assert resolve_config(file, {}, ["seed=3"], environ).seed == 3
    assert resolve_config(file, {"seed": None}, [], environ).seed == 2
    assert resolve_config(file, environ={}).seed == 1


@pytest.mark.parametrize(
    ("assignment", "hint"),
    [
        (
            "clustering.min_cluster_sise=3",
            "Did you mean `clustering.min_cluster_size`?",
        ),
        ("min_samples=3", "Did you mean `clustering.min_samples`?"),
        ("clustring.min_samples=3", "Did you mean `clustering.min_samples`?"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_known_one(assignment, hint):
    with pytest.raises(ConfigError) as refused:
        resolve_config(assignments=[assignment], environ={})
    assert hint in str(refused.value)
    with pytest.raises(ConfigError, match="unknown key"):
        resolve_config(environ={f"SEGMENTS_{assignment.split('=')[0].upper()}": "3"})


def test_a_source_of_files_without_a_file_is_refused():
    config = resolve_config(flags={"data.source": "input"}, environ={})
    with pytest.raises(ConfigError, match="Pass `--input PATH`"):
        source_fingerprint(config)


def test_unknown_key_in_a_file_is_refused_with_the_nearest_known_one(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("clustering:\n  min_cluster_sise: 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"Did you mean .*min_cluster_size"):
        resolve_config(file, environ={})
    file.write_text("clustring: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="Did you mean `clustering`"):
        resolve_config(file, environ={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "holds a list"),
        ("a: b: c", "is not YAML"),
        ("clustering: 5", "`clustering` is 5"),
        ("seed: many", "`seed` is 'many'"),
        ("clustering: {min_cluster_size: 1}", "greater than or equal to 2"),
        ("features: {as_of: 2024-13}", "`features.as_of`"),
        ("data: {policies: {missing_id: keep}}", "choose `drop` or `error`"),
        ("features: {name: behavior}", "Did you mean `behaviour`?"),
        (
            "clustering: {fit_shops: 100, min_cluster_size: 101}",
            "one cluster takes 101",
        ),
    ],
)
def test_unusable_file_is_refused_in_one_sentence(tmp_path, text, message):
    file = tmp_path / "own.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        resolve_config(file, environ={})
    assert message in str(refused.value)


def test_a_value_that_is_gone_is_refused_with_what_to_choose_instead():
    with pytest.raises(ConfigError, match=r"was removed; choose `always`"):
        resolve_config(assignments=["refresh.retrain=noise"], environ={})


def test_missing_file_and_malformed_assignment_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        resolve_config(tmp_path / "none.yaml", environ={})
    with pytest.raises(ConfigError, match="expected `key=value`"):
        resolve_config(assignments=["seed"], environ={})


def test_saved_configuration_resolves_to_itself(tmp_path):
    config = resolve_config(
        assignments=["data.columns.shop_id=Kundennr ä", "features.as_of=2024-12"],
        environ={},
    )
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    assert resolve_config(file, environ={}) == config
    assert build_config(yaml.safe_load(Config().to_yaml())) == Config()


def test_every_option_is_described():
    def undescribed(section, prefix=""):
        for name, info in section.model_fields.items():
            inner = info.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                yield from undescribed(inner, f"{prefix}{name}.")
            elif not info.description:
                yield f"{prefix}{name}"

    assert list(undescribed(Config)) == []
    assert "clustering.min_samples" in option_keys()


def test_a_named_input_is_the_source(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("data: {input: sales.csv}", encoding="utf-8")
    assert resolve_config(file, environ={}).data.source == "input"
    sample = resolve_config(file, {"data.source": "sample"}, ["data.input=null"], {})
    assert sample.data.source == "sample"


@given(st.text(), st.text())
@example("next\x85line", "line\u2028paragraph\u2029")
@example("\ufeffmark", "tab\tline\n \x1b\x00\u00a0")
def test_yaml_keeps_every_text(text, inner):
    values = {"a": text, inner: [inner, {"c": text + inner}]}
    for options in ({}, {"default_flow_style": True}):
        said = yaml.dump(values, Dumper=YamlDumper, allow_unicode=True, **options)
        assert yaml.safe_load(said) == values


@pytest.mark.parametrize(
    "value", ["2024-01-31", "2024-01-31T18:00", "2024-01-31 18:00"]
)
def test_a_date_is_the_text_that_it_is_written_as(tmp_path, value):
    assert resolve_config(assignments=[f"axes.reference_date={value}"], environ={})
    file = tmp_path / "own.yaml"
    file.write_text(f"axes: {{reference_date: {value}}}\n", encoding="utf-8")
    config = resolve_config(file, environ={})
    assert config.axes.reference_date == value
    file.write_text(config.to_yaml(), encoding="utf-8")
    assert resolve_config(file, environ={}) == config


def test_an_empty_section_changes_nothing(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("data:\naxes:\nseed: 3\n", encoding="utf-8")
    assert resolve_config(file, environ={}) == Config(seed=3)
    base = build_config({"data": {"decimal": ","}})
    assert resolve_config(file, environ={}, base=base).data.decimal == ","


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: " + "9" * 5000, "is not YAML"),
        ("a: " + "[" * 1000, "nested too deeply"),
        ("axes: {reference_date: !!timestamp 2024-13-45}", "month must be in 1..12"),
        ("data: {encoding: rot13}", "`data.encoding` is 'rot13': no encoding of text"),
        ("data: {encoding: hex}", "no encoding of text"),
        ("data: {encoding: ''}", "no encoding of text"),
        ("data: {separator: é}", "expected one ASCII character"),
        ('data: {input: "a\\0b"}', "no name or path can have"),
        ("data: 3", "`data` is 3: expected a section of options"),
        ("a:\t- b", "line 1, column 3"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_short_line(tmp_path, text, said):
    file = tmp_path / "own.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        resolve_config(file, environ={})
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 300


def test_an_impossible_value_of_a_flag_is_refused_in_one_short_line():
    for value in ("9" * 5000, "[" * 1000, "2024-13-45"):
        with pytest.raises(ConfigError) as refused:
            resolve_config(assignments=[f"seed={value}"], environ={})
        assert len(str(refused.value)) < 200
    with pytest.raises(ConfigError, match="thousands of digits"):
        resolve_config(flags={"seed": 10**5000}, environ={})
    with pytest.raises(ConfigError, match="expected a section"):
        resolve_config(assignments=["data.columns=3", "data.columns.shop_id=a"])
    mapped = resolve_config(assignments=["data.columns=null", "data.columns.shop_id=a"])
    assert mapped.data.columns == {"shop_id": "a"}


@pytest.mark.parametrize("text", ["2024", "007", "-", "1:30", "no", "1e3"])
def test_a_number_given_for_a_text_is_the_text(text):
    given = [f"axes.names={text}", f"data.columns.sales_qty={text}"]
    config = resolve_config(assignments=given, environ={"SEGMENTS_AXES__STORE": text})
    assert config.axes.names == config.axes.store == text
    assert config.data.columns == {"sales_qty": text}
    assert (
        resolve_config(assignments=["axes.names=null"], environ={}).axes.names is None
    )


def test_a_home_of_nobody_is_no_traceback(tmp_path):
    with pytest.raises(SourceError, match="no user"):
        find_files("~nosuchuser/sales.csv", tmp_path)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.dates(),
    st.sampled_from(
        ["tab", "utf-16", "rot13", "~nosuch", "2024-13-45", "é", "9" * 5000]
    ),
)
KEYS = st.sampled_from([key for name in option_keys() for key in name.split(".")])
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def refused_or_saved(**given) -> None:
    """Either one finding per line, or a configuration that is saved and read again."""
    try:
        config = resolve_config(environ=given.pop("environ", {}), **given)
    except ConfigError as error:
        lengths = [len(line) for line in str(error).splitlines()]
        # Whether it is refused is not asked here, only how.
        assert lengths
        assert max(lengths) < 400
    else:
        again = build_config(read_yaml(config.to_yaml()))
        assert again.model_dump_json() == config.model_dump_json()


@given(st.dictionaries(KEYS, TREES, max_size=4) | TREES, st.text())
def test_no_tree_of_options_ends_in_a_traceback(tree, text):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "own.yaml"
        with suppress(ValueError):  # numbers that YAML cannot be written with
            file.write_text(yaml.dump(tree), encoding="utf-8")
            refused_or_saved(file=file)
        file.write_bytes(text.encode("utf-16" if text > "m" else "utf-8"))
        refused_or_saved(file=file)
    if isinstance(tree, dict):
        refused_or_saved(flags={f"data.{key}": value for key, value in tree.items()})


@given(st.sampled_from(option_keys()), st.text() | SCALARS.map(str), st.text())
def test_no_assignment_ends_in_a_traceback(key, value, junk):
    for text in (f"{key}={value}", f"{key}.{junk}={value}", f"{junk}={value}", junk):
        refused_or_saved(assignments=[text])
    name = f"SEGMENTS_{key.upper().replace('.', '__')}"
    refused_or_saved(environ={name: value})
