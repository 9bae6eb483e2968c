//! Decoding images.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, ImageReader};
use serde::{Deserialize, Serialize};

use crate::call::Attributes;
use crate::error::HostError;
use crate::functions::{Context, Function};
use crate::tensor::{DType, HostTensor, TensorView};

/// What a pixel of the result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PixelFormat {
    Rgb,
    Bgr,
    Grayscale,
}

/// An encoded image (u8, one axis) as pixels, u8 of `[height, width, 3]`, or `[height, width, 1]` in grays. Formats are
/// recognised by their first bytes: BMP, JPEG, JPEG 2000, PNG, PNM, TIFF and WebP. Transparency is dropped, of an
/// animation the first image is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecodeImage {
    pub pixels: PixelFormat,
}

impl Attributes for DecodeImage {
    const FUNCTION: &'static str = "decode_image.1";
}

impl DecodeImage {
    /// Pixels along one side, at most.
    pub const MAX_SIDE: u32 = 1 << 16;
}

const MAX_SIDE: u32 = DecodeImage::MAX_SIDE;

impl Function for DecodeImage {
    fn run(
        &self,
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError> {
        let [x] = context.exactly(operands)?;
        context.dtype(&x, DType::U8)?;
        if x.dims.len() != 1 {
            return Err(context.operands("bytes along one axis", format!("{:?}", x.dims)));
        }
        // Decoders run to their end.
        context.work(u64::MAX)?;
        let decoder = if is_jpeg2000(x.data) { decode_jpeg2000 } else { decode };
        // The decoders are others' code, and images are made to find its faults.
        let decoded = catch_unwind(AssertUnwindSafe(|| decoder(x.data, context)));
        let (height, width, rgb, gray) =
            decoded.unwrap_or_else(|_| Err(context.value("the decoder fails on this image")))?;
        context.work(u64::MAX)?;
        let (channels, data) = match self.pixels {
            PixelFormat::Rgb => (3, rgb),
            PixelFormat::Bgr => (3, rgb.as_chunks::<3>().0.iter().flat_map(|&[r, g, b]| [b, g, r]).collect()),
            PixelFormat::Grayscale => (1, gray.unwrap_or_else(|| grays(&rgb))),
        };
        let dims = vec![u64::from(height), u64::from(width), channels];
        Ok(vec![HostTensor { dtype: DType::U8, dims, data }])
    }
}

/// Height, width, three bytes a pixel, and the grays themselves where the image has nothing else.
type Decoded = (u32, u32, Vec<u8>, Option<Vec<u8>>);

/// The luma of each pixel as ITU-R 601 weighs it, in the fixed-point arithmetic of the operator's reference.
fn grays(rgb: &[u8]) -> Vec<u8> {
    let luma = |&[r, g, b]: &[u8; 3]| {
        ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
    };
    rgb.as_chunks::<3>().0.iter().map(luma).collect()
}

fn decode(data: &[u8], context: &Context<'_>) -> Result<Decoded, HostError> {
    let fault = |error: image::ImageError| context.value(format!("no image: {error}"));
    let mut reader = ImageReader::new(Cursor::new(data))
        .with_guessed_format()
        .map_err(|error| context.value(format!("no image: {error}")))?;
    if reader.format().is_none() {
        return Err(context.value("the bytes are in no known image format"));
    }
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    // Decoding, and two copies of the pixels.
    limits.max_alloc = Some(context.limits.bytes / 3);
    reader.limits(limits);
    let image = reader.decode().map_err(fault)?;
    let (width, height) = (image.width(), image.height());
    let pixels = u64::from(width) * u64::from(height);
    context.reserve(pixels.checked_mul(6))?;
    let gray = match &image {
        DynamicImage::ImageLuma8(gray) => Some(gray.as_raw().clone()),
        _ => None,
    };
    Ok((height, width, image.into_rgb8().into_raw(), gray))
}

/// The file format, or the bare code stream.
fn is_jpeg2000(data: &[u8]) -> bool {
    data.starts_with(b"\x00\x00\x00\x0cjP  \r\n\x87\n") || data.starts_with(b"\xff\x4f\xff\x51")
}

fn decode_jpeg2000(data: &[u8], context: &Context<'_>) -> Result<Decoded, HostError> {
    use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};
    let fault = |problem: String| context.value(format!("no image: {problem}"));
    let image = Image::new(data, &DecodeSettings::default()).map_err(|error| fault(error.to_string()))?;
    let (width, height) = (image.width(), image.height());
    let channels = usize::from(image.color_space().num_channels()) + usize::from(image.has_alpha());
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(fault(format!("{width} by {height} pixels; at most {MAX_SIDE} along each side")));
    }
    // Coefficients and samples are floats, of each channel, and a copy of each; then bytes.
    let pixels = u64::from(width) * u64::from(height);
    context.reserve(pixels.checked_mul(16 * channels as u64 + 6))?;
    let mut decoder = DecoderContext::default();
    let samples = image.decode(&mut decoder).map_err(|error| fault(error.to_string()))?.data_u8();
    if samples.len() as u64 != pixels.saturating_mul(channels as u64) {
        return Err(fault(format!("{channels} channels of different sizes")));
    }
    let (rgb, gray) = match image.color_space().num_channels() {
        1 => {
            let gray: Vec<u8> = samples.chunks_exact(channels).map(|pixel| pixel[0]).collect();
            (gray.iter().flat_map(|&g| [g; 3]).collect(), Some(gray))
        }
        3 => {
            (samples.chunks_exact(channels).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(), None)
        }
        other => return Err(fault(format!("{other} channels of colour; 1 and 3 are supported"))),
    };
    Ok((height, width, rgb, gray))
}
