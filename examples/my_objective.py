"""Objectives of one's own: `worker.actor.loss_type: examples/my_objective.py:cispo` in a configuration."""


def cispo(log_probs_BT, old_log_probs_BT, mask_BT, advantages_B, ratio_max=1.28):
    """CISPO (MiniMax-M1): REINFORCE, each token weighed by its ratio, which is cut at ratio_max and detached.

    No token loses its gradient. All tokens of the mini-batch count alike: a sequence weighs its length.
    """
    lengths_B = mask_BT.sum(-1).double()
    ratio_BT = (log_probs_BT - old_log_probs_BT).exp().clamp(max=ratio_max).detach()
    mean_B = (ratio_BT * log_probs_BT * mask_BT).sum(-1) / lengths_B.clamp(min=1)
    return -advantages_B * mean_B, lengths_B


def scaled_gmpo(log_probs_BT, old_log_probs_BT, mask_BT, advantages_B, statistics, clip=0.4):
    """Eq. 5 with advantages in units of their root mean square over the mini-batch. clip: in log space."""
    scale = (statistics["squares"] / statistics["rows"]).sqrt().clamp(min=1e-6)
    up_B1 = (advantages_B > 0)[:, None]
    log_ratio_BT = log_probs_BT - old_log_probs_BT
    clipped_BT = log_ratio_BT.clamp(max=clip).where(up_B1, log_ratio_BT.clamp(min=-clip))
    geometric_mean_B = ((clipped_BT * mask_BT).sum(-1) / mask_BT.sum(-1).clamp(min=1)).exp()
    return -advantages_B / scale * geometric_mean_B


def statistics(old_log_probs_BT, mask_BT, advantages_B):
    """Sums over rows, which are added up over the mini-batch and all ranks: what `scaled_gmpo` asks for."""
    return {"squares": advantages_B.square().sum(), "rows": len(advantages_B)}
