"""What is checked and against which settings, small enough to be sent to a worker process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gmpo_vl.config import Config
from gmpo_vl.data.examples import open_checked
from gmpo_vl.models.loading import model_folder
from gmpo_vl.models.processing import Processor, load_processor
from gmpo_vl.models.prompts import PromptSettings, prompt_settings
from gmpo_vl.preflight.golds import GoldCheck
from gmpo_vl.preflight.rows import RowChecker
from gmpo_vl.rewards.loading import load_reward


@dataclass(frozen=True)
class Job:
    """Splits and their sources, how rows become prompts, which model and reward."""

    sources: Mapping[str, str]
    settings: PromptSettings
    model: str | None  # None: rows are looked at without counting tokens
    chat_template: str | None
    reward: str | None
    reward_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def processor(self) -> Processor | None:
        return None if self.model is None else load_processor(self.model, self.chat_template)

    def checkers(self) -> dict[str, RowChecker]:
        """A checker for each split. Raises DataError for a source, ValueError for a model or reward that cannot be read."""
        processor = self.processor()
        reward = load_reward(self.reward, self.reward_kwargs) if self.reward is not None else None
        return {
            split: RowChecker(
                split,
                open_checked(source, self.settings.columns),
                self.settings,
                processor,
                GoldCheck(reward),
            )
            for split, source in self.sources.items()
        }


def job_of(config: Config, with_model: bool = True) -> Job:
    """The data, prompts, model and reward of a run's configuration. with_model: False where the model cannot be had."""
    data, model, reward = config.data, config.worker.actor.model, config.worker.reward
    files = {"train": data.train_files, "validation": data.val_files}
    return Job(
        sources={split: source for split, source in files.items() if source},
        settings=prompt_settings(data),
        model=str(model_folder(str(model.tokenizer_path or model.model_path))) if with_model else None,
        chat_template=data.override_chat_template,
        reward=reward.reward_function,
        reward_kwargs=dict(reward.reward_function_kwargs),
    )
