# docker build -t gmpo-vl .
# EasyR1's image holds CUDA 12.9, torch 2.8, vllm 0.11 and flash-attn 2.8.3; the rest comes here.
FROM hiyouga/verl:ngc-th2.8.0-cu12.9-vllm0.11.0

# NVIDIA's images name a file of pins in this variable, which pip would hold against ours.
ENV PIP_CONSTRAINT=""

WORKDIR /opt/gmpo_vl
COPY . .
RUN pip install --no-cache-dir -c constraints/easyr1-gpu.txt -e ".[easyr1]"
RUN pip install --no-cache-dir --no-deps "git+https://github.com/hiyouga/EasyR1@b44b311b669bf1fd1aa2fc36f2251482ba33cb16"
RUN python -c "import numpy, pandas, pyarrow, datasets, flash_attn, ray, tensordict, torch, transformers, gmpo_vl.cli"
