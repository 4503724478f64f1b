"""verl's command on a Ray of this machine: python ray_main.py GPUS [a.b=c ...].

More CPUs than there are: on fewer than 16 verl's actors for two ranks wait for each other.
"""

import os
import sys

import ray

PASSED_ON = ("VERL_PLATFORM", "VERL_USE_EXTERNAL_MODULES", "PYTHONPATH", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")

if __name__ == "__main__":
    ray.init(
        num_cpus=16,
        num_gpus=int(sys.argv.pop(1)),
        include_dashboard=False,
        object_store_memory=400 << 20,
        runtime_env={"env_vars": {key: os.environ[key] for key in PASSED_ON}},
    )
    from verl.trainer.main_ppo import main

    main()
