"""The configuration: order of precedence, refusals, and what is saved."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from core.config import (
    Config,
    YamlDumper,
    build_config,
    option_keys,
    resolve_config,
)
from core.errors import ConfigError
from core.tables.sales import source_fingerprint


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
