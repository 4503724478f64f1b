"""A run that trains a tiny model on built-in diagrams in seconds, for the tests of both engines."""

BASE = """
engine: local
data: {max_prompt_length: 128, max_response_length: 10, rollout_batch_size: 4, min_pixels: null, max_pixels: null}
worker:
  actor:
    global_batch_size: 2
    micro_batch_size_per_device_for_update: 8
    micro_batch_size_per_device_for_experience: 16
    model: {enable_gradient_checkpointing: false}
    optim: {lr: 1.0e-3}
    fsdp: {torch_dtype: fp32, mp_param_dtype: fp32}
  rollout: {n: 4}
trainer: {max_steps: 4, val_freq: 2, save_freq: 2, val_generations_to_log: 2, logger: [file]}
"""

# No tiny random model answers right: these rewards give groups variance, and are the same on every run.
REWARD = """
def compute_score(reward_inputs):
    scores = []
    for given in reward_inputs:
        right = float(sum(map(ord, given["response"])) % 3 == 0)
        scores.append({"overall": right, "accuracy": right})
    return scores
"""
