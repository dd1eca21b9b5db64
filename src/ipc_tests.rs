use std::io::Write;
use std::net::TcpListener;

use super::*;
use crate::conf::model::BindAddress;

fn pair() -> (Channel, Channel) {
    let (left, right) = UnixStream::pair().unwrap();
    (Channel::new(left), Channel::new(right))
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn adopt(generation: u64, descriptors: usize) -> ToWorker {
    let key = BindAddress::Inet { address: "127.0.0.1:443".parse().unwrap(), v6only: None, interface: None };
    let descriptors =
        (0..descriptors).map(|index| DescriptorRole::Listener { key: key.clone(), loop_index: index as u16 });
    ToWorker::Adopt(Adopt {
        generation,
        material_bytes: 0,
        descriptors: descriptors.collect(),
        hard_stop_after: Some(Duration::from_secs(1)),
        forbid_warnings: true,
    })
}

#[test]
fn messages_arrive_in_order_with_their_own_descriptors() {
    let (mut master, mut worker) = pair();
    let (reader, writer) = UnixStream::pair().unwrap();
    let descriptors: Vec<Arc<OwnedFd>> = vec![Arc::new(reader.into()), Arc::new(writer.into())];
    master.queue(&ToWorker::Detach, &[]).unwrap();
    master.queue(&adopt(7, 2), &descriptors).unwrap();
    master.queue(&ToWorker::Stop, &[]).unwrap();
    drop(descriptors);
    assert!(master.flush().unwrap() && !master.has_outgoing());

    assert!(matches!(worker.poll_receive().unwrap(), Incoming::Message(ToWorker::Detach, none) if none.is_empty()));
    let Incoming::Message(ToWorker::Adopt(message), mut received) = worker.poll_receive().unwrap() else {
        panic!("the second message is an Adopt");
    };
    assert_eq!((message.generation, message.descriptors.len(), received.len()), (7, 2, 2));
    let mut writer = UnixStream::from(received.pop().unwrap());
    let mut reader = UnixStream::from(received.pop().unwrap());
    writer.write_all(b"x").unwrap();
    reader.read_exact(&mut [0]).unwrap();
    assert!(matches!(worker.poll_receive().unwrap(), Incoming::Message(ToWorker::Stop, _)));
    drop(master);
    assert!(matches!(worker.poll_receive::<ToWorker>().unwrap(), Incoming::Closed));
}

#[test]
fn more_descriptors_than_the_socket_holds() {
    let (mut master, mut worker) = pair();
    let one: Arc<OwnedFd> = Arc::new(UnixStream::pair().unwrap().0.into());
    let many = vec![one; 1000];
    let wanted = many.len();
    let sender = std::thread::spawn(move || {
        master.queue(&adopt(1, wanted), &many).unwrap();
        while !master.flush().unwrap() {
            std::thread::yield_now();
        }
        master
    });
    let Incoming::Message(_, received) = worker.poll_receive::<ToWorker>().unwrap() else {
        panic!("a message was sent");
    };
    assert_eq!(received.len(), wanted);
    sender.join().unwrap();
}

#[test]
fn a_thousand_reloads_leak_no_descriptor() {
    let (mut master, mut worker) = pair();
    let listener: Arc<OwnedFd> = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap().into());
    let turn = |master: &mut Channel, worker: &mut Channel, generation| {
        let memory = Arc::new(crate::sys::descriptors::sealed_memory(c"material", b"material").unwrap());
        let descriptors = [memory, listener.clone(), listener.clone()];
        master.queue(&adopt(generation, 2), &descriptors).unwrap();
        assert!(master.flush().unwrap());
        let Incoming::Message(_, received) = worker.poll_receive::<ToWorker>().unwrap() else {
            panic!("a message was sent");
        };
        // Every second one is refused half-way, as when the build fails: what was received is dropped.
        if generation % 2 == 0 {
            let memory = received.into_iter().next().unwrap();
            let bytes = crate::sys::descriptors::read_sealed_memory(memory, 8).unwrap();
            assert_eq!(bytes.as_slice(), b"material");
        }
        let certificates = Certificates::default();
        let answer = ToMaster::Adopted { generation, report: Vec::new(), certificates, fingerprints: Vec::new() };
        worker.queue(&answer, &[]).unwrap();
        assert!(worker.flush().unwrap());
        assert!(matches!(master.poll_receive::<ToMaster>().unwrap(), Incoming::Message(..)));
    };
    turn(&mut master, &mut worker, 1);
    let before = open_descriptors();
    for generation in 2..1_002 {
        turn(&mut master, &mut worker, generation);
    }
    // Other tests of this process open and close some meanwhile; a leak here would be thousands.
    assert!(open_descriptors() < before + 500, "{} descriptors, {before} before", open_descriptors());
}

