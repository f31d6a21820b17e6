use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

/// A frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

const PING: u8 = 0x89;
const BINARY: u8 = 0x82;

/// The other end's pipe takes so many bytes at a time.
fn pair(room: usize) -> (WebSocketStream<DuplexStream>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(room);
    (WebSocketStream::new(ours), theirs)
}

/// A peer that has broken the rules may send on: it is told once, and nothing else comes of it.
#[tokio::test]
async fn nothing_follows_a_fault() {
    for fault in [&[BINARY, 0xFF, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0][..], &[BINARY, 2]] {
        let (mut stream, mut peer) = pair(1024);
        peer.write_all(fault).await.expect("open");
        assert!(stream.read(&mut [0; 64]).await.is_err());
        peer.write_all(&[fault, &frame(BINARY, b"x"), &frame(PING, b"")].concat())
            .await
            .expect("open");
        stream.shutdown().await.expect("open");
        peer.shutdown().await.expect("open");
        assert_eq!(stream.read(&mut [0; 64]).await.expect("an end"), 0);
        let mut said = Vec::new();
        peer.read_to_end(&mut said).await.expect("an end");
        assert!(matches!(said[..], [0x88, 2, 3, _]), "{said:?}");
    }
}

/// Pings that come while a frame is being sent are answered behind it, the last of them in any case.
#[tokio::test]
async fn the_last_of_many_pings_is_answered() {
    let (mut stream, mut peer) = pair(64);
    let payload = [7; 100];
    let sent = stream.write(&payload).await.expect("room");
    for ping in [b"1", b"2", b"3"] {
        peer.write_all(&[frame(PING, ping), frame(BINARY, ping)].concat())
            .await
            .expect("room");
        stream.read_exact(&mut [0]).await.expect("a byte");
    }
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).await.map(|_| all)
    });
    stream.write_all(&payload[sent..]).await.expect("open");
    stream.flush().await.expect("open");
    drop(stream);
    let all = reading.await.expect("no panic").expect("an end");
    assert_eq!(all[..2], [BINARY, 100]);
    assert!(all.ends_with(&[0x8A, 1, b'3']), "{:02x?}", &all[102..]);
}

/// The client's end takes frames without masks, and sends all of its own with one.
#[cfg(feature = "cli")]
#[tokio::test]
async fn the_client_masks_its_frames() {
    let (ours, mut peer) = tokio::io::duplex(1024);
    let mut stream = WebSocketStream::of_client(ours);
    peer.write_all(&[PING, 1, b'p', BINARY, 2, b'h', b'i'])
        .await
        .expect("room");
    let mut read = [0; 2];
    stream.read_exact(&mut read).await.expect("two bytes");
    assert_eq!(&read, b"hi");
    stream.write_all(b"x").await.expect("room");
    stream.shutdown().await.expect("open");
    drop(stream);
    let mut said = Vec::new();
    peer.read_to_end(&mut said).await.expect("an end");
    let close = [0x88, 0x82, 0, 0, 0, 0, 3, 232];
    assert_eq!(said, [&frame(0x8A, b"p")[..], &frame(BINARY, b"x"), &close].concat());
}
