"""A stand-in for pynvml, for processes that tests start."""

# As much of pynvml as longwatt.gpus uses; the GPUs come from an environment variable: uuid=name,...
STAND_IN = """
import os

NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_NO_PERMISSION = 12, 9, 4

class NVMLError(Exception):
    value = NVML_ERROR_DRIVER_NOT_LOADED

def _gpus():
    return [entry.split("=") for entry in os.environ.get("STAND_IN_GPUS", "").split(",") if entry]

def nvmlInit():
    if os.environ.get("STAND_IN_GPUS") == "broken":
        raise NVMLError("driver not loaded")

def nvmlShutdown():
    pass

def nvmlDeviceGetCount():
    return len(_gpus())

def nvmlDeviceGetHandleByIndex(index):
    return _gpus()[index]

def nvmlDeviceGetUUID(handle):
    return handle[0].encode()  # old bindings return bytes

def nvmlDeviceGetName(handle):
    return handle[1]

class _Memory:
    total = 48 * 2**30

def nvmlDeviceGetMemoryInfo(handle):
    if handle[1] == "odd":
        raise NVMLError("not supported")
    return _Memory
"""
