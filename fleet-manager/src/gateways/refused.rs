//! Why a gateway is not admitted, with the setting to change.

use tidegate_types::GatewayId;

/// Why a gateway's stream is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A second gateway, while sessions are kept in the memory of one.
    #[error(
        "gateway {other} is live, and {embedded} keeps its session directory in its own memory: players would be in two \
         places; stop {other}, or set `directory = \"redis://…\"` to the same for both"
    )]
    SecondEmbedded {
        /// The one that wants to connect.
        this: GatewayId,
        /// The one that is there.
        other: GatewayId,
        /// Whose directory is its own: one of the two.
        embedded: GatewayId,
    },
    /// Two processes under one id.
    #[error("another gateway runs under the id {0}: give each an id of its own, or stop one of them")]
    SameId(GatewayId),
    /// Two gateways with different directories.
    #[error(
        "gateway {other} uses another session directory ({there}) than {this} ({here}): players would be in two places; \
         set `directory` to the same for both"
    )]
    OtherDirectory {
        /// The one that wants to connect.
        this: GatewayId,
        /// The one that is there.
        other: GatewayId,
        /// Directory of the one that wants to connect.
        here: String,
        /// Directory of the one that is there.
        there: String,
    },
}

impl Refused {
    /// The stable word.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::SecondEmbedded { .. } => "SECOND_EMBEDDED_GATEWAY",
            Self::SameId(_) => "GATEWAY_ID_TAKEN",
            Self::OtherDirectory { .. } => "OTHER_DIRECTORY",
        }
    }

    /// What the operator can do.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::SecondEmbedded { .. } => {
                "run one gateway, or set `directory = \"redis://…\"` in every gateway's configuration"
            }
            Self::SameId(_) => "give each gateway a `gateway_id` of its own",
            Self::OtherDirectory { .. } => "set the same `directory` in every gateway's configuration",
        }
    }
}
