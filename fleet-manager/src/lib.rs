//! The control plane: gRPC services, store, supervision.
