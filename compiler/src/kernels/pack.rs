//! Rearranges weights at compile time into the order that kernels read them in.

use ired_graph::DType;

use super::convolution::winograd::transforms::{SQUARE, TAPS, transform_filter};
use crate::dispatch::Packing;

/// Bytes moved by one thread before another is worth starting.
const BYTES_PER_THREAD: usize = 4 << 20;

/// `data`, elements of `dtype` in row-major order of `shape`, in the order `packing` says. What the order needs beyond
/// the data is zeros.
///
/// # Panics
/// When `data` is not as long as `shape` says, or `shape` has not the axes `packing` is about; both were decided
/// by the kernel's interface.
pub fn pack(packing: &Packing, dtype: DType, shape: &[u64], data: &[u8]) -> Vec<u8> {
    let count: u64 = shape.iter().product();
    assert_eq!(Some(data.len() as u64), dtype.bytes(count), "packing {shape:?}");
    if let Packing::Winograd { width } = packing {
        assert_eq!(dtype, DType::F32, "packing {shape:?}");
        return pack_transformed(*width as usize, shape, data);
    }
    let order = Order::new(packing, shape);
    let bits = dtype.bits();
    let panel_bytes = order.panel_bytes(dtype);
    fill_panels(order.panels, panel_bytes, &|first, part| match bits {
        8.. => order.fill(first, panel_bytes, part, &|panel, to, at| {
            let bytes = bits / 8;
            panel[to * bytes..][..bytes].copy_from_slice(&data[at * bytes..][..bytes]);
        }),
        _ => order.fill(first, panel_bytes, part, &|panel, to, at| {
            let code = data[at * bits / 8] >> (at * bits % 8) & (0xff >> (8 - bits));
            panel[to * bits / 8] |= code << (to * bits % 8);
        }),
    })
}

/// How many bytes [`pack`] gives.
pub fn packed_bytes(packing: &Packing, dtype: DType, shape: &[u64]) -> u64 {
    if let Packing::Winograd { width } = packing {
        return shape[0].div_ceil(*width) * SQUARE as u64 * shape[1] * width * size_of::<f32>() as u64;
    }
    let order = Order::new(packing, shape);
    (order.panels * order.panel_bytes(dtype)) as u64
}

