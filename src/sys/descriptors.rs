//! Descriptors that go from one process to another (unix(7), SCM_RIGHTS), and bytes that go as a descriptor.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use zeroize::Zeroizing;

/// Sends `bytes`, and with their first byte the descriptor. Returns how many bytes went out.
///
/// # Errors
/// As `sendmsg(2)`, `WouldBlock` included. No descriptor was sent then. Never raises SIGPIPE.
pub fn send_with_descriptor(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let number: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&number)];
    let control = if number.is_empty() { &[][..] } else { &rights[..] };
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(sent)
}

/// Sends a datagram to the socket at `address`, and the descriptor with it.
///
/// # Errors
/// As `sendmsg(2)`; nothing was sent then.
pub fn send_datagram(
    socket: BorrowedFd<'_>,
    address: &UnixAddr,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let number: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&number)];
    let control = if number.is_empty() { &[][..] } else { &rights[..] };
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, Some(address))?;
    Ok(())
}

/// What came with a byte.
#[derive(Debug)]
pub enum Passed {
    /// No descriptor.
    Nothing,
    /// A descriptor, close-on-exec.
    Descriptor(OwnedFd),
    /// A descriptor that this process has no room for (EMFILE).
    Lost,
}

/// Receives into `bytes`, and the descriptor that came along. Returns the number of bytes; 0 is the end of the stream.
///
/// One descriptor at a time: of several, those that still fit would be open in this process without anybody knowing their
/// numbers, because the control message that lists them is cut.
///
/// # Errors
/// As `recvmsg(2)`.
pub fn receive_with_descriptor(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Passed)> {
    let mut control = cmsg_space!(RawFd);
    let mut slices = [IoSliceMut::new(bytes)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let Ok(all) = message.cmsgs() else {
        return Ok((message.bytes, Passed::Lost));
    };
    let mut passed = Passed::Nothing;
    for one in all {
        if let ControlMessageOwned::ScmRights(numbers) = one {
            // Each is owned, so that those that were not asked for are closed.
            let owned: Vec<OwnedFd> = numbers.into_iter().map(super::own_received).collect();
            passed = owned.into_iter().next_back().map_or(passed, Passed::Descriptor);
        }
    }
    Ok((message.bytes, passed))
}

/// Memory that is a descriptor (memfd_create(2)), close-on-exec; `/proc` shows its name.
///
/// # Errors
/// The system's reason, such as no memory.
pub fn memory(name: &CStr) -> io::Result<OwnedFd> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?)
}

/// The same, filled with `bytes` and sealed against any change.
///
/// # Errors
/// The system's reason, such as no memory.
pub fn sealed_memory(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memory(name)?);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// What [`sealed_memory`] holds. It is wiped when dropped, because keys are in it.
///
/// # Errors
/// It is not exactly `length` bytes long.
pub fn read_sealed_memory(memory: OwnedFd, length: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut file = File::from(memory);
    if file.metadata()?.len() != length {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the material has not the announced length"));
    }
    // The offset is shared with the sender, who left it at the end.
    file.rewind()?;
    let capacity = usize::try_from(length).map_err(io::Error::other)?;
    // Filled in place: a vector that grows would leave copies of keys behind.
    let mut bytes = Zeroizing::new(vec![0; capacity]);
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_arrives_and_is_closed_on_exec() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut reader, writer) = UnixStream::pair().unwrap();
        assert_eq!(send_with_descriptor(left.as_fd(), b"xy", Some(writer.as_fd())).unwrap(), 2);
        drop(writer);
        let mut byte = [0];
        let Ok((1, Passed::Descriptor(received))) = receive_with_descriptor(right.as_fd(), &mut byte) else {
            panic!("a descriptor was sent");
        };
        assert_eq!(byte, *b"x");
        assert!(matches!(receive_with_descriptor(right.as_fd(), &mut byte).unwrap(), (1, Passed::Nothing)));
        let flags = fcntl(&received, FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC);
        File::from(received).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn of_two_descriptors_the_last_is_taken_and_the_other_closed() {
        let (left, right) = UnixStream::pair().unwrap();
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let other = memory(c"other").unwrap();
        let numbers = [writer.as_raw_fd(), other.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<()>(left.as_raw_fd(), &[IoSlice::new(b"x")], &rights, MsgFlags::empty(), None).unwrap();
        drop(writer);
        let received = receive_with_descriptor(right.as_fd(), &mut [0]).unwrap();
        assert!(matches!(received, (1, Passed::Descriptor(_))));
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "nobody has the first any more");
    }

    #[test]
    fn the_end_of_the_stream_is_zero_bytes() {
        let (left, right) = UnixStream::pair().unwrap();
        drop(left);
        assert!(matches!(receive_with_descriptor(right.as_fd(), &mut [0]).unwrap(), (0, Passed::Nothing)));
    }

    #[test]
    fn sealed_memory_reads_back_and_cannot_be_changed() {
        let memory = sealed_memory(c"test", b"secret").unwrap();
        let writable = memory.try_clone().unwrap();
        assert!(File::from(writable).write_all(b"more").is_err());
        assert_eq!(read_sealed_memory(memory.try_clone().unwrap(), 6).unwrap().as_slice(), b"secret");
        assert_eq!(read_sealed_memory(memory.try_clone().unwrap(), 6).unwrap().as_slice(), b"secret");
        assert!(read_sealed_memory(memory, 5).is_err());
    }
}
