//! Encoded images.

use ired_graph::{Builder, DType, Dim, TensorType};
use ired_host::{DecodeImage, PixelFormat};

use super::call::{Call, Outcome, invalid};

pub(super) fn decode(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let (pixels, channels) = match call.attributes.text("pixel_format")?.unwrap_or("RGB") {
        "RGB" => (PixelFormat::Rgb, 3),
        "BGR" => (PixelFormat::Bgr, 3),
        "Grayscale" => (PixelFormat::Grayscale, 1),
        other => return invalid(format!("attribute `pixel_format` is `{other}`")),
    };
    let sides = ["height", "width"].map(|name| {
        let side = b.graph.symbols.fresh(name);
        let symbol = b.graph.symbols.get_mut(side);
        (symbol.min, symbol.max) = (1, DecodeImage::MAX_SIDE.into());
        side
    });
    let shape = vec![Dim::symbol(sides[0]), Dim::symbol(sides[1]), Dim::constant(channels)];
    let ty = TensorType::new(DType::U8, shape);
    Ok(b.host(&DecodeImage { pixels }, &[x], vec![ty], sides.to_vec())?[0])
}
