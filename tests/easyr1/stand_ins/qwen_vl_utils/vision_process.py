def fetch_video(*args, **kwargs):
    raise NotImplementedError("videos need qwen_vl_utils")
