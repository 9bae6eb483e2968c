//! The encoding of frames and the two system calls under them.
//!
//! A header is eight bytes: the payload's length (u32, little-endian), the number of file descriptors (u8), three
//! zeros. The descriptors travel with the frame's first byte.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ChannelError, MAX_FRAME_BYTES, MAX_FRAME_FDS};

const HEADER_BYTES: usize = 8;
const READ_BYTES: usize = 64 << 10;

/// The frame of one message that carries `fds` descriptors.
pub(crate) fn encode(message: &impl Serialize, fds: usize) -> Result<Vec<u8>, ChannelError> {
    let Some(fd_count) = u8::try_from(fds).ok().filter(|_| fds <= MAX_FRAME_FDS) else {
        return Err(ChannelError::TooManyFds { found: fds });
    };
    let header = vec![0, 0, 0, 0, fd_count, 0, 0, 0];
    let mut frame = postcard::to_extend(message, header).map_err(ChannelError::Encode)?;
    let found_bytes = frame.len() - HEADER_BYTES;
    match u32::try_from(found_bytes) {
        Ok(length) if found_bytes <= MAX_FRAME_BYTES => frame[..4].copy_from_slice(&length.to_le_bytes()),
        _ => return Err(ChannelError::TooLarge { found_bytes }),
    }
    Ok(frame)
}

/// Sends what the socket takes of `bytes`, with the descriptors; returns how many bytes went.
pub(crate) fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[OwnedFd],
) -> Result<usize, rustix::io::Errno> {
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FRAME_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(rustix::io::Errno::INVAL);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
}

/// Receives once; 0 bytes mean that the other side closed. `flags` may ask not to wait.
pub(crate) fn receive_some(
    socket: BorrowedFd<'_>,
    incoming: &mut Incoming,
    flags: RecvFlags,
) -> Result<usize, ChannelError> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FRAME_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    incoming.drained = false;
    let room = incoming.room();
    let size = room.len();
    let mut slices = [IoSliceMut::new(room)];
    let received = recvmsg(socket, &mut slices, &mut control, flags | RecvFlags::CMSG_CLOEXEC)?;
    let got = received.bytes;
    incoming.end += got;
    // A read ends early behind descriptors, too.
    incoming.drained = got < size;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            incoming.fds.extend(fds);
            incoming.drained = false;
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) || incoming.fds.len() > 2 * MAX_FRAME_FDS {
        return Err(ChannelError::StrayFds);
    }
    Ok(got)
}

/// Where a frame's payload lies, and what came with it.
type Frame = (Range<usize>, Vec<OwnedFd>);

/// Bytes and descriptors that arrived and are not yet taken as messages.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// Those of `start..end` wait to be taken; what follows is room that was written before.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    fds: VecDeque<OwnedFd>,
    /// Whether the last read took all there was.
    drained: bool,
}

