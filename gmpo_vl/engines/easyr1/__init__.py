"""The EasyR1 engine: GMPO on Ray, FSDP and vLLM through unmodified EasyR1 (its Python package is called `verl`).

EasyR1 builds, shards, offloads and saves the models, holds the processes, and runs vLLM. What is ours runs inside: data,
rewards, advantages, the passes of a step (engines/passes.py), logs and the run's folder, the same code as on engine local.

    driver.py      the command: checks, Ray, a session        steps.py    the steps of a run, as engine local takes them
    limits.py      what cannot run here, said first           plan.py     the plan of a dry run
    config.py      our settings in EasyR1's dataclasses       seams.py    the EasyR1 this was written against
    trainer.py     its trainer: groups to ranks and back      wire.py     groups between driver and workers
    worker.py      its worker with our actor and rollout      actor.py    log-probs and updates on one rank
    rollout.py     its vLLM: bans, seeds, log-probs           rows.py     groups as its batches, for its own losses
    checkpoint.py  its shards with the state of a run         export.py   the shards as a Hugging Face folder, proved
    reward.py      the reward in a process of its own         proof.py    is sharing right on the sharded model?
    cpu.py         everything without a GPU                   files.py    what its checkpoints are called
"""
