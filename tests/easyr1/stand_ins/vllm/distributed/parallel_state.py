"""parallel_state of vllm: imported by EasyR1, not used on a CPU."""
