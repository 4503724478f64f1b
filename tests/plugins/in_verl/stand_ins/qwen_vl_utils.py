"""Pictures of verl's chats without qwen-vl-utils, which needs torchvision."""

import io

from PIL import Image


def fetch_image(element, *args, **kwargs):
    picture = element.get("image", element) if isinstance(element, dict) else element
    if isinstance(picture, dict):
        picture = Image.open(io.BytesIO(picture["bytes"]))
    return picture.convert("RGB")


def fetch_video(*args, **kwargs):
    raise NotImplementedError("videos need qwen_vl_utils")


def process_vision_info(messages, *args, **kwargs):
    parts = [p for message in messages if isinstance(message["content"], list) for p in message["content"]]
    return [fetch_image(part) for part in parts if part.get("type") == "image"] or None, None
