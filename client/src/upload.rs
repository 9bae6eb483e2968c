//! Sending a model and its external data.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use ired_proto::ired::v1::upload_model_request::{File, Part, Start};
use ired_proto::ired::v1::{UploadModelRequest, UploadModelResponse};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{Client, ClientError};

const CHUNK_BYTES: usize = 1 << 20;
/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 4;

/// A model to send.
#[derive(Clone, Debug)]
pub struct Upload {
    pub name: String,
    /// `None`: one more than the newest.
    pub version: Option<u64>,
    /// The model first, then its external data.
    pub files: Vec<UploadFile>,
}

/// A file of a model.
#[derive(Clone, Debug)]
pub struct UploadFile {
    /// Relative, as the model refers to it: `model.onnx`, `weights/part0.bin`.
    pub path: String,
    /// Where it is here.
    pub source: PathBuf,
}

/// How far an upload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadProgress {
    pub file: String,
    /// Of all files together.
    pub sent_bytes: u64,
    pub total_bytes: u64,
}

impl Client {
    /// Sends a model; when this returns, the daemon keeps it across a crash. `progress` is called after each
    /// chunk.
    ///
    /// # Errors
    /// [`ClientError::Read`] for a file that cannot be read; else what the daemon says.
    pub async fn upload(
        &self,
        upload: Upload,
        progress: impl FnMut(UploadProgress),
    ) -> Result<UploadModelResponse, ClientError> {
        let (parts, received) = mpsc::channel(CHUNKS_AHEAD);
        let mut models = self.models.clone();
        let answer =
            async move { Ok(models.upload_model(ReceiverStream::new(received)).await?.into_inner()) };
        // An error on this side drops the call, which the daemon sees as cancelled, not as complete.
        let ((), answer) = tokio::try_join!(send(upload, parts, progress), answer)?;
        Ok(answer)
    }
}

async fn send(
    upload: Upload,
    parts: mpsc::Sender<UploadModelRequest>,
    mut progress: impl FnMut(UploadProgress),
) -> Result<(), ClientError> {
    let mut files = Vec::with_capacity(upload.files.len());
    for file in upload.files {
        let read = |cause| ClientError::Read { path: file.source.clone(), cause };
        let open = tokio::fs::File::open(&file.source).await.map_err(read)?;
        let bytes = open.metadata().await.map_err(read)?.len();
        files.push((file, open, bytes));
    }
    let total_bytes = files.iter().map(|(_, _, bytes)| bytes).sum();
    let mut sent_bytes = 0;

    let start = Start { name: upload.name, version: upload.version.unwrap_or(0) };
    if !offer(&parts, Part::Start(start)).await {
        return Ok(());
    }
    for (file, mut open, bytes) in files {
        if !offer(&parts, Part::File(File { path: file.path.clone(), bytes })).await {
            return Ok(());
        }
        loop {
            let chunk = read_chunk(&mut open)
                .await
                .map_err(|cause| ClientError::Read { path: file.source.clone(), cause })?;
            if chunk.is_empty() {
                break;
            }
            sent_bytes += chunk.len() as u64;
            if !offer(&parts, Part::Chunk(chunk)).await {
                return Ok(());
            }
            progress(UploadProgress { file: file.path.clone(), sent_bytes, total_bytes });
        }
    }
    Ok(())
}

/// False when the call has ended; its answer says why.
async fn offer(parts: &mpsc::Sender<UploadModelRequest>, part: Part) -> bool {
    parts.send(UploadModelRequest { part: Some(part) }).await.is_ok()
}

async fn read_chunk(file: &mut tokio::fs::File) -> std::io::Result<Bytes> {
    let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
    while chunk.len() < CHUNK_BYTES {
        let room = (CHUNK_BYTES - chunk.len()) as u64;
        if file.take(room).read_buf(&mut chunk).await? == 0 {
            break;
        }
    }
    Ok(chunk.freeze())
}
