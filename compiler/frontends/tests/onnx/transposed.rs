//! Transposed convolutions against their definition.

use crate::build::*;
use crate::one_node::{Given::*, *};

struct Case {
    input: [usize; 2],
    /// Channels and kernels of a group.
    channels: usize,
    kernels: usize,
    groups: usize,
    window: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    before: [usize; 2],
    after: [usize; 2],
    extra: [usize; 2],
}

impl Case {
    fn output(&self) -> [usize; 2] {
        [0, 1].map(|a| {
            let spread = self.stride[a] * (self.input[a] - 1) + self.dilation[a] * (self.window[a] - 1) + 1;
            spread + self.extra[a] - self.before[a] - self.after[a]
        })
    }

    /// Every input element paints the weights of its channel.
    fn expected(&self, x: &[f64], weights: &[f64]) -> Vec<f64> {
        let ([height, width], [rows, columns], [tall, wide]) = (self.output(), self.input, self.window);
        let mut result = vec![0.0; self.groups * self.kernels * height * width];
        let brushes = weights.chunks(self.kernels * tall * wide);
        for (channel, (image, brush)) in x.chunks(rows * columns).zip(brushes).enumerate() {
            for (at, value) in image.iter().enumerate() {
                for (part, weight) in brush.iter().enumerate() {
                    let place = |a: usize, index: usize, tap: usize| {
                        let place =
                            (self.stride[a] * index + self.dilation[a] * tap).checked_sub(self.before[a])?;
                        (place < [height, width][a]).then_some(place)
                    };
                    let y = place(0, at / columns, part / wide % tall);
                    let x = place(1, at % columns, part % wide);
                    let (Some(y), Some(x)) = (y, x) else { continue };
                    let filter = channel / self.channels * self.kernels + part / wide / tall;
                    result[(filter * height + y) * width + x] += value * weight;
                }
            }
        }
        result
    }

    #[track_caller]
    fn check(&self) {
        let whole = |sizes: [usize; 2]| sizes.map(|size| size as i64);
        let pads = [whole(self.before), whole(self.after)].concat();
        let node = op("ConvTranspose")
            .int("group", self.groups as i64)
            .ints("strides", &whole(self.stride))
            .ints("dilations", &whole(self.dilation))
            .ints("output_padding", &whole(self.extra))
            .ints("pads", &pads);
        let shape = |sizes: [usize; 4]| sizes.map(|size| size as u64);
        let x = counting(&shape([1, self.groups * self.channels, self.input[0], self.input[1]]));
        let weights =
            counting(&shape([self.groups * self.channels, self.kernels, self.window[0], self.window[1]]));
        let expected = self.expected(&x.to_f64s(), &weights.to_f64s());
        let [height, width] = self.output();
        let result = shape([1, self.groups * self.kernels, height, width]);
        check(11, node, &[Data(x), Weight(weights)], &result, &expected);
    }
}

#[test]
fn every_phase_of_a_stride_has_its_own_taps() {
    let plain = || Case {
        input: [3, 4],
        channels: 2,
        kernels: 3,
        groups: 1,
        window: [2, 2],
        stride: [2, 2],
        dilation: [1, 1],
        before: [0, 0],
        after: [0, 0],
        extra: [0, 0],
    };
    plain().check();
    Case { groups: 2, ..plain() }.check();
    Case { window: [3, 4], stride: [2, 3], ..plain() }.check();
    Case { window: [4, 4], before: [1, 1], after: [1, 1], ..plain() }.check();
    Case { window: [5, 3], stride: [3, 2], before: [2, 0], after: [1, 2], extra: [1, 1], ..plain() }.check();
    Case { window: [5, 5], stride: [2, 1], groups: 3, before: [4, 1], after: [0, 3], ..plain() }.check();
    // Phases without taps, and taps of one phase that lie in another.
    Case { window: [1, 2], stride: [3, 2], extra: [2, 0], ..plain() }.check();
    Case { window: [3, 2], dilation: [2, 1], ..plain() }.check();
    Case { input: [1, 1], window: [4, 2], stride: [4, 2], ..plain() }.check();
}
