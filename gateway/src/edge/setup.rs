//! QUIC's settings, each set by hand: quinn's defaults suit a trusted peer, not an open port.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::{CryptoError, HmacKey};
use quinn_proto::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, NoneTokenLog, ServerConfig, TransportConfig,
    ValidationTokenConfig, VarInt, crypto::rustls::QuicServerConfig,
};
use tidegate_proto::PLAYER_ALPN;

use super::cid::GatewayCids;
use super::memory::LEAST_SEND_WINDOW;
use crate::Limits;

/// Bidirectional streams a client may open. One is used; the rest are for later protocol versions to grow into without
/// renegotiation, and few, because each allowed stream costs memory.
const MAX_BIDI_STREAMS: u32 = 4;
/// How much handshake data may be buffered out of order, in bytes: a client's hello fits several times.
const CRYPTO_BUFFER_BYTES: usize = 16 * 1024;
/// What is buffered for a connection that is not judged yet, in bytes. Each is judged right after the receive call that
/// brought its first packet, so that only what came in the same call is ever buffered.
const INCOMING_BUFFER_BYTES: u64 = 4 * 1024;
/// What is buffered for all of those together, in bytes. quinn's default is 100 MiB.
const INCOMING_BUFFER_BYTES_TOTAL: u64 = 1024 * 1024;
/// Connections that are not judged yet: more than one receive call can bring. quinn's default is 65,536.
const MAX_INCOMING: usize = 4_096;
/// How long the answer to a Retry is good for. Whoever gets no answer while everybody is over the rate asks again with it
/// after 1, 3 and 7 seconds.
const RETRY_LIFETIME: Duration = Duration::from_secs(15);
/// Between two stateless resets, so that garbage cannot make us babble. Also the delay for a client of our predecessor.
const RESET_INTERVAL: Duration = Duration::from_millis(20);
/// The largest UDP payload we take, in bytes: an Ethernet frame's. It bounds what one packet can hold.
const MAX_UDP_PAYLOAD: u16 = 1_472;
/// What every IPv6 path carries, in bytes: packets begin with this size, and return to it when larger ones disappear.
const LEAST_MTU: u16 = 1_200;
/// After packets of a found size disappeared (a black hole), how long the size is not searched again.
const BLACK_HOLE_COOLDOWN: Duration = Duration::from_secs(60);

/// TLS for players: the gateway's certificate, TLS 1.3 only, our ALPN only, no 0-RTT (a replayed `Hello` must not be
/// possible), no resumption (it saves no measurable CPU and would need a ticket store).
pub(crate) fn tls(pki_dir: &Path) -> anyhow::Result<rustls::ServerConfig> {
    let chain = tidegate_link::pki::load_certs(&pki_dir.join("gateway.pem"))?;
    let key = tidegate_link::pki::load_key(&pki_dir.join("gateway.key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![PLAYER_ALPN.to_vec()];
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The server's side of every player connection.
pub(crate) fn server(tls: rustls::ServerConfig, limits: &Limits) -> anyhow::Result<ServerConfig> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    // No tokens for later connections: they would let an address that has changed hands pass for proven, and remembering
    // which were used takes memory. A Retry costs one round trip, and only under pressure.
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0).log(Arc::new(NoneTokenLog));
    config
        .transport_config(Arc::new(transport(limits)))
        .validation_token_config(tokens)
        .retry_token_lifetime(RETRY_LIFETIME)
        // A phone changes networks. The new address is proven before it is sent more than three times what came from it.
        .migration(true)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES_TOTAL);
    Ok(config)
}

fn transport(limits: &Limits) -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.black_hole_cooldown(BLACK_HOLE_COOLDOWN);
    let mut acks = AckFrequencyConfig::default();
    // A game's packets come at its own pace, each alone: acknowledging every tenth (or after 25 ms) instead of every
    // second saves a packet for almost each one.
    acks.ack_eliciting_threshold(VarInt::from_u32(10)).max_ack_delay(Some(Duration::from_millis(25)));
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_BIDI_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(limits.idle_ms))))
        .stream_receive_window(VarInt::from_u32(limits.stream_window_bytes))
        // Of the connection, until the session is in play; the smaller of both windows holds.
        .receive_window(VarInt::from_u32(limits.login_window_bytes))
        .send_window(LEAST_SEND_WINDOW.into())
        .datagram_receive_buffer_size(Some(limits.datagram_buffer_bytes as usize))
        .datagram_send_buffer_size(limits.datagram_buffer_bytes as usize)
        .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
        .ack_frequency_config(Some(acks))
        .initial_mtu(LEAST_MTU)
        .min_mtu(LEAST_MTU)
        .mtu_discovery_config(Some(mtu))
        // It tells anybody on the path how far away the player is.
        .allow_spin(false)
        // Clients keep their connections alive; a gateway that did so too would double the packets.
        .keep_alive_interval(None);
    config
}

/// The endpoint: our connection ids, and a reset key that outlives the process.
pub(super) fn endpoint(cids: GatewayCids) -> EndpointConfig {
    let reset = ResetKey(blake3::derive_key("tidegate gateway stateless reset 1", &cids.key));
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(cids.clone()));
    config.min_reset_interval(RESET_INTERVAL);
    config.max_udp_payload_size(MAX_UDP_PAYLOAD).expect("more than 1,200");
    config
}

/// Keyed BLAKE3 as the MAC of stateless reset tokens.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&blake3::keyed_hash(&self.0, data).as_bytes()[..signature_out.len()]);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let signature: [u8; blake3::OUT_LEN] = signature.try_into().map_err(|_| CryptoError)?;
        // blake3's Hash compares in constant time.
        if blake3::keyed_hash(&self.0, data) == blake3::Hash::from(signature) { Ok(()) } else { Err(CryptoError) }
    }
}
