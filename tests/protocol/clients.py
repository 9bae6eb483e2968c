"""Triton's own Python clients against a daemon that serves what `models.py` wrote: `clients.py GRPC REST`."""

import asyncio
import queue
import sys
import traceback
import uuid

import ml_dtypes
import numpy as np
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as http
import tritonclient.http.aio as http_aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, serialize_byte_tensor

GRPC, REST = sys.argv[1:3]
A = np.arange(16, dtype=np.int32).reshape(1, 16)
B = np.ones((1, 16), dtype=np.int32)


def clients():
    yield grpc, grpc.InferenceServerClient(GRPC)
    yield http, http.InferenceServerClient(REST)


def inputs(module, *arrays, datatype="INT32", **options):
    made = []
    for at, array in enumerate(arrays):
        made.append(module.InferInput(f"INPUT{at}", list(array.shape), datatype))
        made[-1].set_data_from_numpy(array, **options)
    return made


def check_simple(result):
    assert (result.as_numpy("OUTPUT0") == A + B).all()
    assert (result.as_numpy("OUTPUT1") == A - B).all()


def refused(words, call):
    try:
        call()
    except InferenceServerException as error:
        assert words in error.message(), error.message()
    else:
        raise AssertionError(f"expected an error with `{words}`")


def test_health_and_metadata():
    for module, client in clients():
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("simple")
        assert not client.is_model_ready("nobody")
        refused("Request for unknown model", lambda: client.get_model_metadata("nobody"))
        as_json = {"as_json": True} if module is grpc else {}
        server = client.get_server_metadata(**as_json)
        assert {"classification", "system_shared_memory", "statistics"} <= set(server["extensions"])
        described = client.get_model_metadata("simple", **as_json)
        assert [t["name"] for t in described["inputs"]] == ["INPUT0", "INPUT1"]
        index = client.get_model_repository_index(**as_json)
        index = index["models"] if module is grpc else index
        assert {"simple", "simple_string"} <= {model["name"] for model in index}


def test_inference():
    for module, client in clients():
        check_simple(client.infer("simple", inputs(module, A, B), request_id="1"))
        check_simple(client.infer("simple", inputs(module, A, B), parameters={"note": "x", "level": 3}))
        future = client.async_infer("simple", inputs(module, A, B)) if module is http else None
        if future:
            check_simple(future.get_result())
    done = queue.Queue()
    grpc.InferenceServerClient(GRPC).async_infer(
        "simple", inputs(grpc, A, B), callback=lambda result, error: done.put((result, error))
    )
    result, error = done.get(timeout=60)
    assert error is None
    check_simple(result)


def test_json_and_binary():
    client = http.InferenceServerClient(REST)
    for binary_in in (True, False):
        for binary_out in (True, False):
            asked = inputs(http, A, B, binary_data=binary_in)
            outputs = [http.InferRequestedOutput(f"OUTPUT{at}", binary_data=binary_out) for at in range(2)]
            check_simple(client.infer("simple", asked, outputs=outputs))


