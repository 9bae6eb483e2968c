"""One inference engine as a process that answers bursts, as `irectl bench --worker` does.

    peer.py ENGINE MODEL INPUTS THREADS CACHE

ENGINE is onnxruntime, openvino, openvino_default (its own choice of precision) or iree. Prints `ready` with the time of
loading once the model has run, then for each line `run MAX_ITERS BUDGET_MS` a burst, until `quit`. IREE compiles ahead
of time; its module is kept at CACHE.
"""

import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

# From the fastest code to what compiles everything: some kernels of dynamic shape need more stack than the default.
IREE_FLAGS = [
    ["--iree-opt-level=O3", "--iree-opt-data-tiling"],
    ["--iree-opt-level=O3", "--iree-opt-data-tiling", "--iree-llvmcpu-stack-allocation-limit=1048576"],
    ["--iree-opt-level=O2"],
]


def load_onnxruntime(model, feeds, threads, cache):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {i.name: feeds[i.name] for i in session.get_inputs()}
    return lambda: session.run(None, feeds), onnxruntime.__version__


def load_openvino(model, feeds, threads, cache, precision="f32"):
    import openvino

    core = openvino.Core()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
              "ENABLE_CPU_PINNING": False}
    if precision:
        config["INFERENCE_PRECISION_HINT"] = precision
    compiled = core.compile_model(core.read_model(model), "CPU", config)
    request = compiled.create_infer_request()
    feeds = {i.get_any_name(): feeds[i.get_any_name()] for i in compiled.inputs}
    return lambda: request.infer(feeds, share_inputs=True), openvino.__version__.split("-")[0]


def load_openvino_default(model, feeds, threads, cache):
    return load_openvino(model, feeds, threads, cache, None)


def compile_iree(model, cache):
    """Compiles once, in processes whose memory and time are kept with the module."""
    if os.path.exists(cache + ".json"):
        return json.load(open(cache + ".json"))
    tools = os.path.dirname(sys.executable)
    start, mlir = time.perf_counter(), cache + ".mlir"
    quiet = {"check": True, "capture_output": True, "text": True}
    subprocess.run([tools + "/iree-import-onnx", model, "-o", mlir, "--opset-version", "21"], **quiet)
    for flags in IREE_FLAGS:
        command = [tools + "/iree-compile", mlir, "-o", cache + ".vmfb", "--iree-hal-target-device=local",
                   "--iree-hal-local-target-device-backends=llvm-cpu", "--iree-llvmcpu-target-cpu=host", *flags]
        try:
            subprocess.run(command, **quiet)
            break
        except subprocess.CalledProcessError as error:
            failure = error
    else:
        raise failure
    compiled = {"compile_ms": (time.perf_counter() - start) * 1e3,
                "compile_rss_kb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}
    json.dump(compiled, open(cache + ".json", "w"))
    os.remove(mlir)
    return compiled


def load_iree(model, feeds, threads, cache):
    import importlib.metadata

    import iree.runtime as runtime
    import onnx

    if threads == 1:
        config = runtime.Config("local-sync")
    else:
        runtime.flags.parse_flags(f"--task_topology_group_count={threads}")
        config = runtime.Config("local-task")
    module = runtime.load_vm_module(runtime.VmModule.mmap(config.vm_instance, cache + ".vmfb"), config)
    graph = onnx.load(model, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    names = [name for name in module.vm_module.function_names if not name.startswith("_") and "$" not in name]
    inputs = [runtime.asdevicearray(config.device, feeds[i.name]) for i in graph.input if i.name not in weights]

    def run():
        results = module[names[0]](*inputs)
        results = results if isinstance(results, (tuple, list)) else [results]
        return [result.to_host() if hasattr(result, "to_host") else result for result in results]

    return run, importlib.metadata.version("iree-base-runtime")


LOADERS = {"onnxruntime": load_onnxruntime, "openvino": load_openvino, "openvino_default": load_openvino_default,
           "iree": load_iree}


def peak_rss_kb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def answer(**event):
    print(json.dumps(event), flush=True)


def main():
    engine, model, inputs, threads, cache = sys.argv[1:]
    with np.load(inputs) as archive:
        feeds = {name: archive[name] for name in archive.files}
    compiled = {}
    if engine == "iree":
        compiled = compile_iree(model, cache)
    start = time.perf_counter()
    run, version = LOADERS[engine](model, feeds, int(threads), cache)
    load_ms = (time.perf_counter() - start) * 1e3
    run()
    answer(event="ready", load_ms=load_ms, rss_kb=peak_rss_kb(), version=version, **compiled)
    for line in sys.stdin:
        words = line.split()
        if words[:1] != ["run"]:
            break
        most, budget = int(words[1]), float(words[2]) / 1e3
        run()
        latencies, begin = [], time.perf_counter()
        while not latencies or (len(latencies) < most and time.perf_counter() - begin < budget):
            start = time.perf_counter_ns()
            run()
            latencies.append((time.perf_counter_ns() - start) / 1e3)
        answer(event="burst", latencies_us=latencies, rss_kb=peak_rss_kb())


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line]
        sys.exit(f"{os.path.basename(error.cmd[0])}: {(lines or ['failed'])[0][:300]}")
