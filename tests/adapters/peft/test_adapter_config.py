"""Every PEFT release's adapter_config.json is read, and nothing that changes the update slips through."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from peft import LoraConfig
from peft_builder import CONFIG, K0, Q0

from s3lora_serve.adapters.peft.adapter_config import AdapterConfig
from s3lora_serve.adapters.peft.config_keys import HARMLESS, REFUSED, UNDERSTOOD
from s3lora_serve.errors import FormatError, UnsupportedError


def parse(without: tuple[str, ...] = (), **changes: object) -> AdapterConfig:
    """The configuration CONFIG with ``changes``, parsed."""
    merged = {key: value for key, value in {**CONFIG, **changes}.items() if key not in without}
    return AdapterConfig.parse(json.dumps(merged).encode())


def test_every_field_of_the_installed_peft_is_in_a_table():
    """A new PEFT release that adds a key must make us decide what it means, not find out in production."""
    decided = UNDERSTOOD | HARMLESS | REFUSED.keys() | {"peft_type", "task_type", "bias", "init_lora_weights"}
    fields = {field.name for field in dataclasses.fields(LoraConfig)}
    assert fields - decided == set()


def test_the_tables_do_not_overlap():
    """Each key has one meaning."""
    assert UNDERSTOOD & HARMLESS | UNDERSTOOD & REFUSED.keys() | HARMLESS & REFUSED.keys() == set()


def test_defaults_of_the_installed_peft_are_accepted():
    """A file that PEFT writes today, with all its keys at their defaults, is a plain LoRA."""
    saved = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM").to_dict()
    saved["target_modules"] = sorted(saved["target_modules"])
    config = AdapterConfig.parse(json.dumps(saved).encode())
    assert (config.r, config.lora_alpha, config.target_modules) == (4, 8, ("q_proj",))


def test_the_keys_of_peft_0_4_are_enough():
    """Old files have neither patterns nor rsLoRA; their absence means none."""
    old = {
        "base_model_name_or_path": "x",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": 8,
        "revision": None,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    config = AdapterConfig.parse(json.dumps(old).encode())
    assert config.resolve([Q0]) == {Q0: (8, 16)}
    assert config.scaling(8, 16) == 2.0
    assert not config.use_rslora


def test_unknown_empty_keys_are_ignored():
    """A newer PEFT's new feature, switched off, is no reason to refuse."""
    assert parse(future_feature=None, other_feature=[], third_feature=False) == parse()


@pytest.mark.parametrize("key", sorted(HARMLESS))
def test_harmless_keys_may_be_set(key: str):
    """Bookkeeping and training-time settings leave the update alone, whatever they say."""
    assert parse(**{key: {"anything": 1}}) == parse()


@pytest.mark.parametrize("init", [True, False, None, "gaussian", "eva", "orthogonal", "mica", "EVA"])
def test_plain_inits_are_accepted(init: object):
    """These only choose starting values of the factors."""
    assert parse(init_lora_weights=init) == parse()


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga", "someday"])
def test_inits_that_alter_the_base_model_are_refused(init: str):
    """Their update is relative to other base weights than those served; PEFT can convert some of them."""
    with pytest.raises(
        UnsupportedError, match=f"init_lora_weights is '{init}': .*altered base weights"
    ) as caught:
        parse(init_lora_weights=init)
    converts = "path_initial_model_for_weight_conversion" in caught.value.hint
    assert converts == (init not in ("loftq", "someday"))
    assert ("the base model that LoftQ quantised" in caught.value.hint) == (init == "loftq")


@pytest.mark.parametrize("task", ["SEQ_2_SEQ_LM", "SEQ_CLS", "FEATURE_EXTRACTION", "x" * 5000, {"a": 1}])
def test_a_label_that_nothing_reads_is_a_note(task: object):
    """What an adapter is for shows by its modules; what is published says CAUSAL_LM."""
    config = parse(task_type=task)
    (note,) = config.notes
    assert note.startswith("task_type is ")
    assert len(note) < 200
    assert config.canonical()["task_type"] == "CAUSAL_LM"
    assert parse().notes == ()


def test_a_configuration_of_mlx_is_told_from_a_broken_one():
    """It has no peft_type, as PEFT's own must."""
    raw = json.dumps({"fine_tune_type": "lora", "lora_parameters": {"rank": 8, "scale": 20.0}}).encode()
    with pytest.raises(UnsupportedError, match="is MLX's, not PEFT's") as caught:
        AdapterConfig.parse(raw)
    assert "convert" in caught.value.hint
    assert "s3lora convert" in caught.value.command


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("use_dora", True, "DoRA rescales the base weights"),
        ("lora_bias", True, "LoRA biases are not served"),
        ("modules_to_save", ["lm_head"], "whole modules"),
        ("trainable_token_indices", [0, 1], "token embeddings"),
        ("layer_replication", [[0, 4], [2, 5]], "changes the base model's layers"),
        ("target_parameters", ["mlp.experts.gate_up_proj"], "bare parameters"),
        ("alora_invocation_tokens", [1, 2], "some tokens only"),
        ("use_qalora", True, "QALoRA pools its inputs"),
        ("use_bdlora", {"nblocks": 2}, "block-diagonal"),
        ("arrow_config", {"top_k": 3}, "routes between adapters"),
        ("kasa_config", {"beta": 1e-4}, "KaSA truncates"),
        ("monteclora_config", {"num_samples": 2}, "samples the update"),
        ("megatron_config", {"x": 1}, "shard the factors"),
        ("ensure_weight_tying", True, "embeddings"),
        ("enable_lora", [True, False, True], "before 0.4"),
    ],
)
def test_features_that_change_the_update_are_refused(key: str, value: object, why: str):
    """vLLM ignores most of these; the served model would not be the trained one."""
    with pytest.raises(UnsupportedError, match=rf"^{key} is .*{why}"):
        parse(**{key: value})


