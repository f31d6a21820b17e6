use std::task::Waker;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

/// A client's Ping, with a mask that changes nothing.
fn ping(payload: &[u8; 1]) -> [u8; 7] {
    [0x89, 0x81, 0, 0, 0, 0, payload[0]]
}

/// Pings that come within a frame of ours are answered behind it, with the last of them (RFC 6455, section 5.5.3).
#[tokio::test]
async fn the_last_ping_is_answered_behind_the_frame() {
    let (mut peer, io) = duplex(16);
    let mut stream = WebSocketStream::new(io);
    let cx = &mut Context::from_waker(Waker::noop());
    let payload = [7; 40];
    let sent = match Pin::new(&mut stream).poll_write(cx, &payload) {
        Poll::Ready(Ok(sent)) => sent,
        other => panic!("{other:?}"),
    };
    for name in [b"A", b"B"] {
        peer.write_all(&ping(name)).await.expect("room");
        let mut bytes = [0; 16];
        assert!(
            Pin::new(&mut stream)
                .poll_read(cx, &mut ReadBuf::new(&mut bytes))
                .is_pending()
        );
    }
    let writing = async {
        stream.write_all(&payload[sent..]).await.expect("open");
        stream.flush().await.expect("open");
        stream.shutdown().await.expect("open");
    };
    let mut got = Vec::new();
    let (read, ()) = tokio::join!(peer.read_to_end(&mut got), writing);
    read.expect("open");
    let close = frame::close(frame::NORMAL);
    assert_eq!(got[..2], [0x82, 40]);
    assert_eq!(got[42..], [&[0x8A, 1, b'B'], &close[..]].concat());
}
