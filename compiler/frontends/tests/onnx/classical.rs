//! Models of ai.onnx.ml against ONNX Runtime's numbers, and a determinant.

use ired_frontends::onnx::proto::NodeProto;
use ired_graph::Tensor;

use crate::build::*;
use crate::one_node::{Given::*, *};

const ML: &str = "ai.onnx.ml";

fn column(values: &[f32]) -> crate::one_node::Given {
    Data(f32s(&[values.len() as u64, 1], values))
}

/// `x <= 0`, then `x <= 0.5`: three leaves, numbered 1, 3 and 4.
fn tree(op_type: &str) -> NodeProto {
    let node = op_of(ML, op_type)
        .ints("nodes_treeids", &[0; 5])
        .ints("nodes_nodeids", &[0, 1, 2, 3, 4])
        .ints("nodes_featureids", &[0; 5])
        .floats("nodes_values", &[0.0, 0.0, 0.5, 0.0, 0.0])
        .ints("nodes_truenodeids", &[1, 0, 3, 0, 0])
        .ints("nodes_falsenodeids", &[2, 0, 4, 0, 0]);
    node.texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"])
}

fn classifier(weights: &[f32], transform: &'static str) -> NodeProto {
    tree("TreeEnsembleClassifier")
        .ints("class_treeids", &[0; 3])
        .ints("class_nodeids", &[1, 3, 4])
        .ints("class_ids", &[0; 3])
        .floats("class_weights", weights)
        .ints("classlabels_int64s", &[3, 5])
        .text("post_transform", transform)
}

#[track_caller]
fn check_both(node: NodeProto, x: crate::one_node::Given, labels: &[i64], scores: &[f64]) {
    let [found, probabilities] = outputs_of(20, node, &[x], 2).try_into().unwrap();
    assert_eq!(found.to_i64s(), labels);
    let width = scores.len() / labels.len();
    assert_near(&probabilities, &[labels.len() as u64, width as u64], scores);
}

#[test]
fn trees_of_two_classes() {
    let x = || column(&[-1.5, 0.1, 2.0]);
    check_both(classifier(&[0.2, 0.6, 0.9], "NONE"), x(), &[3, 5, 5], &[0.8, 0.2, 0.4, 0.6, 0.1, 0.9]);
    let mixed = classifier(&[-0.2, 0.6, 0.9], "NONE");
    check_both(mixed, x(), &[3, 5, 5], &[0.2, -0.2, -0.6, 0.6, -0.9, 0.9]);
    let logistic = classifier(&[-0.2, 0.6, 0.9], "LOGISTIC").floats("base_values", &[0.3]);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let scores: Vec<f64> = [0.1, 0.9, 1.2].iter().flat_map(|s| [sigmoid(-s), sigmoid(*s)]).collect();
    check_both(logistic, x(), &[5, 5, 5], &scores);
}

#[test]
fn trees_that_regress() {
    let node = |join| {
        tree("TreeEnsembleRegressor")
            .ints("target_treeids", &[0; 3])
            .ints("target_nodeids", &[1, 3, 4])
            .ints("target_ids", &[0, 0, 1])
            .floats("target_weights", &[0.5, -1.0, 2.0])
            .int("n_targets", 2)
            .text("aggregate_function", join)
    };
    let expected = [0.5, 0.0, -1.0, 0.0, 0.0, 2.0];
    for join in ["SUM", "AVERAGE", "MIN", "MAX"] {
        check(20, node(join), &[column(&[-1.5, 0.1, 2.0])], &[3, 2], &expected);
    }
    // A missing value goes where the nodes say.
    let tracks = node("SUM").ints("nodes_missing_value_tracks_true", &[0, 0, 1, 0, 0]);
    check(20, tracks, &[column(&[f32::NAN])], &[1, 2], &[-1.0, 0.0]);
}

