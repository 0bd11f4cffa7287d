"""The GPUs that this worker sees: what NVML tells of them, and whether it is the right one."""
