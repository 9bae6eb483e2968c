"""Writes the ONNX backend suite of the installed `onnx` package as folders: export_onnx.py DIR.

DIR/static/KIND/NAME/model.onnx with test_data_set_I/{input,output}_J.pb, the layout the suite itself uses on disk (its
node cases exist only as Python generators). DIR/dynamic holds the node cases once more with every dimension of every
input symbolic, the data unchanged. DIR/cases.json lists every case: name, kind, the operator it tests, its operator
set, and why it is left out, if it is: training operators are not ired's, and what a random operator draws is its own.
"""
import glob
import json
import os
import shutil
import sys
import warnings

warnings.simplefilter("ignore")
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import _existing_names
from onnx.backend.test.loader import DATA_DIR, load_model_tests
from onnx.backend.test.runner import Runner

RANDOM = {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
TRAINING = "ai.onnx.preview.training"


def nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
                yield from nodes(inner)


def left_out(model):
    every = list(nodes(model.graph)) + [n for f in model.functions for n in f.node]
    if any(n.domain == TRAINING for n in every):
        return "training"
    if any(n.op_type in RANDOM and n.domain in ("", "ai.onnx") for n in every):
        return "random"
    return None


def serialized(value, ty):
    if isinstance(value, TensorProto):
        return value.SerializeToString()
    kind = ty.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(list(value)).SerializeToString()
    if kind == "optional_type":
        holds_list = ty.optional_type.elem_type.WhichOneof("value") == "sequence_type"
        value = list(value) if holds_list and value is not None else value
        return numpy_helper.from_optional(value).SerializeToString()
    array, wanted = np.asarray(value), ty.tensor_type.elem_type
    try:
        tensor = numpy_helper.from_array(array)
        if wanted in (0, tensor.data_type):
            return tensor.SerializeToString()
    except Exception:
        pass  # An element type that numpy has no name for; its bytes are right.
    if wanted == TensorProto.STRING:
        return numpy_helper.from_array(array.astype(object)).SerializeToString()
    return helper.make_tensor("", wanted, array.shape, array.tobytes(), raw=True).SerializeToString()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def describe(name, kind, model, op):
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    return {"name": name, "kind": kind, "op": op, "opset": opset, "left_out": left_out(model)}


def export_node(out, case):
    folder = fresh(f"{out}/static/node/{case.name}")
    write(f"{folder}/model.onnx", case.model.SerializeToString())
    for i, (inputs, outputs) in enumerate(case.data_sets):
        data = fresh(f"{folder}/test_data_set_{i}")
        graph = case.model.graph
        for what, values, infos in (("input", inputs, graph.input), ("output", outputs, graph.output)):
            for j, value in enumerate(values):
                write(f"{data}/{what}_{j}.pb", serialized(value, infos[j].type))
    base = case.name.split("_expanded")[0]
    tested = _existing_names.get(base)
    op = tested.op_type if tested is not None else case.model.graph.node[0].op_type
    return describe(case.name, "node", case.model, op)


def export_light(out, path):
    """Whole networks with fixed weights: a bare model and its expected outputs for made-up inputs."""
    stem = os.path.splitext(path)[0]
    name, model = "test_" + os.path.basename(stem), onnx.load(path)
    folder = fresh(f"{out}/static/light/{name}")
    data = fresh(f"{folder}/test_data_set_0")
    shutil.copy(path, f"{folder}/model.onnx")
    weights = {i.name for i in model.graph.initializer}
    inputs = [x for x in model.graph.input if x.name not in weights]
    for j, x in enumerate(inputs):
        value = Runner.generate_dummy_data(x, seed=0, name=os.path.basename(stem), random=False)
        write(f"{data}/input_{j}.pb", numpy_helper.from_array(value).SerializeToString())
    for j in range(len(model.graph.output)):
        shutil.copy(f"{stem}_output_{j}.pb", f"{data}/output_{j}.pb")
    return describe(name, "light", model, "(network)")


def export_stored(out, kind, case):
    folder = f"{out}/static/{kind}/{case.name}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(case.model_dir, folder)
    return describe(case.name, kind, onnx.load(f"{folder}/model.onnx"), "(model)")


def make_dynamic(out, case):
    """The case with symbolic input dimensions; lists of sizes stay as they are. False where nothing can be symbolic."""
    model = onnx.load(f"{out}/static/node/{case['name']}/model.onnx")
    infos = list(model.graph.input) + list(model.graph.output)
    if any(i.type.WhichOneof("value") != "tensor_type" or not i.type.tensor_type.HasField("shape") for i in infos):
        return False
    changed = False
    for i, info in enumerate(model.graph.input):
        ty = info.type.tensor_type
        if len(ty.shape.dim) <= 1 and ty.elem_type in (TensorProto.INT32, TensorProto.INT64):
            continue
        for j, dim in enumerate(ty.shape.dim):
            if dim.HasField("dim_value"):
                dim.Clear()
                dim.dim_param, changed = f"d{i}_{j}", True
    if not changed:
        return False
    for info in model.graph.output:
        for dim in info.type.tensor_type.shape.dim:
            dim.Clear()
    del model.graph.value_info[:]
    folder = f"{out}/dynamic/node/{case['name']}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(f"{out}/static/node/{case['name']}", folder)
    onnx.save(model, f"{folder}/model.onnx")
    return True


def main(out):
    cases = [export_node(out, case) for case in load_model_tests(kind="node")]
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        cases += [export_stored(out, kind, case) for case in load_model_tests(kind=kind) if case.model_dir]
    cases += [export_light(out, path) for path in sorted(glob.glob(os.path.join(DATA_DIR, "light", "*.onnx")))]
    for case in cases:
        plain = case["kind"] == "node" and "_expanded" not in case["name"] and case["left_out"] is None
        case["dynamic"] = plain and make_dynamic(out, case)
    with open(f"{out}/cases.json", "w") as file:
        json.dump({"onnx": onnx.__version__, "cases": cases}, file, indent=0)


main(sys.argv[1])
