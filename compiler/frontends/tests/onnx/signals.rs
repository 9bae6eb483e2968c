//! Spectra and what signals are weighed with, against the numbers of ONNX's own implementation.

use crate::build::*;
use crate::one_node::{Given::*, *};

#[test]
fn spectra() {
    let x = || Data(f32s(&[1, 3, 1], &[1.0, 2.0, 4.0]));
    let whole = [7.0, 0.0, -2.0, 1.732051, -2.0, -1.732051];
    check(17, op("DFT"), &[x()], &[1, 3, 2], &whole);
    check(20, op("DFT"), &[x()], &[1, 3, 2], &whole);
    check(20, op("DFT").int("onesided", 1), &[x()], &[1, 2, 2], &whole[..4]);
    // The axis and the length only the run knows.
    let scalar = |value| Data(ired_graph::Tensor::from_i64s(&[], &[value]));
    check(20, op("DFT"), &[x(), scalar(2), scalar(-2)], &[1, 2, 2], &[3.0, 0.0, -1.0, 0.0]);
    let back = || Data(f32s(&[1, 3, 2], &[7.0, 0.0, -2.0, 1.732051, -2.0, -1.732051]));
    check(20, op("DFT").int("inverse", 1), &[back()], &[1, 3, 2], &[1.0, 0.0, 2.0, 0.0, 4.0, 0.0]);
    let half = Data(f32s(&[1, 2, 2], &[7.0, 0.0, -2.0, 1.732051]));
    let node = op("DFT").int("inverse", 1).int("onesided", 1);
    check(20, node, &[half, scalar(3)], &[1, 3, 1], &[1.0, 2.0, 4.0]);
}

#[test]
fn spectra_of_frames() {
    let window = || Weight(f32s(&[4], &[1.0, 2.0, 2.0, 1.0]));
    let given = [Data(counting(&[1, 6, 1])), scalar(2), window()];
    let expected = [9.0, 0.0, -4.0, 1.0, -1.0, 0.0, 21.0, 0.0, -6.0, -1.0, -1.0, 0.0];
    check(17, op("STFT"), &given, &[1, 2, 3, 2], &expected);
}

#[test]
fn window_functions() {
    let size = || Data(ired_graph::Tensor::from_i64s(&[], &[4]));
    check(17, op("HannWindow"), &[size()], &[4], &[0.0, 0.5, 1.0, 0.5]);
    let symmetric = op("HammingWindow").int("periodic", 0);
    check(17, symmetric, &[size()], &[4], &[0.0869565, 0.771739, 0.771739, 0.0869565]);
    check(17, op("BlackmanWindow"), &[size()], &[4], &[0.0, 0.34, 1.0, 0.34]);
}

#[test]
fn mel_filters() {
    let float = |value| Weight(f32s(&[], &[value]));
    let given = [scalar(2), scalar(8), scalar(8000), float(0.0), float(4000.0)];
    let expected = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    check(17, op("MelWeightMatrix"), &given, &[5, 2], &expected);
}
