//! QUIC's settings, each set by hand: quinn's defaults suit a trusted peer, not an open port.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::{CryptoError, HmacKey};
use quinn_proto::{
    AckFrequencyConfig, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::QuicServerConfig,
};
use tidegate_proto::PLAYER_ALPN;

use super::cid::GatewayCids;
use crate::Limits;

/// Bidirectional streams a client may open. One is used; the rest are for later protocol versions to grow into without
/// renegotiation, and few, because each allowed stream costs memory.
const MAX_BIDI_STREAMS: u32 = 4;
/// How much handshake data may be buffered out of order, in bytes: a client's hello fits several times.
const CRYPTO_BUFFER_BYTES: usize = 16 * 1024;
/// What is buffered for a connection that is not accepted yet, in bytes. They are accepted at once, so little arrives.
const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;

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
    config
        .transport_config(Arc::new(transport(limits)))
        .migration(true)
        .max_incoming(limits.pending_handshakes as usize)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES * u64::from(limits.pending_handshakes));
    Ok(config)
}

fn transport(limits: &Limits) -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut acks = AckFrequencyConfig::default();
    // A game's packets come at its own pace, each alone: acknowledging every tenth (or after 25 ms) instead of every
    // second saves a packet for almost each one.
    acks.ack_eliciting_threshold(VarInt::from_u32(10)).max_ack_delay(Some(Duration::from_millis(25)));
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_BIDI_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(limits.idle_ms))))
        .stream_receive_window(VarInt::from_u32(limits.stream_window_bytes))
        .receive_window(VarInt::from_u32(limits.connection_window_bytes))
        .send_window(u64::from(limits.send_window_bytes))
        .datagram_receive_buffer_size(Some(limits.datagram_buffer_bytes as usize))
        .datagram_send_buffer_size(limits.datagram_buffer_bytes as usize)
        .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
        .ack_frequency_config(Some(acks))
        // Clients keep their connections alive; a gateway that did so too would double the packets.
        .keep_alive_interval(None);
    config
}

/// The endpoint: our connection ids, and a reset key that outlives the process.
pub(crate) fn endpoint(cids: GatewayCids) -> EndpointConfig {
    let reset = ResetKey(blake3::derive_key("tidegate gateway stateless reset 1", &cids.key));
    let mut config = EndpointConfig::new(Arc::new(reset));
    config.cid_generator(move || Box::new(cids.clone()));
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
