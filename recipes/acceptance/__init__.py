"""What recipes/accept_1gpu.sh checks on one GPU, and how it tells.

__main__   which checks there are, and the command
runner     a check in a process of its own, with a time limit
page       the page at the end
models     models, prompts and settings that the checks use
kernels    attention
training   the shared forward, the passes in a process group, saving, a step
commands   `gmpo-vl` itself: engine easyr1, export, evaluation with vLLM
"""
