import msgspec


class LoRARequest(msgspec.Struct, kw_only=True):
    lora_name: str = ""
    lora_int_id: int = 0
    lora_path: str = ""