/// A tree that is no tree, and one so deep that it is walked in a loop.
#[test]
fn circles_are_refused_and_chains_are_walked() {
    let depth = 40i64;
    let count = 2 * depth + 1;
    let inner = |at: i64| at < depth;
    let list = |f: &dyn Fn(i64) -> i64| (0..count).map(f).collect::<Vec<i64>>();
    let modes: Vec<&'static str> =
        (0..count).map(|at| if inner(at) { "BRANCH_GT" } else { "LEAF" }).collect();
    let splits: Vec<f32> = (0..count).map(|at| at as f32 + 0.5).collect();
    let node = op_of(ML, "TreeEnsembleRegressor")
        .ints("nodes_treeids", &list(&|_| 0))
        .ints("nodes_nodeids", &list(&|at| at))
        .ints("nodes_featureids", &list(&|_| 0))
        .ints("nodes_truenodeids", &list(&|at| if inner(at) { at + 1 } else { 0 }))
        .ints("nodes_falsenodeids", &list(&|at| if inner(at) { depth + 1 + at } else { 0 }))
        .floats("nodes_values", &splits)
        .ints("target_treeids", &list(&|_| 0))
        .ints("target_nodeids", &list(&|at| at))
        .ints("target_ids", &list(&|_| 0))
        .floats("target_weights", &(0..count).map(|at| at as f32).collect::<Vec<_>>())
        .int("n_targets", 1);
    let node = node.texts("nodes_modes", &modes);
    // 7 is over the splits of nodes 0 to 6, and leaves at node 7.
    check(20, node, &[column(&[7.0, 100.0])], &[2, 1], &[(depth + 1 + 7) as f64, depth as f64]);
}

#[test]
fn linear_models() {
    let node = |transform| {
        op_of(ML, "LinearClassifier")
            .floats("coefficients", &[1.0])
            .floats("intercepts", &[0.1])
            .ints("classlabels_ints", &[3, 5])
            .text("post_transform", transform)
    };
    let x = || column(&[-1.5, 0.1]);
    check_both(node("NONE"), x(), &[3, 5], &[2.4, -1.4, 0.8, 0.2]);
    check_both(node("LOGISTIC"), x(), &[3, 5], &[0.8021838, 0.1978162, 0.450166, 0.549834]);
    let node = op_of(ML, "LinearRegressor").floats("coefficients", &[1.0, 0.5]).int("targets", 2);
    let node = node.floats("intercepts", &[0.1, 0.2]).text("post_transform", "SOFTMAX");
    check(20, node, &[column(&[-1.5])], &[1, 2], &[0.299433, 0.700567]);
}

#[test]
fn support_vectors() {
    let node = op_of(ML, "SVMClassifier")
        .text("kernel_type", "RBF")
        .floats("kernel_params", &[0.5, 0.0, 0.0])
        .floats("support_vectors", &[0.0, 1.0])
        .floats("coefficients", &[1.0, -1.0])
        .floats("rho", &[0.0])
        .ints("vectors_per_class", &[1, 1])
        .ints("classlabels_ints", &[3, 5]);
    let (near, far) = (1.0, (-0.5f64).exp());
    check_both(node, column(&[0.0, 1.0]), &[3, 5], &[far - near, near - far, near - far, far - near]);
    let node = op_of(ML, "SVMRegressor")
        .text("kernel_type", "POLY")
        .floats("kernel_params", &[2.0, 1.0, 2.0])
        .floats("support_vectors", &[1.0, -1.0])
        .floats("coefficients", &[1.0, 0.5])
        .floats("rho", &[0.25])
        .int("n_supports", 2);
    check(20, node, &[column(&[1.0])], &[1, 1], &[9.0 + 0.5 + 0.25]);
}