/// Panels of zeros that `fill` wrote over: parts of several, each with the number of its first.
fn fill_panels(panels: usize, panel_bytes: usize, fill: &(dyn Fn(usize, &mut [u8]) + Sync)) -> Vec<u8> {
    let mut packed = vec![0u8; panels * panel_bytes];
    if packed.is_empty() {
        return packed;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(packed.len() / BYTES_PER_THREAD + 1);
    let panels_per_thread = panels.div_ceil(threads);
    std::thread::scope(|scope| {
        for (i, part) in packed.chunks_mut(panels_per_thread * panel_bytes).enumerate() {
            scope.spawn(move || fill(i * panels_per_thread, part));
        }
    });
    packed
}

/// Filters `[k, c, 3, 3]` of f32 as [`Packing::Winograd`] has them, each value rounded once.
fn pack_transformed(width: usize, shape: &[u64], data: &[u8]) -> Vec<u8> {
    const ELEMENT: usize = size_of::<f32>();
    let (filters, channels) = (shape[0] as usize, shape[1] as usize);
    let panel_bytes = SQUARE * channels * width * ELEMENT;
    let element = |at: usize| {
        let bytes = std::array::from_fn(|i| data[at * ELEMENT + i]);
        f64::from(f32::from_le_bytes(bytes))
    };
    let fill_panel = |number: usize, panel: &mut [u8]| {
        let lanes = width.min(filters - number * width);
        for (channel, lane) in (0..channels).flat_map(|c| (0..lanes).map(move |lane| (c, lane))) {
            let start = ((number * width + lane) * channels + channel) * TAPS * TAPS;
            let taps = std::array::from_fn(|y| std::array::from_fn(|x| element(start + y * TAPS + x)));
            for (i, value) in transform_filter(taps).as_flattened().iter().enumerate() {
                let at = ((i * channels + channel) * width + lane) * ELEMENT;
                panel[at..at + ELEMENT].copy_from_slice(&(*value as f32).to_le_bytes());
            }
        }
    };
    fill_panels(filters.div_ceil(width), panel_bytes, &|first, part| {
        part.chunks_mut(panel_bytes).enumerate().for_each(|(i, panel)| fill_panel(first + i, panel));
    })
}

/// A packed order as nested counts: panel, then rows of the panel, then lanes; with the source's strides.
struct Order {
    panels: usize,
    panel_elements: usize,
    width: usize,
    /// Rows that lie side by side, a lane's each time.
    depth: usize,
    /// Lanes that exist, over all panels of one group; the rest of the last panel is zeros.
    lanes: usize,
    panels_per_group: usize,
    group_stride: usize,
    lane_stride: usize,
    /// Sizes and strides of a panel's rows, outermost first; the innermost size is filled up to whole depths.
    rows: Vec<(usize, usize)>,
}

impl Order {
    fn panel_bytes(&self, dtype: DType) -> usize {
        (self.panel_elements * dtype.bits()).div_ceil(8)
    }

    fn new(packing: &Packing, shape: &[u64]) -> Self {
        let shape: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
        // `k` may be several axes, or none for one row.
        let split = |axes: Option<(&usize, &[usize])>| axes.map_or((1, 1), |(n, k)| (*n, k.iter().product()));
        let (groups, lanes, width, depth, group_stride, lane_stride, rows) = match packing {
            Packing::Panels { width, depth } => {
                let (n, k) = split(shape.split_last());
                (1, n, *width as usize, *depth, 0, 1, vec![(k, n)])
            }
            Packing::TransposedPanels { width, depth } => {
                let (n, k) = split(shape.split_first());
                (1, n, *width as usize, *depth, 0, k, vec![(k, 1)])
            }
            Packing::ConvPanels { groups, width, depth } => {
                let groups = (*groups).max(1) as usize;
                let (lanes, channels) = (shape[0] / groups, shape[1]);
                let window: usize = shape[2..].iter().product();
                let filter = channels * window;
                let rows = vec![(window, 1), (channels, window)];
                (groups, lanes, *width as usize, *depth, lanes * filter, filter, rows)
            }
            Packing::Winograd { .. } => unreachable!("transformed filters are not only moved"),
            Packing::Depthwise => {
                let window: usize = shape[1..].iter().product();
                (1, shape[0], shape[0].max(1), 1, 0, window, vec![(window, 1)])
            }
        };
        let panels_per_group = lanes.div_ceil(width);
        let depth = depth.max(1) as usize;
        let filled = rows.last().map_or(0, |(size, _)| size.next_multiple_of(depth));
        let panel_rows: usize = rows.iter().rev().skip(1).map(|(size, _)| size).product::<usize>() * filled;
        Self {
            panels: groups * panels_per_group,
            panel_elements: panel_rows * width,
            width,
            depth,
            lanes,
            panels_per_group,
            group_stride,
            lane_stride,
            rows,
        }
    }

    /// Fills `part`, which starts with panel `first`, by `copy(panel, to, from)` of each element.
    fn fill(
        &self,
        first: usize,
        panel_bytes: usize,
        part: &mut [u8],
        copy: &impl Fn(&mut [u8], usize, usize),
    ) {
        if panel_bytes == 0 {
            return;
        }
        for (i, panel) in part.chunks_mut(panel_bytes).enumerate() {
            let (group, column) = ((first + i) / self.panels_per_group, (first + i) % self.panels_per_group);
            let start = group * self.group_stride + column * self.width * self.lane_stride;
            let lanes = self.width.min(self.lanes - column * self.width);
            for row in 0..self.panel_elements / self.width {
                let Some(offset) = self.row_offset(row) else { continue };
                let first = row / self.depth * self.width * self.depth + row % self.depth;
                for lane in 0..lanes {
                    copy(panel, first + lane * self.depth, start + offset + lane * self.lane_stride);
                }
            }
        }
    }

    /// Where row `row` of a panel begins in the source; `None` for a row that only fills up.
    fn row_offset(&self, row: usize) -> Option<usize> {
        let ((innermost, stride), outer) = self.rows.split_last()?;
        let filled = innermost.next_multiple_of(self.depth);
        if row % filled >= *innermost {
            return None;
        }
        let (mut offset, mut rest) = (row % filled * stride, row / filled);
        for (size, stride) in outer.iter().rev() {
            offset += rest % size * stride;
            rest /= size;
        }
        Some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_and_their_transposes_agree_and_are_filled_up() {
        // [k = 2, n = 3] in panels of two.
        let panels = pack(&Packing::Panels { width: 2, depth: 1 }, DType::U8, &[2, 3], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(panels, [1, 2, 4, 5, 3, 0, 6, 0]);
        let transposed =
            pack(&Packing::TransposedPanels { width: 2, depth: 1 }, DType::U8, &[3, 2], &[1, 4, 2, 5, 3, 6]);
        assert_eq!(transposed, panels);
    }

    #[test]
    fn elements_of_half_a_byte_are_neighbours_in_words() {
        // [n = 2, k = 3] in panels of two lanes, eight deep; the first two elements are in the first byte.
        let packing = Packing::TransposedPanels { width: 2, depth: 8 };
        let packed = pack(&packing, DType::U4, &[2, 1, 3], &[0x21, 0x43, 0x65]);
        assert_eq!(packed_bytes(&packing, DType::U4, &[2, 1, 3]), packed.len() as u64);
        assert_eq!(packed, [0x21, 0x03, 0, 0, 0x54, 0x06, 0, 0]);
        assert_eq!(pack(&Packing::Panels { width: 2, depth: 1 }, DType::U8, &[3], &[1, 2, 3]), [1, 2, 3, 0]);
    }

    #[test]
    fn convolution_weights_go_group_panel_window_channel_lane() {
        // Two groups, three filters each of two channels, window of two.
        let data: Vec<u8> = (0..24).collect();
        let packed =
            pack(&Packing::ConvPanels { groups: 2, width: 2, depth: 1 }, DType::U8, &[6, 2, 2], &data);
        assert_eq!(packed[..8], [0, 4, 2, 6, 1, 5, 3, 7]);
        assert_eq!(packed[8..16], [8, 0, 10, 0, 9, 0, 11, 0]);
        assert_eq!(packed[16..20], [12, 16, 14, 18]);
        assert_eq!(pack(&Packing::Depthwise, DType::U8, &[2, 1, 3], &[1, 2, 3, 4, 5, 6]), [1, 4, 2, 5, 3, 6]);
    }

    #[test]
    fn neighbours_along_k_lie_side_by_side_and_are_filled_up() {
        // [k = 3, n = 2] in panels of two lanes, two deep.
        let panels = pack(&Packing::Panels { width: 2, depth: 2 }, DType::U8, &[3, 2], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(panels, [1, 3, 2, 4, 5, 0, 6, 0]);
        // One filter of three channels and a window of two: each tap is filled up by itself.
        let packing = Packing::ConvPanels { groups: 1, width: 1, depth: 4 };
        let packed = pack(&packing, DType::U8, &[1, 3, 2], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(packed, [1, 3, 5, 0, 2, 4, 6, 0]);
    }

    #[test]
    fn transformed_filters_go_panel_point_channel_lane() {
        // Three filters of two channels, told apart by their last tap: what stands at the last point as it is.
        let taps = |number: u64| (0..9).map(move |tap| if tap == 8 { number as f32 + 1.0 } else { 0.0 });
        let data: Vec<u8> = (0..6).flat_map(taps).flat_map(f32::to_le_bytes).collect();
        let packed = pack(&Packing::Winograd { width: 2 }, DType::F32, &[3, 2, 3, 3], &data);
        let packed: Vec<f32> =
            packed.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let (panels, points) = packed.as_chunks::<{ SQUARE * 4 }>();
        assert_eq!((panels.len(), points.len()), (2, 0));
        assert_eq!(panels[0][..4], [0.0; 4]);
        assert_eq!(panels[0][SQUARE * 4 - 4..], [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(panels[1][SQUARE * 4 - 4..], [5.0, 0.0, 6.0, 0.0]);
    }
}
