def get_adapter_absolute_path(lora_path: str) -> str:
    return lora_path