def test_each_refused_key_has_a_case_above():
    """The table and its tests grow together."""
    (mark,) = test_features_that_change_the_update_are_refused.pytestmark
    assert {case[0] for case in mark.args[1]} == REFUSED.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA is served"),
        ({"bias": "all"}, "bias is 'all': trained biases are not served"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"warp_drive": {"on": 1}}, "'warp_drive' is {'on': 1}: an unknown setting"),
    ],
)
def test_what_is_not_a_plain_causal_lora_is_refused(change: dict[str, object], message: str):
    """The message names the key and its value."""
    with pytest.raises(UnsupportedError) as caught:
        parse(**change)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1]", "holds list, not an object"),
        (b'{"r": 4, "r": 8}', "key 'r' appears twice"),
        (b'{"r": NaN}', "NaN is not a JSON number"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"r": 4}', "has no peft_type"),
    ],
)
def test_unreadable_files_are_refused(raw: bytes, message: str):
    """Whatever the bytes, the answer is a FormatError that names the file."""
    with pytest.raises(FormatError, match=message) as caught:
        AdapterConfig.parse(raw)
    assert caught.value.message.startswith("adapter_config.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 0}, "r: Input should be greater than 0, got 0"),
        ({"r": 8.0}, "r: Input should be a valid integer, got 8.0"),
        ({"r": True}, "r: Input should be a valid integer, got True"),
        ({"lora_alpha": "16"}, "lora_alpha: Input should be a valid number, got '16'"),
        ({"use_rslora": "false"}, "use_rslora: Input should be a valid boolean, got 'false'"),
        ({"rank_pattern": {"q_proj": -1}}, "rank_pattern.q_proj: Input should be greater than 0, got -1"),
        ({"alpha_pattern": [1]}, "alpha_pattern: Input should be a valid dictionary, got [1]"),
    ],
)
def test_wrong_values_are_named(change: dict[str, object], message: str):
    """The key, what it should be, and what it is."""
    with pytest.raises(FormatError) as caught:
        parse(**change)
    assert caught.value.message == f"adapter_config.json: {message}"


@pytest.mark.parametrize("key", ["r", "lora_alpha"])
def test_rank_and_alpha_are_never_guessed(key: str):
    """PEFT would assume 8; a served update must not rest on an assumption."""
    with pytest.raises(FormatError, match=f"adapter_config.json: {key}: Field required"):
        parse(without=(key,))


def test_rslora_divides_by_the_square_root():
    """alpha/sqrt(r), and alpha/r without it."""
    assert parse(use_rslora=True).scaling(16, 8) == 8 / math.sqrt(16)
    assert parse().scaling(16, 8) == 0.5


def test_narrowing_resolves_patterns_into_literal_names():
    """The commonest pair becomes the default; the others are named one by one."""
    config = parse(r=4, lora_alpha=8, rank_pattern={r"layers\.0\..*q_proj": 2}, alpha_pattern={"k_proj": 1.5})
    other = "model.layers.1.mlp.up_proj"
    narrowed = config.narrowed([Q0, K0, other])
    assert narrowed.resolve([Q0, K0, other]) == {Q0: (2, 8), K0: (4, 1.5), other: (4, 8)}
    assert narrowed.rank_pattern == {Q0: 2}
    assert narrowed.alpha_pattern == {K0: 1.5}
    assert narrowed.target_modules == (K0, Q0, other)


def test_narrowing_leaves_no_patterns_where_nothing_differs():
    """An engine that reads no patterns then serves the adapter right."""
    config = parse(r=64, lora_alpha=1, rank_pattern={"q_proj": 4}, alpha_pattern={"q_proj": 8})
    found = config.narrowed([Q0])
    assert (found.r, found.lora_alpha, found.rank_pattern, found.alpha_pattern) == (4, 8, {}, {})


def test_narrowing_refuses_names_that_read_as_patterns_of_each_other():
    """A literal name is a pattern to PEFT: '.' matches any character, and a suffix is enough."""
    config = parse(rank_pattern={"^a.q_proj": 2}, alpha_pattern={})
    with pytest.raises(FormatError, match="cannot be told from another module"):
        config.narrowed(["a.q_proj", "b.a.q_proj", "c.q_proj"])


def test_overlapping_alphas_are_refused():
    """PEFT sorts the keys when it saves, so which was meant is lost, and a wrong scaling shows nowhere."""
    config = parse(alpha_pattern={"layers.0.*": 2, "q_proj": 3})
    assert config.resolve([K0]) == {K0: (4, 2)}
    with pytest.raises(FormatError) as caught:
        config.resolve([Q0])
    assert caught.value.message == f"{Q0}: alpha_pattern gives it 2 ('layers.0.*') and 3 ('q_proj')"
    assert parse(alpha_pattern={"layers.0.*": 3, "q_proj": 3}).resolve([Q0]) == {Q0: (4, 3)}


def test_canonical_keys_are_fixed():
    """Only what PEFT and vLLM read, one spelling each, whatever else the source said."""
    canonical = parse(lora_dropout=0.3, lora_alpha=8.0, eva_config={"rho": 2}).narrowed([Q0]).canonical()
    assert canonical == {
        "alpha_pattern": {},
        "base_model_name_or_path": "org/tiny-llama",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": 4,
        "rank_pattern": {},
        "target_modules": [Q0],
        "task_type": "CAUSAL_LM",
        "use_rslora": False,
    }
    assert isinstance(canonical["lora_alpha"], int)
