"""The EasyR1 engine: GMPO on Ray, FSDP and vLLM through unmodified EasyR1 (its Python package is called `verl`).

EasyR1 builds, shards, offloads and saves the models, holds the processes, and runs vLLM. What is ours runs inside: data,
rewards, advantages, the passes of a step (engines/passes.py), logs and the run's folder, the same code as on engine local.

    driver.py   the command: checks, Ray, a trainer, its steps       trainer.py  one step, as the local engine does it
    worker.py   EasyR1's worker with our actor and rollout           actor.py    log-probs and updates on one rank
    config.py   our keys into EasyR1's dataclasses                   seams.py    the EasyR1 this was written against
    rollout.py  its vLLM rollout: bans, seeds, log-probs             rows.py     groups as EasyR1's batches, for its losses
    dealing.py  which rank trains which group                        wire.py     groups between driver and workers
    cpu.py      everything without a GPU                             export.py   a sharded checkpoint as a Hugging Face folder
"""
