//! What a world server links to be managed by Tidegate.