/// Three classes, whose duels are coupled to probabilities; the class that wins most duels need not have the largest.
#[test]
fn probabilities_of_support_vectors() {
    let node = op_of(ML, "SVMClassifier")
        .text("kernel_type", "RBF")
        .floats("kernel_params", &[0.5, 0.0, 0.0])
        .floats("support_vectors", &[0.0, 1.0, 2.0])
        .floats("coefficients", &[1.0, -1.0, 0.5, -0.5, 1.0, -1.0])
        .floats("rho", &[0.1, -0.2, 0.3])
        .ints("vectors_per_class", &[1, 1, 1])
        .floats("prob_a", &[-1.0, -2.0, -1.5])
        .floats("prob_b", &[0.1, 0.0, -0.2])
        .ints("classlabels_ints", &[3, 5, 9]);
    let expected = [
        [0.283_181_67, 0.444_415_9, 0.272_402_55],
        [0.262_149_6, 0.522_423_2, 0.215_427_22],
        [0.346_831_02, 0.347_019_34, 0.306_149_7],
    ];
    check_both(node, column(&[0.0, 1.0, 2.5]), &[3, 5, 3], expected.as_flattened());
}

/// Base values are added to the score of their class, whoever votes.
#[test]
fn two_base_values_where_one_class_has_votes() {
    let node = classifier(&[0.2, 0.6, 0.9], "NONE").floats("base_values", &[0.1, 0.5]);
    check_both(node, column(&[-1.5, 0.1]), &[5, 3], &[0.3, 0.5, 0.7, 0.5]);
}

/// Scores with the labels that they are of stand for maps from labels to scores.
#[test]
fn maps_from_labels_to_scores() {
    let mut zip = node("ZipMap", &["x"], &["y"]).ints("classlabels_int64s", &[4, 2]);
    zip.domain = Some(ML.to_owned());
    let mut model = model(graph(vec![input_f32("x", &[2, 2])], vec![zip], &["y"]));
    model.opset_import.push(opset_of(ML, 1));
    let g = import(&model).unwrap();
    let names = g.outputs().iter().map(|value| g.value(*value).name.clone().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["y.keys", "y.values"]);
    let scores = f32s(&[2, 2], &[0.25, 0.75, 0.5, 0.5]);
    let found = run(&model, std::slice::from_ref(&scores));
    assert_eq!(found, [ints(&[4, 2]), scores]);
}

#[test]
fn features_made_ready() {
    let x = || Data(f32s(&[2, 2], &[3.0, -4.0, 0.0, 0.0]));
    let scaler = op_of(ML, "Scaler").floats("offset", &[1.0]).floats("scale", &[2.0, 10.0]);
    check(20, scaler, &[x()], &[2, 2], &[4.0, -50.0, -2.0, -10.0]);
    check(20, op_of(ML, "Normalizer").text("norm", "L2"), &[x()], &[2, 2], &[0.6, -0.8, 0.0, 0.0]);
    check(20, op_of(ML, "Binarizer").float("threshold", 1.0), &[x()], &[2, 2], &[1.0, 0.0, 0.0, 0.0]);
    let imputer = op_of(ML, "Imputer").floats("imputed_value_floats", &[7.0, 8.0]);
    check(20, imputer.float("replaced_value_float", 0.0), &[x()], &[2, 2], &[3.0, -4.0, 7.0, 8.0]);
    // Not by way of floats, which do not have these numbers.
    let big =
        op_of(ML, "Imputer").ints("imputed_value_int64s", &[(1 << 61) + 1]).int("replaced_value_int64", 5);
    let x64 = Data(Tensor::from_i64s(&[1, 2], &[(1 << 60) + 1, 5]));
    assert_eq!(outputs_of(20, big, &[x64], 1)[0].to_i64s(), [(1 << 60) + 1, (1 << 61) + 1]);
    let joined = op_of(ML, "FeatureVectorizer").ints("inputdimensions", &[1, 3]);
    check(20, joined, &[x(), x()], &[2, 4], &[3.0, 3.0, -4.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn determinants() {
    let x = Data(f32s(&[2, 2, 2], &[0.0, 2.0, 3.0, 4.0, 1.0, 2.0, 2.0, 4.0]));
    check(22, op("Det"), &[x], &[2], &[-6.0, 0.0]);
    let x =
        Tensor::from_f64s(ired_graph::DType::F64, &[3, 3], &[2.0, 0.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 2.0]);
    check(22, op("Det"), &[Data(x)], &[], &[6.0]);
}
