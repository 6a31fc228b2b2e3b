//! WebSockets (RFC 6455) whose messages are bounded.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// Messages larger than this end the connection.
const LARGEST: usize = 1 << 20;

/// The server's end on an upgraded connection.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(connection: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await
}
