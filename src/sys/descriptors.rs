//! Descriptors that go from one process to another (unix(7), SCM_RIGHTS), and bytes that go as a descriptor.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use zeroize::Zeroizing;

/// Most descriptors in one message; the kernel's own limit is 253 (SCM_MAX_FD).
pub const DESCRIPTORS_MAX: usize = 200;

/// Sends `bytes`, and with their first byte the descriptors. Returns how many bytes went out.
///
/// # Errors
/// As `sendmsg(2)`, `WouldBlock` included. No descriptor was sent then. Never raises SIGPIPE.
pub fn send_with_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[][..] } else { &rights[..] };
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(sent)
}

/// Receives into `bytes` and appends the descriptors that came along, all close-on-exec. Returns the number of bytes; 0 is
/// the end of the stream.
///
/// # Errors
/// As `recvmsg(2)`, or `InvalidData` if the kernel could not hand over all descriptors (EMFILE); those that arrived are closed.
pub fn receive_with_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut control = cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let mut slices = [IoSliceMut::new(bytes)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut received = Vec::new();
    let complete = match message.cmsgs() {
        Ok(all) => {
            for one in all {
                if let ControlMessageOwned::ScmRights(numbers) = one {
                    received.extend(numbers.into_iter().map(super::own_received));
                }
            }
            true
        }
        Err(_) => false,
    };
    if !complete || message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors were lost on the way (descriptor limit?)"));
    }
    descriptors.append(&mut received);
    Ok(message.bytes)
}

/// Memory that can be sent as a descriptor, filled with `bytes` and sealed against any change (memfd_create(2)).
///
/// # Errors
/// The system's reason, such as no memory.
pub fn sealed_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = memfd_create(c"material", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(memory);
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
        assert_eq!(send_with_descriptors(left.as_fd(), b"x", &[writer.as_fd()]).unwrap(), 1);
        drop(writer);
        let (mut byte, mut received) = ([0], Vec::new());
        assert_eq!(receive_with_descriptors(right.as_fd(), &mut byte, &mut received).unwrap(), 1);
        assert_eq!((byte, received.len()), (*b"x", 1));
        let flags = fcntl(&received[0], FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC);
        File::from(received.pop().unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn the_end_of_the_stream_is_zero_bytes() {
        let (left, right) = UnixStream::pair().unwrap();
        drop(left);
        assert_eq!(receive_with_descriptors(right.as_fd(), &mut [0], &mut Vec::new()).unwrap(), 0);
    }

    #[test]
    fn sealed_memory_reads_back_and_cannot_be_changed() {
        let memory = sealed_memory(b"secret").unwrap();
        let writable = memory.try_clone().unwrap();
        assert!(File::from(writable).write_all(b"more").is_err());
        assert_eq!(read_sealed_memory(memory.try_clone().unwrap(), 6).unwrap().as_slice(), b"secret");
        assert_eq!(read_sealed_memory(memory.try_clone().unwrap(), 6).unwrap().as_slice(), b"secret");
        assert!(read_sealed_memory(memory, 5).is_err());
    }
}
