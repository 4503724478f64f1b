"""transformers as verl's asynchronous rollout server, on a CPU: rollout.name=hf_cpu.

Imported by VERL_USE_EXTERNAL_MODULES in every process, after verl_on_cpu.
"""

import asyncio
import os

import picture_processor
import ray
import torch
import torch.distributed as dist
import verl.workers.engine.fsdp.transformer_impl as fsdp
import verl.workers.engine_workers as engine_workers
import verl_on_cpu
from verl.workers.rollout.base import _ROLLOUT_REGISTRY, BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry, TokenOutput

MOST_TOKENS = 16


@ray.remote(num_cpus=0)
class Server:
    """Answers one prompt at a time."""

    def __init__(self, path):
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

        torch.set_num_threads(1)
        self.path, self.steps, self.lock, self.pictures = path, 0, asyncio.Lock(), None
        self.reads_pictures = hasattr(AutoConfig.from_pretrained(path), "vision_config")
        auto = AutoModelForImageTextToText if self.reads_pictures else AutoModelForCausalLM
        self.model = auto.from_pretrained(path, attn_implementation="sdpa", dtype=torch.float32).eval()

    async def load(self, state, steps):
        tensors = {name: torch.as_tensor(value) for name, value in state.items()}
        result = self.model.load_state_dict(tensors, strict=False)
        assert not result.unexpected_keys, result.unexpected_keys
        self.steps = steps

    async def generate(self, request_id, prompt_ids, sampling_params, image_data=None, **kwargs):
        async with self.lock:
            ids, given = self._inputs(list(prompt_ids), image_data)
            most = sampling_params.get("max_new_tokens") or sampling_params.get("max_tokens") or MOST_TOKENS
            temperature = sampling_params.get("temperature", 1.0)
            greedy = {"do_sample": False}
            sampled = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else greedy
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=min(most, MOST_TOKENS),
                **sampled,
                **given,
                return_dict_in_generate=True,
                output_scores=True,
            )
        new = out.sequences[0, ids.shape[1] :]
        log_probs = [float(s[0].float().log_softmax(-1)[t]) for s, t in zip(out.scores, new)]
        return TokenOutput(
            token_ids=new.tolist(),
            log_probs=log_probs,
            stop_reason="completed",
            num_preempted=0,
            extra_fields={"global_steps": self.steps},
        )

    async def _nothing(self, *args, **kwargs):
        pass

    wake_up = sleep = abort_all_requests = resume_generation = start_profile = stop_profile = _nothing
    clear_kv_cache = release_kv_cache = resume_kv_cache = _nothing

    def _inputs(self, prompt_ids, pictures):
        """The ids with a place for each patch, and the patches."""
        config = self.model.config
        # No random answer holds a picture; some end early.
        given = {"eos_token_id": list(range(0, 390, 11)), "pad_token_id": 0}
        if not self.reads_pictures:
            return torch.tensor([prompt_ids]), given
        image = config.image_token_id
        given["bad_words_ids"] = [[t] for t in (image, config.video_token_id, config.vision_start_token_id)]
        if not pictures:
            return torch.tensor([prompt_ids]), given
        self.pictures = self.pictures or picture_processor.load(self.path).image_processor
        found = self.pictures(images=pictures, return_tensors="pt")
        sizes = (found["image_grid_thw"].prod(-1) // self.pictures.merge_size**2).tolist()
        if prompt_ids.count(image) != sum(sizes):  # one place a picture
            places = iter(sizes)
            prompt_ids = [t for i in prompt_ids for t in [i] * (next(places) if i == image else 1)]
        ids = torch.tensor([prompt_ids])
        return ids, {**given, **found, "mm_token_type_ids": (ids == image).int()}


class Replica(RolloutReplica):
    async def launch_servers(self):
        server = Server.options(name=f"hf_server_{self.replica_rank}").remote(self.model_config.path)
        self.servers, self._server_handle = [server], server
        self._server_address = f"hf:{self.replica_rank}"


class Rollout(BaseRollout):
    async def resume(self, tags):
        pass

    async def release(self):
        pass

    async def update_weights(self, weights, wire_format="named_tensors", global_steps=None, **kwargs):
        state = {}
        for name, tensor in weights:
            whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
            state[name] = whole.detach().float().cpu().numpy().copy()
        await ray.get_actor(f"hf_server_{dist.get_rank()}").load.remote(state, global_steps)


_ROLLOUT_REGISTRY[("hf_cpu", "async")] = "hf_rollout.Rollout"
RolloutReplicaRegistry.register("hf_cpu", lambda: Replica)
picture_processor.install()

_init = engine_workers.TrainingWorker.__init__


def _on_cpu(self, config):
    verl_on_cpu.register_engine()
    if not dist.is_initialized():
        dist.init_process_group(
            "gloo", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"])
        )
    _init(self, config)


engine_workers.TrainingWorker.__init__ = _on_cpu

# A reference model is offloaded to pinned memory, which needs an accelerator.
_policy = fsdp.CPUOffloadPolicy
fsdp.CPUOffloadPolicy = lambda pin_memory=True: _policy(pin_memory=False)