#[test]
fn a_message_in_pieces_is_nothing_until_its_last_byte() {
    let (left, right) = UnixStream::pair().unwrap();
    right.set_nonblocking(true).unwrap();
    let mut channel = Channel::new(right);
    let body = postcard::to_stdvec(&ToWorker::Stop).unwrap();
    let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&body);
    for byte in &bytes {
        assert!(matches!(channel.poll_receive::<ToWorker>().unwrap(), Incoming::Nothing));
        (&left).write_all(&[*byte]).unwrap();
    }
    assert!(matches!(channel.poll_receive().unwrap(), Incoming::Message(ToWorker::Stop, _)));
}

#[test]
fn nonsense_is_an_error_and_never_a_large_allocation() {
    for bytes in [&[0xff; 8][..], &[1, 0, 0, 0, 0, 0, 0, 0, 0xee], &[1, 0, 0, 0, 1, 0, 0, 0, 3, 0]] {
        let (left, right) = UnixStream::pair().unwrap();
        (&left).write_all(bytes).unwrap();
        let answer = Channel::new(right).poll_receive::<ToWorker>();
        assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::InvalidData, "{bytes:?}");
    }
}

#[test]
fn a_worker_sends_no_descriptor() {
    let (left, right) = UnixStream::pair().unwrap();
    let descriptor: Arc<OwnedFd> = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap().into());
    let mut worker = Channel::new(left);
    worker.queue(&ToMaster::Reload { request: 1 }, &[]).unwrap();
    worker.queue(&ToMaster::Reload { request: 2 }, &[descriptor]).unwrap();
    assert!(worker.flush().unwrap());
    let mut master = Channel::new(right).without_descriptors();
    assert!(matches!(master.poll_receive().unwrap(), Incoming::Message(ToMaster::Reload { request: 1 }, _)));
    assert_eq!(master.poll_receive::<ToMaster>().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn what_nobody_reads_is_noticed() {
    let (left, right) = UnixStream::pair().unwrap();
    left.set_nonblocking(true).unwrap();
    let mut master = Channel::new(left);
    let outcome = Outcome::refused(&"x".repeat(1 << 20));
    let message = ToWorker::Reloaded { request: 1, outcome };
    let mut sent = 0;
    while !master.is_flooded() {
        master.queue(&message, &[]).unwrap();
        master.flush().unwrap();
        sent += 1;
    }
    assert!((60..70).contains(&sent), "{sent} MiB");
    let mut worker = Channel::new(right);
    let reader =
        std::thread::spawn(move || while matches!(worker.poll_receive::<ToWorker>(), Ok(Incoming::Message(..))) {});
    while !master.flush().unwrap() {
        std::thread::yield_now();
    }
    assert_eq!((master.is_flooded(), master.outgoing_bytes), (false, 0));
    drop(master);
    reader.join().unwrap();
}

#[test]
fn of_several_beats_the_last_counts_and_a_full_socket_stops_nobody() {
    let (worker, master) = UnixDatagram::pair().unwrap();
    worker.set_nonblocking(true).unwrap();
    master.set_nonblocking(true).unwrap();
    assert_eq!(Beat::receive_last(&master), None);
    for connections in 0..3 {
        Beat { connections }.send(&worker);
    }
    assert_eq!(Beat::receive_last(&master), Some(Beat { connections: 2 }));
    for connections in 0..100_000 {
        Beat { connections }.send(&worker);
    }
    assert!(Beat::receive_last(&master).is_some());
    drop(master);
    Beat { connections: 1 }.send(&worker);
}
