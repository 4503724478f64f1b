"""The EasyR1 engine: GMPO on Ray, FSDP and vLLM through unmodified EasyR1 (its Python package is called `verl`).

EasyR1 builds, shards, offloads and saves the models, holds the processes, and runs vLLM. What is ours runs inside: data,
rewards, advantages, a run's steps and passes (engines/loop.py, passes.py), logs and the run's folder, the same code as on engine local.

    driver.py      the command: checks, Ray, a session        config.py    our settings in EasyR1's dataclasses
    limits.py      what cannot run here, said first           plan.py      the plan of a dry run
    trainer.py     its trainer as session.Engine              wire.py      groups between driver and workers
    worker.py      its worker with our actor and rollout      actor.py     log-probs and updates on one rank
    rollout.py     its vLLM: bans, seeds, log-probs           rows.py      groups as its batches, for its own losses
    checkpoint.py  its shards of a run's checkpoint           export.py    the shards as a Hugging Face folder, proved
    reward.py      the reward in a process of its own         seams.py     the EasyR1 this was written against
    cpu.py         everything without a GPU
"""
