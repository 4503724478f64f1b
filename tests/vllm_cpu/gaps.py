"""How far vLLM's log-probs of what it sampled are from the trainer's, and weights that move."""

import torch

from gmpo_vl.engines.easyr1.serialisation import groups_to_proto, taken_apart
from gmpo_vl.models.shared import first_way

RIGHT = 1e-4  # nats
WRONG = 0.05


def largest_gap(worker, groups):
    """|log-prob of the sampler - of the trainer|, of all tokens of these groups."""
    way = first_way(worker.actor.policy.model.config, "never")
    log_probs = worker.compute_log_probs(groups_to_proto(groups, way=way)).batch["old_log_probs"]
    return max(
        float((log_probs_T - response.rollout_log_probs_T).abs().max())
        for of_group, group in zip(taken_apart(groups, log_probs), groups)
        for log_probs_T, response in zip(of_group, group.responses)
    )


def move_weights(module, names, seed):
    """Those that are trained and whose name holds one of `names`."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and any(wanted in name for wanted in names):
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.03)