impl Incoming {
    /// The next whole message, or `None` when more must arrive first.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
        let Some((payload, fds)) = self.next_frame()? else { return Ok(None) };
        let message = decode_all(&self.bytes[payload])?;
        Ok(Some((message, fds)))
    }

    /// The next message if it is there already, taken or not yet received; does not wait.
    pub(crate) fn next_ready<T: DeserializeOwned>(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
        loop {
            if let Some(message) = self.next()? {
                return Ok(Some(message));
            }
            if self.take_drained() {
                return Ok(None);
            }
            match receive_some(socket, self, RecvFlags::DONTWAIT) {
                Ok(0) => return Err(ChannelError::Closed),
                Ok(_) => {}
                Err(ChannelError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(ChannelError::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next whole frame as raw bytes.
    pub(crate) fn next_bytes(&mut self) -> Result<Option<Vec<u8>>, ChannelError> {
        let Some((payload, fds)) = self.next_frame()? else { return Ok(None) };
        if !fds.is_empty() {
            return Err(ChannelError::StrayFds);
        }
        Ok(Some(self.bytes[payload].to_vec()))
    }

    /// Whether the last read took all there was; asked again it says no, as more may have come.
    pub(crate) fn take_drained(&mut self) -> bool {
        std::mem::take(&mut self.drained)
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, ChannelError> {
        let available = &self.bytes[self.start..self.end];
        let Some((header, rest)) = available.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [l0, l1, l2, l3, fd_count, ..] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let announced = usize::from(fd_count);
        if length > MAX_FRAME_BYTES {
            return Err(ChannelError::TooLarge { found_bytes: length });
        }
        if announced > MAX_FRAME_FDS {
            return Err(ChannelError::TooManyFds { found: announced });
        }
        if rest.len() < length {
            return Ok(None);
        }
        if self.fds.len() < announced {
            return Err(ChannelError::MissingFds { announced, found: self.fds.len() });
        }
        let first = self.start + HEADER_BYTES;
        self.start = first + length;
        Ok(Some((first..first + length, self.fds.drain(..announced).collect())))
    }

    /// Where the next bytes go: behind those that wait.
    fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let size = self.end + READ_BYTES;
        // Smaller after a long frame, too.
        if self.bytes.len() < size || self.bytes.len() > size + READ_BYTES {
            self.bytes.resize(size, 0);
            self.bytes.shrink_to(size);
        }
        &mut self.bytes[self.end..]
    }
}

/// Decodes a message that must take all of `bytes`.
pub(crate) fn decode_all<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ChannelError> {
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(ChannelError::Decode)?;
    if rest.is_empty() { Ok(message) } else { Err(ChannelError::Decode(postcard::Error::SerdeDeCustom)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(incoming: &mut Incoming, bytes: &[u8]) {
        for bytes in bytes.chunks(READ_BYTES) {
            incoming.room()[..bytes.len()].copy_from_slice(bytes);
            incoming.end += bytes.len();
        }
    }

    #[test]
    fn frames_survive_any_split() {
        let messages = ["".to_owned(), "a".repeat(10), "b".repeat(70_000)];
        let stream: Vec<u8> = messages.iter().flat_map(|m| encode(m, 0).unwrap()).collect();
        for step in [1, 7, 4096, stream.len()] {
            let mut incoming = Incoming::default();
            let mut found: Vec<String> = Vec::new();
            for part in stream.chunks(step) {
                feed(&mut incoming, part);
                while let Some((message, _)) = incoming.next().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, messages);
        }
    }

    #[test]
    fn hostile_headers_are_named_errors() {
        let next = |bytes: &[u8]| {
            let mut incoming = Incoming::default();
            feed(&mut incoming, bytes);
            incoming.next::<String>()
        };
        assert!(matches!(next(&[255, 255, 255, 255, 0, 0, 0, 0]), Err(ChannelError::TooLarge { .. })));
        assert!(matches!(next(&[1, 0, 0, 0, 200, 0, 0, 0, 0]), Err(ChannelError::TooManyFds { .. })));
        assert!(matches!(next(&[1, 0, 0, 0, 1, 0, 0, 0, 0]), Err(ChannelError::MissingFds { .. })));
        // A string that says it is 2^60 bytes long, and one with a byte too many after it.
        let long = [9, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert!(matches!(next(&long), Err(ChannelError::Decode(_))));
        assert!(matches!(next(&[3, 0, 0, 0, 0, 0, 0, 0, 1, b'a', b'b']), Err(ChannelError::Decode(_))));
        assert!(next(&[3, 0, 0, 0, 0, 0, 0, 0, 1, b'a']).unwrap().is_none());
    }

    #[test]
    fn a_message_beyond_the_limit_is_not_sent() {
        assert!(matches!(encode(&vec![0u8; MAX_FRAME_BYTES + 1], 0), Err(ChannelError::TooLarge { .. })));
        assert!(matches!(encode(&0u8, MAX_FRAME_FDS + 1), Err(ChannelError::TooManyFds { .. })));
    }
}
