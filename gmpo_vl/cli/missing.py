"""A package that is not installed: which extra of gmpo-vl brings it."""

from __future__ import annotations

_VERIFY = ("math_verify", "psutil")
_EVAL = (
    *("torch", "transformers", "huggingface_hub", "safetensors", "peft", "numpy", "datasets", "pyarrow"),
    *("PIL", "yaml", "omegaconf", "jinja2", "rich"),
)
_TRAIN = ("accelerate", "tensorboard", "matplotlib")

# The modules that each extra of pyproject.toml brings, the smallest extra first.
MODULES = {
    "verify": _VERIFY,
    "judge": ("openai", "jinja2", "PIL", "rich"),
    "eval": (*_VERIFY, *_EVAL),
    "train": (*_VERIFY, *_EVAL, *_TRAIN),
    "import": (*_VERIFY, *_EVAL, "openpyxl"),
}
# The extra that a command needs, or some of its options; `train` where none is named.
EXTRA_OF = {
    "gmpo-vl grade": "verify",
    "gmpo-vl rewards": "judge",
    "gmpo-vl eval": "eval",
    "gmpo-vl data": "eval",
    "gmpo-vl report": "eval",
}


def missing(command: str, module: str | None) -> str | None:
    """That the command needs the module, and the extra that brings it; None for a module that no extra names.

    command: as its usage says it, such as `gmpo-vl eval run`.
    """
    package = (module or "").partition(".")[0]
    group = " ".join(command.split()[:2])
    wanted = EXTRA_OF.get(group, "train")
    extra = next((extra for extra in (wanted, *MODULES) if package in MODULES[extra]), None)
    return extra and f"{command} needs {package}: pip install 'gmpo-vl[{extra}]'"
