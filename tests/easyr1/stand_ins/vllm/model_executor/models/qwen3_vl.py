class Qwen3VLForConditionalGeneration:
    pass
