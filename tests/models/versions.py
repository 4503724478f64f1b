"""Models saved under one version of transformers and read under another: test_versions.py runs this in both.

python versions.py THEIRS OURS     logits of models in THEIRS against those kept there; then models into OURS
"""

import json
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from tiny_families import FAMILIES, qwen2

from gmpo_vl.engines.easyr1.export import TrainedAnswers, export
from gmpo_vl.engines.local.checkpoint import save_model
from gmpo_vl.models.compat import TRANSFORMERS_5
from gmpo_vl.models.families.qwen import make_patches
from gmpo_vl.models.forward import ForwardOptions, response_log_probs
from gmpo_vl.models.loading import banned_ids, copy_without_weights, load_model
from gmpo_vl.models.moe import MoeSettings, build_moe
from gmpo_vl.models.packing import pack
from gmpo_vl.models.processing import encode_prompt, load_processor
from gmpo_vl.models.shared import first_way
from gmpo_vl.models.tiny import IMAGE_PROCESSOR, SIZES, random_model, save_folder, tiny_tokenizer
from gmpo_vl.models.tiny import tiny_qwen2_5_vl_config as qwen2_5_vl
from gmpo_vl.tasks.diagrams.data import make_examples
from gmpo_vl.types import Example

SIZE = SIZES["test"]
ALL_FAMILIES = {
    "qwen2": ("Qwen2ForCausalLM", qwen2),
    "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration", lambda tokenizer: qwen2_5_vl(SIZE, tokenizer)),
    **{
        family: made for family, made in FAMILIES.items() if not family.startswith("qwen3_5")
    },  # only 5.x has it
}
SCALED = ("qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3_vl")
FLAT = ("qwen2_vl", "qwen2_5_vl")  # whose published config.json has the decoder's values beside the others
EXPORTED = ("qwen2-theta", "qwen2_5_vl-theta", "qwen3_moe-theta", "qwen3_vl_moe-theta")
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
MROPE = {"rope_type": "default", "mrope_section": [2, 6, 8]}


def cases():
    """(name, family, the decoder's values, whether the file is flat)."""
    for family in ALL_FAMILIES:
        extra = {"mrope_interleaved": True} if family.startswith("qwen3_vl") else {}
        sections = {**MROPE, **extra} if "vl" in family else {}
        yield f"{family}-theta", family, {"rope_theta": 5e5, "rope_scaling": sections or None}, False
        if family not in SCALED:
            continue
        yarn = {"rope_theta": 1e6, "rope_scaling": {**sections, **YARN}, "tie_word_embeddings": True}
        yield f"{family}-yarn-tied", family, yarn, False
        if family in FLAT:  # with YaRN as the model's card says
            scaling = {"type": "yarn", "mrope_section": MROPE["mrope_section"], "factor": 2.0}
            yield f"{family}-flat", family, {**yarn, "rope_scaling": scaling}, True


def make(folder, family, decoder, flat):
    """A random model whose decoder has these values, as a Hugging Face folder in the published form."""
    architecture, config_of = ALL_FAMILIES[family]
    tokenizer = tiny_tokenizer()
    config = {**config_of(tokenizer), "architectures": [architecture]}
    config.get("text_config", config).update(decoder)
    if decoder.get("tie_word_embeddings"):
        config["tie_word_embeddings"] = True
    if flat:
        config = {**config.pop("text_config"), **config}
    model = random_model(config, SIZE.initializer_range, seed=1)
    qwen3 = {**IMAGE_PROCESSOR, "patch_size": 16, "processor_class": "Qwen3VLProcessor"}
    return save_folder(folder, model, config, tokenizer, qwen3 if "qwen3_vl" in family else None)


def prompt_for(processor):
    picture = make_examples("train", 1, seed=0)[0].images[:1] if processor.image else ()
    # An accent of its own: NFC or not?
    text = "How far is it from the cafe\u0301 to the last point, and why? " * 3
    return encode_prompt(Example("a", "<image>" * len(picture) + text, "1", picture), processor)


def logits_of(model, processor):
    """Of transformers' own forward (L, V), float32."""
    prompt = prompt_for(processor)
    inputs = {"input_ids": prompt.ids_P[None], "attention_mask": torch.ones_like(prompt.ids_P[None])}
    if prompt.images:
        inputs["pixel_values"] = torch.cat([make_patches(x, processor.image) for x in prompt.images])
        inputs["image_grid_thw"] = prompt.image_grid_thw
        if TRANSFORMERS_5:
            inputs["mm_token_type_ids"] = (prompt.ids_P[None] == model.config.image_token_id).int()
    with torch.no_grad():
        return model.eval()(**inputs).logits[0]


def sharded(folder, model, processor):
    """A checkpoint as engine easyr1 leaves it, of one rank."""
    actor = folder / "actor"
    (actor / "huggingface").mkdir(parents=True)
    copy_without_weights(processor.folder, actor / "huggingface")
    torch.save(dict(model.named_parameters()), actor / "model_world_size_1_rank_0.pt")
    prompt, ids_T = prompt_for(processor), torch.arange(20, 30)
    packed = pack([(prompt, ids_T)], processor.family, torch.device("cpu"))
    with torch.no_grad():
        options = ForwardOptions(first_way(model.config, "never"))
        log_probs_BT, _ = response_log_probs(model, packed, 1.0, banned_ids(model.config), options=options)
    kept = (prompt.ids_P, list(prompt.images), prompt.image_grid_thw, prompt.position_ids_3P)
    (folder / "trainer").mkdir()
    TrainedAnswers([kept], [[ids_T]], [[log_probs_BT[0]]], 1.0, "fp32").save(folder / "trainer" / "parity.pt")
    return folder


def write(folder):
    """Every family, saved in every way that the project saves models, with the logits that it had before."""

    def keep(name, model, processor):
        torch.save(logits_of(model, processor), folder / name / "logits.pt")

    for name, family, decoder, flat in cases():
        source = make(folder / "sources" / name, family, decoder, flat)
        model, processor = load_model(source), load_processor(source)
        save_model(model, processor, folder / f"{name}.local")
        keep(f"{name}.local", model, processor)
        if name in EXPORTED:
            export(sharded(folder / "checkpoints" / name, model, processor), folder / f"{name}.export")
            keep(f"{name}.export", model, processor)
    base = folder / "qwen2_5_vl-theta.local"
    model, processor = load_model(base), load_processor(base)
    adapter = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    save_model(adapter, processor, folder / "adapter.local")
    keep("adapter.local", adapter, processor)
    mixture = build_moe(
        folder / "qwen2-theta.local", folder / "mixture.built", MoeSettings(experts=4, active=2)
    )
    keep("mixture.built", load_model(mixture), load_processor(mixture))


def gaps(folder):
    """Largest difference of each model's logits from those that it was saved with; or how it failed to
    load."""
    found = {}
    for path in sorted(folder.glob("*/logits.pt")):
        try:
            logits_LV = logits_of(load_model(path.parent), load_processor(path.parent))
            found[path.parent.name] = float((logits_LV - torch.load(path)).abs().max())
        except Exception as error:
            found[path.parent.name] = f"{type(error).__name__}: {error}"
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    theirs, ours = (Path(argument) for argument in sys.argv[1:])
    (theirs / "gaps.json").write_text(json.dumps(gaps(theirs)))
    write(ours)