def test_compression():
    rest, rpc = http.InferenceServerClient(REST), grpc.InferenceServerClient(GRPC)
    for algorithm in ("gzip", "deflate"):
        packed = {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
        check_simple(rest.infer("simple", inputs(http, A, B), **packed))
        check_simple(rpc.infer("simple", inputs(grpc, A, B), compression_algorithm=algorithm))
    large = np.arange(100_000, dtype=np.int32).reshape(1, -1)
    result = rest.infer("custom_identity_int32", inputs(http, large), response_compression_algorithm="gzip")
    assert (result.as_numpy("OUTPUT0") == large).all()


def test_asynchronous_clients():
    async def run():
        async with grpc_aio.InferenceServerClient(GRPC) as client:
            check_simple(await client.infer("simple", inputs(grpc, A, B)))
        async with http_aio.InferenceServerClient(REST) as client:
            check_simple(await client.infer("simple", inputs(http, A, B)))

    asyncio.run(run())


def test_strings():
    a, b = A.astype(str).astype(object), B.astype(str).astype(object)
    odd = np.array([["", "a\u00e9", '"\n', "x" * 1000]], dtype=object)
    for module, client in clients():
        result = client.infer("simple_string", inputs(module, a, b, datatype="BYTES"))
        assert (result.as_numpy("OUTPUT0").astype(int) == A + B).all()
        result = client.infer("simple_identity", inputs(module, odd, datatype="BYTES"))
        assert [text.decode() for text in result.as_numpy("OUTPUT0")[0]] == list(odd[0])


def test_every_datatype():
    numpy_of = {"BOOL": np.bool_, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BF16": ml_dtypes.bfloat16}
    for datatype in ("BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64").split():
        dtype = numpy_of.get(datatype) or np.dtype(datatype.lower()).type
        for values in ([1, 0, 1], []):
            array = np.array(values, dtype=dtype)
            for module, client in clients():
                result = client.infer(f"identity_{datatype.lower()}", inputs(module, array, datatype=datatype))
                found = result.as_numpy("OUTPUT0")
                assert found.shape == array.shape and (found == array).all(), (datatype, found)
    for module, client in clients():
        scalar = np.array(2.5, dtype=np.float32)
        found = client.infer("identity_scalar", inputs(module, scalar, datatype="FP32")).as_numpy("OUTPUT0")
        assert found.shape == () and found == scalar


def test_shared_memory():
    for module, client in clients():
        key = f"ired-test-{uuid.uuid4()}"
        text = serialize_byte_tensor(np.array([["7"] * 16], dtype=object)).item()
        regions = [
            shm.create_shared_memory_region(f"{key}-{name}", f"/{key}-{name}", size)
            for name, size in [("in", 128), ("out", 128), ("text", 2 * len(text))]
        ]
        try:
            shm.set_shared_memory_region(regions[0], [A, B])
            for name, size in [("in", 128), ("out", 128)]:
                client.register_system_shared_memory(f"{key}-{name}", f"/{key}-{name}", size)
            asked, outputs = [], []
            for at in range(2):
                asked.append(module.InferInput(f"INPUT{at}", [1, 16], "INT32"))
                asked[-1].set_shared_memory(f"{key}-in", 64, offset=64 * at)
                outputs.append(module.InferRequestedOutput(f"OUTPUT{at}"))
                outputs[-1].set_shared_memory(f"{key}-out", 64, offset=64 * at)
            client.infer("simple", asked, outputs=outputs)
            found = shm.get_contents_as_numpy(regions[1], np.int32, [2, 16])
            assert (found == np.concatenate([A + B, A - B])).all()
            already = lambda: client.register_system_shared_memory(f"{key}-in", f"/{key}-in", 128)
            refused("registered already", already)
            refused("not inside", lambda: client.register_system_shared_memory("more", f"/{key}-in", 1 << 40))
            client.unregister_system_shared_memory(f"{key}-in")
            refused("not registered", lambda: client.infer("simple", asked, outputs=outputs))
            client.unregister_system_shared_memory()
            status = client.get_system_shared_memory_status()
            assert len(status.regions if module is grpc else status) == 0
            device = lambda: client.register_cuda_shared_memory("cuda", b"aGFuZGxl", 0, 64)
            refused("not supported", device)
        finally:
            for region in regions:
                shm.destroy_shared_memory_region(region)


def test_classes():
    for module, client in clients():
        best = module.InferRequestedOutput("OUTPUT0", class_count=2)
        found = client.infer("simple", inputs(module, A, B), outputs=[best]).as_numpy("OUTPUT0")
        assert [text.decode() for text in found[0]] == ["16:15", "15:14"], found


def test_streams():
    done = queue.Queue()
    client = grpc.InferenceServerClient(GRPC)
    client.start_stream(callback=lambda result, error: done.put((result, error)))
    for at in range(50):
        name = "nobody" if at == 9 else "simple"
        client.async_stream_infer(name, inputs(grpc, A, B), request_id=str(at), enable_empty_final_response=True)
    for at in range(50):
        result, error = done.get(timeout=60)
        if at == 9:
            assert "unknown model" in error.message()
            continue
        response = result.get_response()
        assert response.id == str(at) and response.parameters["triton_final_response"].bool_param
        check_simple(result)
    client.stop_stream()


def counting(n, limit, module=grpc):
    made = []
    for name, value in [("n", n), ("limit", limit)]:
        made.append(module.InferInput(name, [1], "INT64"))
        made[-1].set_data_from_numpy(np.array([value], dtype=np.int64))
    return made


def repeating(numbers):
    arrays = {
        "IN": np.array(numbers, np.int32), "DELAY": np.ones(len(numbers), np.uint32), "WAIT": np.ones(1, np.uint32),
    }
    made = []
    for name, array in arrays.items():
        made.append(grpc.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
        made[-1].set_data_from_numpy(array)
    return made


def test_decoupled_models():
    for module, client in clients():
        policy = "doesn't support models with decoupled transaction policy"
        refused(policy, lambda: client.infer("counter", counting(0, 3, module)))
    config = grpc.InferenceServerClient(GRPC).get_model_config("counter").config
    assert config.model_transaction_policy.decoupled
    done = queue.Queue()
    client = grpc.InferenceServerClient(GRPC)
    client.start_stream(callback=lambda result, error: done.put((result, error)))
    lengths = {str(at): 10 * at + 1 for at in range(8)}
    for id, length in lengths.items():
        client.async_stream_infer("counter", counting(5, 5 + length), request_id=id, enable_empty_final_response=True)
    found = {id: [] for id in lengths}
    while lengths:
        result, error = done.get(timeout=60)
        assert error is None, error
        response = result.get_response()
        count = found[response.id]
        count.append(int(result.as_numpy("next")[0]))
        assert list(result.as_numpy("history")) == count == list(range(6, 6 + len(count)))
        if response.parameters["triton_final_response"].bool_param:
            assert len(count) == lengths.pop(response.id)
    client.async_stream_infer("counter", counting(0, 10**9), parameters={"max_responses": 3})
    assert [int(done.get(timeout=60)[0].as_numpy("next")[0]) for _ in range(3)] == [1, 2, 3]
    client.async_stream_infer("repeat_int32", repeating(range(100, 110)))
    parts = [done.get(timeout=60)[0] for _ in range(10)]
    assert [part.as_numpy("OUT").tolist() for part in parts] == [[number] for number in range(100, 110)]
    assert [part.as_numpy("IDX").tolist() for part in parts] == [[at] for at in range(10)]
    # Gone in the middle of one that would go on.
    client.async_stream_infer("counter", counting(0, 10**9))
    done.get(timeout=60)
    client.stop_stream(cancel_requests=True)
    asyncio.run(count_asynchronously())


async def count_asynchronously():
    async def requests():
        yield {"model_name": "counter", "inputs": counting(0, 20), "request_id": "a"}

    async with grpc_aio.InferenceServerClient(GRPC) as client:
        found = []
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            found.append(int(result.as_numpy("next")[0]))
        assert found == list(range(1, 21)), found


def test_sequences():
    values, sums = [11, 7, 5, 3, 2, 0, 1], [11, 18, 23, 26, 28, 28, 29 + 78]
    single = lambda last: [values[0] + 1] + values[1:-1] + [values[-1] + last]
    cases = [
        ("simple_sequence", 77, single(0)),
        ("simple_sequence", str(uuid.uuid4()), single(0)),
        ("simple_dyna_sequence", 77, single(77)),
        ("simple_string_dyna_sequence", "78", sums),
    ]
    for module, client in clients():
        for name, number, expected in cases:
            found = []
            for at, value in enumerate(values):
                asked = module.InferInput("INPUT", [1, 1], "INT32")
                asked.set_data_from_numpy(np.array([[value]], dtype=np.int32))
                place = {"sequence_start": at == 0, "sequence_end": at == len(values) - 1}
                result = client.infer(name, [asked], sequence_id=number, **place)
                found.append(int(result.as_numpy("OUTPUT")[0][0]))
            assert found == expected, (name, found)


def test_a_configuration_is_the_same_over_both():
    by_grpc = grpc.InferenceServerClient(GRPC).get_model_config("simple_dyna_sequence").config
    by_rest = http.InferenceServerClient(REST).get_model_config("simple_dyna_sequence")
    assert by_rest["max_batch_size"] == by_grpc.max_batch_size == 8
    batching = by_rest["sequence_batching"]
    assert batching["oldest"]["max_candidate_sequences"] == by_grpc.sequence_batching.oldest.max_candidate_sequences
    assert [c["name"] for c in batching["control_input"]] == [c.name for c in by_grpc.sequence_batching.control_input]
    assert [i["dims"] for i in by_rest["input"]] == [list(i.dims) for i in by_grpc.input]


def test_model_control():
    for module, client in clients():
        field = lambda config: config["config"] if module is grpc else config
        as_json = {"as_json": True} if module is grpc else {}
        client.unload_model("simple_int8")
        assert not client.is_model_ready("simple_int8")
        client.load_model("simple_int8", config='{"max_batch_size": "16"}')
        config = field(client.get_model_config("simple_int8", **as_json))
        assert config["max_batch_size"] == 16
        client.load_model("simple_int8")
        assert field(client.get_model_config("simple_int8", **as_json)).get("max_batch_size", 0) == 0
        refused("failed to load", lambda: client.load_model("nobody"))
        refused("failed to load", lambda: client.load_model("simple_int8", config="no json"))


def test_a_model_that_comes_with_its_load():
    import onnx
    from onnx import TensorProto, helper

    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])
    graph = helper.make_graph([helper.make_node("Neg", ["INPUT0"], ["OUTPUT0"])], "g", [value("INPUT0")], [value("OUTPUT0")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    for module, client in clients():
        name = f"sent_{module.__name__.rsplit('.', 1)[-1]}"
        client.load_model(name, config="{}", files={"file:1/model.onnx": model})
        found = client.infer(name, inputs(module, np.ones(3, np.float32), datatype="FP32")).as_numpy("OUTPUT0")
        assert (found == -1).all()


def test_statistics_and_settings():
    for module, client in clients():
        as_json = {"as_json": True} if module is grpc else {}
        count = lambda: int(client.get_inference_statistics("simple", **as_json)["model_stats"][0]["inference_count"])
        before = count()
        client.infer("simple", inputs(module, A, B))
        assert count() == before + 1
        client.update_trace_settings("simple", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
        trace = client.get_trace_settings("simple", **as_json)
        trace = trace["settings"]["trace_level"]["value"] if module is grpc else trace["trace_level"]
        assert trace == ["TIMESTAMPS"]
        client.update_trace_settings("simple", {"trace_level": None})
        client.update_log_settings({"log_verbose_level": 1})
        client.update_log_settings({"log_verbose_level": 0})


if __name__ == "__main__":
    failed = 0
    tests = [(name, test) for name, test in list(globals().items()) if name.startswith("test_")]
    for name, test in tests:
        try:
            test()
            print(f"ok      {name}")
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
    sys.exit(f"{failed} of {len(tests)} failed" if failed else 0)
