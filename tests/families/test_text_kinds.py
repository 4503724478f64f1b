"""Text models of transformers, as many kinds as build tiny: the parity check lets a kind share its prompts
where that is right, and says why not where it is not. It is never wrong, and never ends in a traceback."""

import inspect
import warnings
from pathlib import Path

import pytest
import torch
from tiny_runs import BASE, settings_of_run
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from gmpo_vl.config import load_config
from gmpo_vl.engines.parity import check_parity
from gmpo_vl.engines.policy import Policy
from gmpo_vl.models.compat import TRANSFORMERS_5
from gmpo_vl.models.families.text import TextFamily
from gmpo_vl.models.forward import ForwardOptions, answer_packed, response_log_probs
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import Processor
from gmpo_vl.models.shared import sharing_obstacle, use_group_attention
from gmpo_vl.types import Example, Group, Prompt, Response

VOCABULARY, WINDOW = 64, 12
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "use_mamba_kernels": False,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
} | dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4)
HALF = {"layer_types": ["sliding_attention", "full_attention"]}
LONG = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
LONG |= {"original_max_position_embeddings": 16}
LONG_4 = {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}

NO_DROPOUT = dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0)

# Kind: values of its configuration, and a word of why it does not share; None where it does.
COMMON = {
    "llama": ({}, None),
    "mistral": ({"sliding_window": WINDOW}, None),
    "phi3": ({"sliding_window": WINDOW}, None),
    "gemma2": (HALF, "SDPA"),  # caps its scores
    "gemma3_text": (HALF | {"sliding_window": WINDOW}, None),
    "cohere2": (HALF | {"sliding_window": WINDOW, "logit_scale": 0.3}, None),
    "granite": ({"logits_scaling": 8.0}, None),
    "gpt_oss": (HALF, "SDPA"),  # learnt sinks
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 4, **NO_DROPOUT}, None),
    "bloom": ({"n_layer": 2, "n_head": 4}, "SDPA"),  # ALiBi
    "falcon": ({}, "does not tell its attention"),
    "mamba": ({"state_size": 8}, "SDPA"),
    "minimax": ({}, "a response see another prompt or response"),  # lightning attention's states
    "llama4_text": ({"intermediate_size_mlp": 48}, "chunked_attention"),
    "seed_oss": ({}, "attention_dropout"),
}
SHARE = """
afmoe apertus arcee aria_text beam bitnet cohere cohere2_moe cwm diffllama dots1 ernie4_5 ernie4_5_moe exaone4
exaone_moe flex_olmo gemma gemma4_unified_text glm glm4 glm4_moe gpt_neox granitemoe
granitemoeshared helium hrm_text hunyuan_v1_dense hunyuan_v1_moe hy_v3 hyperclovax internlm3 iquestcoder jais2
jetmoe kolibri1 laguna mellum minimax_m2 minimax_m3_vl_text ministral ministral3 mixtral
modernbert-decoder moshi
nanochat olmo olmo2 olmo3 olmoe persimmon phi smollm3 solar_open starcoder2
""".split()
REFUSED = {
    "doge": "would not learn",
    "inkling_text": "position_bias",
    "jamba": "does not tell its attention",
    "lfm3": "does not tell its attention",
    "mpt": "SDPA",
    "gpt_bigcode": "dropout",
    "phimoe": "differ",  # its routers are jittered while it trains
    "nemotron": "does not tell its attention",
    "opt": "unpack",
    "recurrent_gemma": "does not tell its attention",
    "stablelm": "does not tell its attention",
    "vaultgemma": "SDPA",
    "xglm": "attention_dropout",
}
KINDS = [
    *COMMON.items(),
    ("gpt2 drops", ({"n_embd": 32, "n_layer": 2, "n_head": 4}, "dropout")),
    ("phi3 long", ({"rope_parameters": LONG} if TRANSFORMERS_5 else {"rope_scaling": LONG_4}, "longrope")),
    *(pytest.param(k, ({}, None), marks=pytest.mark.families) for k in SHARE),
    *(pytest.param(k, ({}, why), marks=pytest.mark.families) for k, why in REFUSED.items()),
]


def tiny(kind, values):
    made = CONFIG_MAPPING[kind]
    names = {name for of in made.__mro__ for name in getattr(of, "__annotations__", {})}
    names |= set(inspect.signature(made.__init__).parameters) | set(made.attribute_map)
    config = made(
        **{k: v for k, v in SMALL.items() if k in names} | {k: v for k, v in values.items() if k in names}
    )
    if getattr(config, "sliding_window", None):
        config.sliding_window = WINDOW
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.1)
    return model.eval()


def groups_of(lengths_by_prompt, seed):
    draw, groups = torch.Generator().manual_seed(seed), []
    for length, responses in lengths_by_prompt:
        ids_P = torch.randint(1, VOCABULARY, (length,), generator=draw)
        name = f"{length} tokens"
        prompt = Prompt(
            Example(name, name, ""),
            name,
            ids_P,
            (),
            torch.zeros((0, 3), dtype=torch.int64),
            torch.arange(length).expand(3, -1),
        )
        drawn = [torch.randint(1, VOCABULARY, (n,), generator=draw) for n in responses]
        groups.append(Group(name, prompt, [Response(x, torch.zeros(len(x)), "", True, 0) for x in drawn]))
    return groups


def log_probs(model, groups, way):
    rows = [(group.prompt, response.ids_T) for group in groups for response in group.responses]
    packed = pack(rows, TextFamily(), torch.device("cpu"))
    with torch.no_grad():
        return response_log_probs(model, packed, 1.0, (), options=ForwardOptions(way))[0]


@pytest.fixture
def config(tmp_path, diagrams, tiny_folder):
    (tmp_path / "run.yaml").write_text(BASE)
    return load_config(tmp_path / "run.yaml", settings_of_run(tmp_path, diagrams, tiny_folder))


@pytest.mark.parametrize(("kind", "case"), KINDS)
def test_the_check_is_right_about_it(kind, case, config):
    values, reason = case
    kind = kind.split()[0]
    if kind not in CONFIG_MAPPING:
        pytest.skip("this version of transformers does not know it")
    model = tiny(kind, values)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        use_group_attention(model)  # as loading does
    if (obstacle := sharing_obstacle(model.config)) is not None:
        assert any(obstacle in str(warning.message) for warning in said)
        found = obstacle
    else:
        answer_packed(model)
        processor = Processor(None, "", TextFamily(), Path())
        policy = Policy(model, processor, (), None, "shared")
        parity = check_parity(policy, groups_of([(19, [25, 9, 3]), (7, [14, 1])], seed=0), config)
        found = None if parity.holds else str(parity)
    if TRANSFORMERS_5:
        assert (found is None) == (reason is None), found
        assert reason is None or reason in found
    others = groups_of([(5, [40, 1, 2]), (33, [7, 30]), (1, [13, 13])], seed=1)
    own_BT = log_probs(model, others, "public")
    assert own_BT.isfinite().all()
    if found is None:
        torch.testing.assert_close(log_probs(model, others, "shared"), own_BT, rtol=0, atol=1e-4)
