"""Qwen2.5-VL's processor without its video half, which needs torchvision."""

import os

import transformers
from transformers import AutoTokenizer, Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin


class PicturesOnly(Qwen2_5_VLProcessor):
    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        self.video_processor = None
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def get_attributes(cls):
        return ["image_processor", "tokenizer"]


PicturesOnly.__name__ = "Qwen2_5_VLProcessor"  # verl chooses by the name


def load(path):
    tokenizer = AutoTokenizer.from_pretrained(path)
    pictures = Qwen2VLImageProcessorPil.from_pretrained(path)
    return PicturesOnly(pictures, tokenizer, chat_template=tokenizer.chat_template)


def install() -> None:
    """AutoProcessor gives it for folders with an image processor."""
    ordinary = transformers.AutoProcessor.from_pretrained

    def from_pretrained(path, **kwargs):
        pictures = os.path.exists(os.path.join(str(path), "preprocessor_config.json"))
        return load(path) if pictures else ordinary(path, **kwargs)

    transformers.AutoProcessor.from_pretrained = from_pretrained
