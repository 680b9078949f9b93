//! What a game client links to play through Tidegate.
