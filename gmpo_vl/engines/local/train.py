"""The local engine: GMPO in one process, on a CPU or one GPU. The steps are in engines/loop.py."""

from __future__ import annotations

from gmpo_vl.config import Config
from gmpo_vl.engines.local.checkpoint import check_checkpoint
from gmpo_vl.engines.local.engine import LocalEngine
from gmpo_vl.engines.loop import run_session
from gmpo_vl.engines.session import open_session, run_of
from gmpo_vl.runs import Run
from gmpo_vl.storage.locks import locked


def train(config: Config) -> Run:
    """Run the configuration to its last step, going on from the run's last checkpoint where there is one.

    Asked to stop (Ctrl-C, SIGTERM) it saves and raises Stopped, which ends the process if nobody takes it. Raises FolderInUse
    where another process has the run's folder.
    """
    with locked(run_of(config).folder):
        return run_session(
            open_session(
                config,
                check_checkpoint,
                lambda fitting, prompts, _steps, checkpoint: LocalEngine(
                    fitting, prompts.processor, checkpoint
                ),
            )
        )
